"""A text cut into a model's tokens, as an element of its own. What they say is never markup.

Streamlit's Markdown folds white space and cannot mark a token without drawing what it holds. Here each token becomes a
text node, so nothing in a row can become an element. What is learned is underlined and what is cut is struck out, so
that neither rests on colour alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

import streamlit as st

from core.dataset import Token
from pages.parts.kit import words

_DRAW = """
export default function ({ data, parentElement }) {
  let box = parentElement.querySelector(".tokens");
  if (!box) {
    box = document.createElement("div");
    box.className = "tokens";
    parentElement.appendChild(box);
  }
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", data.alt);
  box.replaceChildren(...data.runs.map((run) => {
    const part = document.createElement({ learned: "ins", cut: "del" }[run.kind] || "span");
    part.replaceChildren(...run.tokens.map(([id, text]) => {
      const token = document.createElement("span");
      token.className = text.includes("\\n") ? "token line" : "token";
      token.title = "token " + id;
      token.textContent = text;
      return token;
    }));
    return part;
  }));
}
"""
_STYLE = """
.tokens { white-space: pre-wrap; overflow-wrap: anywhere; font-family: var(--st-code-font); font-size: 0.875rem;
  line-height: 1.7; color: var(--st-text-color); unicode-bidi: isolate; }
.token { box-shadow: inset 1px 0 0 var(--st-border-color); }
.token.line::before { content: "\\21B5"; opacity: 0.7; }
ins { background: var(--st-green-background-color); text-decoration: underline 2px var(--st-green-text-color);
  text-underline-offset: 3px; }
del { text-decoration: line-through; }
"""
_element = st.components.v2.component("tunedeck.tokens", js=_DRAW, css=_STYLE)


def draw_tokens(tokens: Iterable[Token], *, key: str, alt: str) -> None:
    """Draw tokens in reading order. alt: what they are, for those who do not see them."""
    runs = [
        {"kind": kind, "tokens": [(token.id, words.visible(token.text)) for token in run if token.text]}
        for kind, run in groupby(tokens, _kind)
    ]
    _element(key=key, data={"alt": alt, "runs": runs})


def _kind(token: Token) -> str:
    return "cut" if token.cut else "learned" if token.learned else "given"

"""A button that puts a text into the clipboard; Streamlit 1.67 has one on code only. The text itself is not drawn."""

from __future__ import annotations

import streamlit as st

_STYLE = """
button {
  font: inherit; font-size: 0.875rem; color: inherit; background: transparent; cursor: pointer; min-height: 2.5rem;
  padding: 0.25rem 0.5rem; border: none; border-radius: var(--st-button-radius, 0.375rem);
}
button:hover { color: var(--st-link-color); }
button:focus-visible { outline: 2px solid var(--st-primary-color); }
"""
_COPY = """
export default function ({ data, parentElement }) {
  let button = parentElement.querySelector("button");
  if (!button) {
    button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-live", "polite");
    button.textContent = "Copy";
    parentElement.appendChild(button);
  }
  button.onclick = async () => {
    try { await navigator.clipboard.writeText(data.text); button.textContent = "Copied"; }
    catch { button.textContent = "The browser refused"; }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  };
}
"""
_copy = st.components.v2.component("tunedeck.copy", css=_STYLE, js=_COPY)


def draw_copy(text: str, *, key: str) -> None:
    """Draw the button for this text."""
    _copy(key=key, data={"text": text}, width="content")

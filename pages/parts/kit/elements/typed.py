"""Keeps in the browser what was typed into the chat's field and not sent: Streamlit forgets it with the page."""

from __future__ import annotations

import streamlit as st

_KEEP = """
const FIELD = '[data-testid="stChatInputTextArea"]';
const write = Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, "value").set;

export default function ({ data }) {
  const kept = JSON.parse(sessionStorage.getItem(data.key) || "{}");
  const field = document.querySelector(FIELD);
  if (field && !field.value && kept.text && kept.sent === data.sent) {
    write.call(field, kept.text);
    field.dispatchEvent(new Event("input", { bubbles: true }));
  }
  const keep = (event) => {
    if (event.target.matches(FIELD)) {
      sessionStorage.setItem(data.key, JSON.stringify({ text: event.target.value, sent: data.sent }));
    }
  };
  document.addEventListener("input", keep);
  return () => document.removeEventListener("input", keep);
}
"""
_element = st.components.v2.component("tunedeck.typed", js=_KEEP)


def keep_typed(of: str, sent: int) -> None:
    """Have the chat's field keep its text for `of`, in this tab, until something was sent. Drawn after the field.

    sent: how many messages were sent by now.
    """
    _element(key="typed", data={"key": f"tunedeck.typed.{of}", "sent": sent}, width="content")

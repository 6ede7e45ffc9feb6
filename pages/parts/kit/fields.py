"""Fields of which code sets nothing: a value is an argument, and a report is taken only where a person changed it.

A browser reports what every field holds with each request, at first what it was drawn with. A value that code writes
into the session's state may not have reached it by then, and the field's own first value comes back as if it had been
typed. Where the address keeps a field (`bind`), code has no other way: `put` and `keep_put` are for those.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from core.errors import Conflict
from pages.parts.kit.action import on_change
from pages.parts.kit.state import ui

_ON_ITS_WAY_S = 3.0  # a report of the browser, over a slow network


def put(values: Mapping[str, Any]) -> None:
    """Give fields that the address keeps, by their keys, other values; at a click, before they are drawn."""
    now = time.monotonic()
    for key, value in values.items():
        ui().view.setdefault("put", {})[key] = (st.session_state.get(key), value, now)
        st.session_state[key] = value


def keep_put() -> None:
    """Put a value again where the one before it comes back, reported too early; call it before fields are drawn."""
    for key, (before, value, at) in ui().view.get("put", {}).items():
        if time.monotonic() - at < _ON_ITS_WAY_S and before != value and st.session_state.get(key) == before:
            st.session_state[key] = value


@dataclass(frozen=True)
class Field:
    """A field as it was drawn last. value: what it holds; among: what it chooses from; key: of this one widget."""

    name: str
    value: Any
    among: tuple[Any, ...]
    key: str

    @property
    def index(self) -> int | None:
        """Where the value stands among the options."""
        return self.among.index(self.value) if self.value in self.among else None


def place(name: str, value: Any, among: Sequence[Any] = ()) -> Field:
    """Return the field of this name that holds `value`, to be drawn with it.

    It stays the same widget, with its focus and what is being typed, until the value is another than what a person left
    in it, or the options are others. Then it is a new one, and what the old one still reports is dropped.
    """
    known = ui().fields.get(name)
    if known is None or (known.value, known.among) != (value, tuple(among)):
        known = Field(name, value, tuple(among), f"{name}-{secrets.token_hex(4)}")
        ui().fields[name] = known
    return known


def follow(field: Field, label: str, fn: Callable[..., Any], *args: Any) -> dict[str, Any]:
    """Return the options by which a field hands what a person puts into it to `fn(value, *args)`.

    `draw_error_of(field.name)` shows its error; the field is then drawn anew, with what is so.
    """
    return {"key": field.key, **on_change(field.name, _take, field, label, fn, args)}


def _take(field: Field, label: str, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
    value, known = st.session_state[field.key], ui().fields.get(field.name)
    if known is not None and known.key == field.key:
        field = known
    if value == field.value:
        return  # the browser says what it was shown
    if field.among and value not in field.among:
        ui().fields.pop(field.name, None)  # by an option's old label: Streamlit 1.67 knows it by nothing else
        return
    if known is not field:
        raise Conflict(
            f"{label} had been changed elsewhere, so '{value}' was not saved.",
            "Look at what it is now, and change it again if you still want to.",
        )
    del ui().fields[field.name]  # drawn anew should `fn` refuse
    fn(value, *args)
    ui().fields[field.name] = replace(field, value=value)

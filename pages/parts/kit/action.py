"""Buttons and fields whose failures become notices."""

from __future__ import annotations

import mimetypes
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import streamlit as st

from core.errors import BadInput
from pages.parts.kit import words
from pages.parts.kit.guard import Then, caught, run_callback
from pages.parts.kit.links import Link
from pages.parts.kit.notices import draw_error
from pages.parts.kit.state import ui


@dataclass(frozen=True)
class Confirm:
    """A question asked before an action: what it does, what is kept, and the way back first (Enter never acts)."""

    title: str
    yes: str
    keep: str
    lines: tuple[str, ...] = ()
    type_name: str = ""
    """A name to type; what was typed is the action's last argument, and the action's to check."""
    icon: str = "help"
    ticks: tuple[str, ...] = field(default=())


def action(
    label: str,
    fn: Callable[..., Any],
    *args: Any,
    key: str,
    type: str = "secondary",
    icon: str = "",
    off: str = "",
    then: Then = None,
    confirm: Confirm | None = None,
    width: str = "content",
    help: str | None = None,
    in_form: bool = False,
    shortcut: str | None = None,
) -> None:
    """Draw a button that calls `fn(*args)`; an error of it is drawn beneath the button and kept until the next click.

    off: why the button cannot be used now, drawn beneath it. then: where to go when it succeeded, or a function of the
    answer that says where; an answer that is a link needs none. confirm: ask first.
    """
    options: dict[str, Any] = {
        "type": type,
        "icon": f":material/{icon}:" if icon else None,
        "icon_position": "right" if icon == "arrow_forward" else "left",
        "disabled": bool(off),
        "width": width,
        "help": help,
        "key": key,
    }
    if confirm is not None:
        st.button(label, on_click=_ask, args=(key,), **options)
    elif in_form:
        st.form_submit_button(label, on_click=run_callback, args=(key, fn, args, then), **options)
    else:
        st.button(label, on_click=run_callback, args=(key, fn, args, then), shortcut=shortcut, **options)
    if off:
        st.caption(words.plain(off))
    if confirm is not None and ui().open_dialog == key:
        ui().draw_dialog = partial(_draw_dialog, key, confirm, fn, args, then)
    else:
        draw_error_of(key)


def draw_download(
    label: str, content: Any, file_name: str, *, key: str, icon: str = "download", **options: Any
) -> None:
    """Draw a button that gives a file. content: it, or what makes it at the click; options: of Streamlit's button."""
    mime = mimetypes.guess_type(file_name)[0]
    options |= {"mime": mime, "on_click": "ignore", "icon": f":material/{icon}:", "key": key}
    st.download_button(label, content, file_name, **options)


def link_button(label: str, target: Link, *, key: str, icon: str, type: str = "secondary") -> None:
    """Draw a link as a button: what leads on as the page's main action."""
    action(label, lambda: target, key=key, type=type, icon=icon)


def on_change(key: str, fn: Callable[..., Any], *args: Any) -> dict[str, Any]:
    """Return the options by which a field calls `fn(*args)` when it changes; `draw_error_of(key)` shows its error."""
    return {"on_change": run_callback, "args": (key, fn, args, None)}


def draw_error_of(key: str) -> None:
    """Draw the error that an action left."""
    if error := ui().errors.get(key):
        ui().errors_drawn.add(key)
        draw_error(error, key=key)


def close_dialog() -> None:
    """Close what is open; the next run of the page draws it no more."""
    ui().open_dialog = None


def open_dialog(key: str) -> None:
    """Open the dialog of this name in the next run of the page."""
    ui().open_dialog = key


def draw_open_dialog() -> None:
    """Draw the question or the panel that the page opened. The frame does, behind the page: a part that is drawn anew
    may no longer have the button that asks.
    """
    here = ui()
    if here.open_dialog and here.draw_dialog:
        here.dialog_drawn = True
        here.draw_dialog()


def drawer(key: str, title: str, draw: Callable[[], None], *, icon: str = "", wide: bool = False) -> None:
    """Have a panel drawn at the side while `open_dialog(key)` holds."""
    if ui().open_dialog == key:
        ui().draw_dialog = partial(_draw_drawer, key, title, draw, icon, wide)


def _draw_drawer(key: str, title: str, draw: Callable[[], None], icon: str, wide: bool) -> None:
    @st.dialog(
        title,
        width="medium" if wide else "small",
        position="right",
        icon=f":material/{icon}:" if icon else None,
        on_dismiss=close_dialog,
    )
    def panel() -> None:
        if ui().open_dialog != key:
            st.rerun()
        ui().in_dialog = True
        try:
            with caught(draw_error):
                draw()
        finally:
            ui().in_dialog = False

    panel()


def _ask(key: str) -> None:
    ui().errors.pop(key, None)
    ui().open_dialog = key


def _draw_dialog(key: str, confirm: Confirm, fn: Callable[..., Any], args: tuple[Any, ...], then: Then) -> None:
    typed_key = f"{key}-typed"

    def checked(*given: Any) -> Any:
        if not all(st.session_state.get(f"{key}-tick-{tick}") for tick in confirm.ticks):
            raise BadInput("A warning is not ticked. Nothing was changed.", "Tick each line you accept.")
        return fn(*given, str(st.session_state.get(typed_key, ""))) if confirm.type_name else fn(*given)

    @st.dialog(confirm.title, icon=f":material/{confirm.icon}:", on_dismiss=close_dialog)
    def ask() -> None:
        if ui().open_dialog != key:
            st.rerun()
        for line in filter(None, confirm.lines):
            st.text(line)
        with st.form(f"{key}-form", border=False):
            for tick in confirm.ticks:  # by its words: another warning in its place is not ticked
                label = words.plain(tick)
                st.checkbox(label, key=f"{key}-tick-{tick}")
            if confirm.type_name:
                st.text_input(f"Type {words.plain(confirm.type_name)} to confirm", key=typed_key, autocomplete="off")
            with st.container(horizontal=True, horizontal_alignment="right"):
                st.form_submit_button(confirm.keep, on_click=close_dialog, key=f"{key}-keep")
                st.form_submit_button(
                    confirm.yes,
                    on_click=run_callback,
                    args=(key, checked, args, then),
                    type="primary",
                    icon=f":material/{confirm.icon}:",
                    key=f"{key}-yes",
                )
        draw_error_of(key)

    ask()

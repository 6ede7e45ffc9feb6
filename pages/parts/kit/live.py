"""The part of a page that draws itself again. The only place that uses `st.fragment`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st
from streamlit.delta_generator_singletons import context_dg_stack, get_default_dg_stack_value
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.scriptrunner_utils.script_run_context import ThreadState

from core.errors import TunedeckError
from pages.parts.kit.guard import caught, end_page
from pages.parts.kit.notices import draw_error
from pages.parts.kit.state import holds_still, ui

REST = object()
"""What `draw` of `live` returns where nothing more will come: the part is not drawn again by itself, the page not."""
_UNSET = object()


def begin_whole_run() -> None:
    """Have what follows drawn into the page itself.

    Streamlit 1.67 begins a whole run where the fragment before it on the same thread ended: a click that came just as
    the strip at the bottom was drawn had the whole page drawn into the strip, a second time.
    """
    context_dg_stack.set(get_default_dg_stack_value())


def live(
    draw: Callable[..., object],
    *,
    key: str,
    run_every: float | None = 2.0,
    read: Callable[[], Any] | None = None,
    token: object = _UNSET,
    in_dialog: bool = False,
) -> None:
    """Draw a part of the page now and again every `run_every` seconds (None: only when a widget inside is used).

    An error is drawn in place. With `read`, its answer is handed to `draw`, and the last good answer is drawn under the
    error when `read` fails. What `draw` returns is a token: when it differs from `token`, or from the first one of the
    page's last full run (a run ended, say), the whole page is drawn again; while a dialog is open that waits, unless
    it is what the dialog waits for (`in_dialog`).
    """
    ui().tokens.pop(key, None)
    if token is not _UNSET:
        ui().tokens[key] = token

    @st.fragment(run_every=run_every)
    def part() -> None:
        here = ui()
        was_live, here.in_live = here.in_live, True
        tokens: list[object] = []
        try:
            with caught(draw_error):
                tokens.append(draw(*_view(key, read)))
        finally:
            here.in_live = was_live
        if REST in tokens:
            _end_timer()
            return
        if here.open_dialog and here.draw_dialog and not (here.dialog_drawn or here.in_whole_run):
            st.rerun()  # it was opened in this part, and the frame draws it
        if tokens and here.tokens.setdefault(key, tokens[0]) != tokens[0] and (in_dialog or not holds_still()):
            here.tokens[key] = tokens[0]
            st.rerun()

    part()


def _end_timer() -> None:
    """Have the browser not ask again for the part that is drawn, which costs a whole run of the page otherwise.

    Streamlit 1.67 says so by itself only of a part inside another one that was drawn without it.
    """
    if context := get_script_run_ctx():
        message = ForwardMsg()
        message.stop_auto_rerun.fragment_ids.append(ThreadState.get().fragment_id or "")
        context.enqueue(message)


def _view(key: str, read: Callable[[], Any] | None) -> tuple[Any, ...]:
    """Return what `draw` is called with; the last good answer, under the error, where `read` fails."""
    if read is None:
        return ()
    failures: list[TunedeckError] = []
    with caught(failures.append):
        ui().last_views[key] = read()
    if failures:
        draw_error(failures[0], key=f"live-{key}")
    if key not in ui().last_views:
        end_page()
    return (ui().last_views[key],)

"""Steps one below the other, each with its state as word and icon."""

from __future__ import annotations

from collections.abc import Iterable

import streamlit as st

from core.operations import Operation
from core.words import duration
from pages.parts.kit import words

_ICONS = {
    "ok": ":material/check_circle:",
    "done": ":material/check_circle:",
    "running": ":material/autorenew:",  # still: a spinner beside a trainer takes a tenth of a core from it
    "failed": ":material/error:",
    "warning": ":material/warning:",
    "skipped": ":material/do_not_disturb_on:",
    "waiting": ":material/radio_button_unchecked:",
}
_WORDS = {"failed": "failed", "skipped": "skipped", "waiting": "waiting", "running": "running", "warning": "warning"}


def draw_steps(steps: Iterable[tuple[str, str, str, float | None]], *, key: str) -> None:
    """Draw (title, state, detail, seconds) steps; a detail is shown inside its step, open where it failed."""
    with st.container(gap=None, key=f"steps-{key}"):
        for number, (title, state, detail, seconds) in enumerate(steps):
            after = duration(seconds) if seconds is not None else _WORDS.get(state, "")
            if state in ("failed", "warning", "skipped") and seconds is not None:
                after = f"{_WORDS[state]} after {after}"
            label = words.plain(title) + (f" · {after}" if after else "")
            with st.expander(
                label,
                expanded=state in ("failed", "running", "warning"),
                type="step",
                icon=_ICONS[state],
                key=f"step-{key}-{number}-{state}",
            ):
                if detail:
                    st.text(detail)


def draw_operation(operation: Operation, *, key: str) -> None:
    """Draw how far an operation is, and why it failed."""
    draw_steps(((step.title, step.state, step.detail, step.seconds) for step in operation.steps), key=key)
    if operation.note:
        st.caption(words.plain(operation.note))

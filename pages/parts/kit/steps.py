"""How far a run or an operation is: a state as its badge, steps one below the other, the error that ended them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import streamlit as st

from core.errors import TunedeckError
from core.operations import Operation
from core.runs.states import QUEUED, JobState, Stage
from core.words import duration
from pages.parts.kit import words
from pages.parts.kit.notices import draw_error

_ICONS = {
    "ok": ":material/check_circle:",
    "done": ":material/check_circle:",
    "running": ":material/autorenew:",  # still: a spinner beside a trainer takes a tenth of a core from it
    "failed": ":material/error:",
    "warning": ":material/warning:",
    "skipped": ":material/do_not_disturb_on:",
    "waiting": ":material/radio_button_unchecked:",
}
# By the word of a job's state: icon and colour.
BADGES = {
    "Queued": ("schedule", "gray"),
    "Preparing": ("hourglass_top", "gray"),
    "Running": ("autorenew", "blue"),
    "Finalising": ("pending", "blue"),
    "Completed": ("check_circle", "green"),
    "Failed": ("error", "red"),
    "Cancelling": ("do_not_disturb_on", "gray"),
    "Cancelled": ("do_not_disturb_on", "gray"),
    "Unknown": ("help", "orange"),
}
_STEP_STATES = {
    "Completed": "done",
    "Failed": "failed",
    "Cancelled": "skipped",
    "Skipped": "skipped",
    "Waiting": "waiting",
    "Preparing": "waiting",
    "Queued": "waiting",
}


def draw_steps(steps: Iterable[tuple[str, str, str, float | None]], *, key: str) -> None:
    """Draw (title, state, detail, seconds) steps; a detail is shown inside its step, open where it failed."""
    with st.container(gap=None, key=f"steps-{key}"):
        for number, (title, state, detail, seconds) in enumerate(steps):
            after = "" if state in ("ok", "done") else state
            if seconds is not None:
                after = (f"{after} after " if state in ("failed", "warning", "skipped") else "") + duration(seconds)
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


def draw_badge(state: JobState) -> None:
    """Draw a job's state as its word, icon and colour."""
    icon, colour = BADGES[state.word]
    st.badge(state.word, icon=f":material/{icon}:", color=colour)  # type: ignore[arg-type]


def draw_stages(stages: Sequence[Stage], *, key: str, say: Callable[[Stage], str]) -> None:
    """Draw the stages of a run. say: a line inside a stage, such as "Step 62 of 100"."""
    rows = []
    for stage in stages:
        state = "running" if stage.name == QUEUED and stage.running else _STEP_STATES.get(stage.state_word, "running")
        lines = [say(stage), stage.error.cause if stage.error else "", stage.missed, stage.note]
        if stage.state and state in ("waiting", "skipped"):
            lines.insert(0, f"{stage.state_word}.")
        if stage.started:
            began = words.clock(stage.started)
            lines.append(f"{began} to {words.clock(stage.ended)}" if stage.ended else f"since {began}")
        rows.append((stage.title, state, "\n".join(filter(None, lines)), stage.seconds))
    draw_steps(rows, key=key)


def draw_operation(operation: Operation, *, key: str, only: Sequence[str] = ()) -> None:
    """Draw the steps of an operation (`only` those named), and the error that ended it."""
    shown = [step for step in operation.steps if not only or step.name in only]
    draw_steps(((step.title, step.state, step.detail, step.seconds) for step in shown), key=key)
    if operation.note and not operation.finished:
        st.caption(words.plain(operation.note))
    draw_operation_error(operation, key=key)


def draw_operation_error(operation: Operation, *, key: str) -> None:
    """Draw the error that ended an operation, where one did."""
    if operation.error:
        failure = operation.error
        draw_error(TunedeckError(failure.message, failure.hint, failure.detail), key=f"{key}-error")

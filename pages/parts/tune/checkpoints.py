"""How a run ends and goes on: cancel, stop and keep the best, resume, more epochs, and its checkpoints.

All but the cancel is for this machine alone: Azure's component neither stops at a wish nor tells of its checkpoints.
"""

from __future__ import annotations

import streamlit as st

from core import operations, overview
from core.azureml import tags
from core.azureml.settings import LOCAL
from core.operations import Operation
from core.runs.checkpoints import find_best
from core.runs.states import JobState, Run
from core.words import plural, size
from pages.parts.kit import reads, words
from pages.parts.kit.action import Confirm, action, link_button
from pages.parts.kit.links import link
from pages.parts.kit.state import ui

CHECKPOINTS = "Checkpoints"


def list_views(views: tuple[str, ...]) -> tuple[str, ...]:
    """Return what can be shown below a run's chart, with its checkpoints where they are known."""
    return (*views, CHECKPOINTS) if ui().alias == LOCAL else views


def is_stoppable(run: Run) -> bool:
    """Tell whether a run can be asked to stop and keep the best."""
    return run.trains and run.state is JobState.RUNNING and ui().alias == LOCAL


def draw_ends(run: Run) -> None:
    """Draw how a run that has not ended can be ended."""
    if is_stoppable(run):
        _draw_keep_best(run)
    asked = operations.find_operation_for(ui().alias or "", run.name, "cancel")
    if run.state is JobState.CANCEL_REQUESTED or (asked and asked.state != "failed"):
        asked_at = words.clock(asked.created_at) if asked else ""
        st.text(f"Cancel asked {asked_at}, not yet confirmed".replace("  ", " "), width="content")
        return
    stays = ", and checkpoints to go on from" if ui().alias == LOCAL else ""
    question = Confirm(
        title=f"Cancel {words.plain(run.title)}?",
        yes="Cancel run",
        keep="Keep running",
        lines=(f"{_say_step(run)}Logged metrics stay{stays}; the run leaves no model.",),
        icon="stop_circle",
    )
    action(
        "Cancel run", operations.start_cancel, ui().alias, run.name, key="cancel", icon="stop_circle", confirm=question
    )


def _draw_keep_best(run: Run) -> None:
    asked = operations.find_operation_for(LOCAL, run.name, "keep-best")
    if asked and asked.state != "failed":
        st.text(f"Stop asked {words.clock(asked.created_at)}: it ends after its step", width="content")
        return
    best = find_best(run.checkpoints)
    so_far = f", so far {best.name} ({words.format_loss(best.eval_loss)})" if best else ""
    lines = (
        f"{_say_step(run)}It ends after the step it takes, and is evaluated once more where it evaluates at all.",
        f"The checkpoint with the lowest eval loss{so_far} becomes its model; without one, the last weights do.",
    )
    question = Confirm(
        title=f"Stop {words.plain(run.title)} and keep the best?",
        yes="Stop and keep the best",
        keep="Keep running",
        lines=lines,
        icon="flag",
    )
    action(question.yes, operations.start_keep_best, LOCAL, run.name, key="keep-best", icon="flag", confirm=question)


def _say_step(run: Run) -> str:
    return (
        f"Step {run.progress.step} of {run.progress.total_steps}. " if run.progress and run.progress.total_steps else ""
    )


def draw_ways_on(run: Run) -> None:
    """Draw how a run that ended goes on: to the end that it was to have, or for more epochs."""
    if ui().alias != LOCAL or not (run.finished and run.stages):
        return
    last = operations.find_last(run)
    off = "" if last else operations.explain_no_continuation(run)
    if not run.completed or run.stopped:
        name = f"Resume from {last.name}" if last else "Resume"
        action(name, _go_on, run, key="resume", icon="resume", off=off, then=lambda new: link("runs", run=new.subject))
    if run.completed and not off:
        with st.popover("More epochs…", icon=":material/more_time:", key="more"):
            key = f"more-{run.name}"
            st.number_input("More epochs", 1, 100, 1, key=key)
            st.caption(f"A new run goes on from {last.name if last else ''} with the same settings and data.")
            action(
                "Train on",
                _go_on,
                run,
                key,
                key="train-on",
                type="primary",
                icon="resume",
                then=lambda new: link("runs", run=new.subject),
            )
    elif run.completed and not run.stopped:
        action("More epochs…", _go_on, run, key="more", icon="more_time", off=off)


def _go_on(run: Run, key: str = "") -> Operation:
    return operations.start_continuation(LOCAL, run, int(st.session_state[key]) if key else 0)


def draw_origin(run: Run) -> None:
    """Draw how a training ended before its time, and which run this one goes on from."""
    if run.stopped and run.completed:
        st.text(run.stopped)
    name, _, checkpoint = run.tags.get(tags.CONTINUES, "").partition("/")
    if checkpoint:
        earlier = next(
            (one for one in reads.read(overview.read_runs, max_age_s=5.0).value or () if one.name == name), None
        )
        with st.container(horizontal=True, gap="medium"):
            title = words.plain(earlier.title if earlier else name)
            link("runs", run=name).draw(
                f"Continues {title} from {checkpoint}: its chart has the steps before", icon="resume"
            )
            link("compare", runs=f"{name},{run.name}").draw("Compare the two", icon="compare_arrows")


def draw_checkpoints(run: Run) -> None:
    """Draw the checkpoints that a run has now."""
    kept, best, last = run.checkpoints, find_best(run.checkpoints), run.checkpoints[-1:]
    if not kept:
        why = "No checkpoint yet: one is written at each evaluation."
        st.text(operations.explain_no_continuation(run) if run.finished else why)
        return
    rows = [
        {
            "Checkpoint": each.name,
            "Is": ", ".join(word for word, one in (("best", [best]), ("last", last)) if each in one),
            "Step": each.step,
            "Epoch": each.epoch,
            "Train loss": each.loss,
            "Eval loss": each.eval_loss,
            "Size": size(each.size_bytes),
        }
        for each in reversed(kept)
    ]
    loss = st.column_config.NumberColumn(format="%.3f")
    st.dataframe(
        rows,
        hide_index=True,
        width="content",
        column_config={
            "Epoch": st.column_config.NumberColumn(format="%.2f"),
            "Train loss": loss,
            "Eval loss": loss,
            "Is": st.column_config.TextColumn(width=90),
        },
        alt=f"{plural(len(kept), 'checkpoint')} with step and losses, the newest first",
    )
    total = size(sum(each.size_bytes for each in kept))
    limit = int(run.parameters.get("save_total_limit") or -1)
    few = f" Checkpoints kept is {limit}: earlier ones are deleted, but never the best." if limit > 0 else ""
    st.caption(
        f"{total} on the disk of this machine. The last also holds what it takes to go on, while that is kept.{few}"
    )


def draw_deploy_one(run: Run) -> None:
    """Draw the way to deploy one of the checkpoints of a run that has ended."""
    names = [each.name for each in reversed(run.checkpoints)]
    if not names or not run.finished:
        return
    best = find_best(run.checkpoints)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox("Checkpoint", names, names.index(best.name) if best else 0, key="checkpoint", width=240)
        target = link("deploy", run=run.name, checkpoint=f"{run.name}/{chosen}")
        link_button(f"Deploy {chosen}", target, key="deploy-checkpoint", icon="cloud_upload")

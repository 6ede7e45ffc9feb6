"""One run on a page: its head, progress, tiles, curves, stages, and what ended it. Reads snapshots, decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import streamlit as st

from core import operations, overview
from core.azureml import tags
from core.azureml.reader import Snapshot
from core.azureml.settings import LOCAL
from core.errors import NotFound
from core.launch import part
from core.operations import Operation
from core.runs import evaluation
from core.runs.anomalies import EVAL_RISES, Note, find_notes
from core.runs.evaluation import Evaluation
from core.runs.metrics import RunMetrics
from core.runs.states import FINE_TUNE, JobState, Run
from core.words import duration
from pages.parts.kit import charts, fields, reads, words
from pages.parts.kit.action import action, draw_error_of, link_button
from pages.parts.kit.elements.figure import HEIGHT
from pages.parts.kit.lineage import draw_lineage
from pages.parts.kit.links import link
from pages.parts.kit.live import live
from pages.parts.kit.notices import draw_empty, draw_warning, ready
from pages.parts.kit.state import set_url_id, ui, url_id
from pages.parts.kit.steps import draw_badge, draw_operation, draw_stages
from pages.parts.operate.caps import draw_cap
from pages.parts.tune.again import link_again
from pages.parts.tune.checkpoints import (
    CHECKPOINTS,
    draw_checkpoints,
    draw_deploy_one,
    draw_ends,
    draw_origin,
    draw_ways_on,
    is_stoppable,
    list_views,
)
from pages.parts.tune.naming import draw_note, draw_rename
from pages.parts.tune.rehearsal import draw_way
from pages.parts.tune.run_tabs import VIEWS, choose_log, draw_evaluation, draw_log, draw_metric_files, draw_settings
from pages.parts.tune.run_tiles import draw_tiles, say_missing, say_no_measure
from pages.parts.tune.start import draw_check
from pages.parts.tune.timeline import draw_timeline

_SENDING = ("upload", "register", "submit")


@dataclass(frozen=True)
class ChartChoice:
    """What the operator chose beside the chart."""

    axis: str
    smoothing: float
    log_y: bool


def draw_run(name: str) -> None:
    """Draw the run with this name: what the ledger knows before the workspace has it, then the run itself."""
    launch = operations.find_operation_for(ui().alias or "", name, "launch")
    snapshot = reads.read(overview.read_run, name, max_age_s=1.0)
    run: Run | None = snapshot.value
    if launch is not None and (run.recorded if run is not None else not operations.was_sent(launch)):
        _draw_recorded(launch)
        return
    if isinstance(snapshot.error, NotFound):
        st.title("Runs", anchor=False)
        draw_empty(snapshot.error.message, link("runs"), "See all runs")
        return
    if run is None:
        st.title(words.plain(name), anchor=False)
    if ready(snapshot, "Reading the run…", (56, 96, HEIGHT), key=f"run-{name}") and run is not None:
        _draw_known(run)


def awaits_more(run: Run, result: Evaluation | None) -> bool:
    """Say whether a run moves, or its evaluation has ended and its result has not come yet."""
    ended = run.evaluation is not None and run.evaluation.state is JobState.COMPLETED
    return run.moves or (run.completed and ended and result is None)


def _draw_recorded(launch: Operation) -> None:
    """Draw a run that only the ledger knows: recorded, sent, confirmed."""
    st.title(words.plain(launch.change.label), anchor=False)

    def draw() -> object:
        now = operations.get_operation(launch.id)
        run: Run | None = reads.read(overview.read_run, launch.subject, max_age_s=1.0).value
        if now.state == "failed":
            overview.mark_seen(now.subject)
            st.text("The run was not started.")
        elif now.state == "cancelled":
            st.text("The run was cancelled before it was sent. Nothing was started.")
        else:
            st.progress(_sent_share(now), text="Recorded · Sent · Confirmed: the run is on its way to the workspace")
        draw_operation(now, key="launch", only=_SENDING)
        return (run is None or run.recorded, now.state)

    ended = launch.state in ("failed", "cancelled")
    live(draw, key="launch", run_every=None if ended else 0.7)
    if ended:
        with st.container(horizontal=True):
            if launch.state == "failed":
                action(
                    "Try again",
                    operations.retry_operation,
                    launch.id,
                    key="retry-launch",
                    type="primary",
                    icon="refresh",
                    then=lambda again: link("runs", run=again.subject),
                )
            link("launch").draw("Back to Launch", icon="arrow_back")


def _sent_share(launch: Operation) -> float:
    done = sum(step.name in _SENDING and step.state in ("done", "skipped") for step in launch.steps)
    return min(0.95, (done + 0.5) / len(_SENDING))


def _draw_reattachment(run: Run, measured: RunMetrics | None) -> None:
    launch = operations.find_operation_for(ui().alias or "", run.name, "launch")
    if launch is None or run.finished or measured is None:
        return
    if line := overview.describe_reattachment(launch, measured.get("loss")):
        st.caption(words.plain(line))


def _draw_known(run: Run) -> None:
    measured = reads.read_measures(run, max_age_s=1.0)
    evaluated = _read_evaluation(run)
    result = evaluated.value
    if run.state_word == "Failed":
        overview.mark_seen(run.name)
    _draw_head(run)
    _draw_reattachment(run, measured.value)
    top = st.container()
    if run.error:
        _draw_failure(run)
    choice = _draw_chart_choice(run)
    left, right = st.columns([3, 1], gap="medium")
    view = _draw_view_choice(result)
    log_choice = None
    with st.container():
        if view == "Settings":
            draw_settings(run)
            _draw_checks(run)
        elif view == "Evaluation":
            draw_evaluation(run, result, evaluated.error)
        elif view == "Logs":
            log_choice = choose_log(run)
    below = st.container()
    if view == CHECKPOINTS:
        draw_deploy_one(run)
    draw_way(run)
    draw_lineage(run=run.name)

    def draw() -> object:
        now_run = reads.read(overview.read_run, run.name, max_age_s=1.0)
        now: Run = now_run.value or run
        metered = reads.read_measures(now, max_age_s=0.8 * pace)
        now_measured: RunMetrics = metered.value or RunMetrics(run.name)
        missing = say_missing(now, metered)
        with top:
            _draw_progress(now, now_run, now_measured, missing)
        with left:
            _draw_loss(now, now_measured, choice, missing)
            draw_timeline(now.stages, run=run.name)
        with right:
            st.header("Stages", anchor=False)
            step = _progress_of(now)[1] if now.trains and now.progress and now.progress.step else ""
            draw_stages(now.stages, key=run.name, say=lambda stage: step if stage.name == FINE_TUNE else "")
        with below:
            if log_choice is not None:
                draw_log(now, log_choice)
            elif view == CHECKPOINTS:
                draw_checkpoints(now)
            else:
                _draw_chart(view, now, now_measured, choice, missing)
        return (*_token(now, _read_evaluation(now).value, metered), _pace(now, now_measured))

    token = _token(run, result, measured)
    pace = _pace(run, measured.value)
    live(draw, key=f"run-{run.name}", run_every=None if token[0] else pace, token=(*token, pace))


def _draw_checks(run: Run) -> None:
    """Draw what was checked before the run was started, where it was started from here."""
    launch = operations.find_operation_for(ui().alias or "", run.name, "launch")
    checks = launch.change.checks if launch is not None and isinstance(launch.change, operations.Launch) else ()
    if checks:
        st.header("Checked before the start")
        for check in checks:
            draw_check(check)


def _pace(run: Run, measured: RunMetrics | None) -> float:
    """Return how often to look, seconds: the first point is waited for, and seen at the second look after it."""
    if measured and measured.get("loss").points:
        return 2.0
    return 0.6 if run.trains and ui().alias == LOCAL else 1.0


def _token(run: Run, result: Evaluation | None, measured: Snapshot[RunMetrics]) -> tuple[object, ...]:
    """What those parts of the page stand on that are not drawn again by themselves; first: nothing changes any more."""
    stage = run.evaluation
    told = (stage.state_word, stage.missed) if stage else None
    rests = not awaits_more(run, result) and reads.is_final(run, measured)
    return (rests, run.state, told, result is not None, bool(run.error), is_stoppable(run))


def _read_evaluation(run: Run) -> Snapshot[Evaluation | None]:
    if not run.completed:
        return reads.LOADING
    return reads.read(evaluation.read_evaluation, run.name, max_age_s=3.0)


def _draw_head(run: Run) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="run-head"):
        st.title(words.plain(run.title or run.name), anchor=False, width="content")
        draw_badge(run.state)
        draw_rename(run)
        st.space("stretch")
        link_button("Start again…", link_again(run.name), key="again", icon="replay")
        if run.completed and (whole := part.find_whole(run.tags.get(tags.DRAFT, ""))):
            link("launch", draft=whole.id).draw("Then the whole", icon="arrow_forward")
        if run.deployable:
            target, style = link("deploy", run=run.name), "primary" if run.completed else "secondary"
            link_button(f"Deploy {run.kept or 'this model'}", target, key="deploy", type=style, icon="cloud_upload")
        elif not run.finished:
            draw_ends(run)
        draw_ways_on(run)
        said = draw_cap(run)
    draw_note(run)
    draw_origin(run)
    if said:
        draw_warning(said, key="cap")


def _draw_failure(run: Run) -> None:
    """Draw the cause, the line it was read from, and one thing to do, above the chart."""
    assert run.error is not None
    with st.container(border=True, gap="small"):
        st.text(run.error.cause)
        if run.error.evidence:
            st.code(run.error.evidence, language=None, wrap_lines=True)
        if run.error.action and run.error.settings:
            link_button(run.error.action, link_again(run.name), key="retry-run", icon="replay", type="primary")
        elif run.error.action:
            st.text(run.error.action)


def _draw_progress(run: Run, snapshot: Snapshot[Run], measured: RunMetrics, missing: str) -> None:
    facts = [f"{run.model} v{run.model_version}" if run.model_version else run.model, run.dataset, run.compute]
    if run.started_at:
        facts.append(f"started {words.moment(run.started_at)}")
    if run.moves:
        facts.append(words.age(snapshot.age_s))
    elif run.whole_s is not None:
        tested = f" ({duration(run.evaluated_s)} of it evaluation)" if run.evaluated_s else ""
        facts.append(f"took {duration(run.whole_s)}{tested}")
    with st.container(gap="xxsmall"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(words.plain(" · ".join(filter(None, facts))))
            if snapshot.error is not None:
                st.badge("Stale", icon=":material/sync_problem:", color="orange")
        st.caption(words.plain(run.display_name))
    if run.note:
        draw_warning(run.note, key="run-note")
    if not run.finished:
        st.progress(*_progress_of(run))
    elif run.completed and run.moves:
        st.progress(1.0, text="Trained. The evaluation compares it with the base model.")
    draw_tiles(run, measured, missing)


def _progress_of(run: Run) -> tuple[float, str]:
    progress = run.progress
    if progress is None or not progress.step:
        waited = duration(words.since(run.created_at)) if run.created_at else ""
        running = next((stage.title for stage in run.stages if stage.state is JobState.RUNNING), "")
        note = next((stage.note for stage in run.stages if stage.note), "")
        first = f"{running} is running, no step yet" if running else f"{run.state_word} for {waited}"
        return 0.0, ". ".join(filter(None, (first, "" if running else _find_queue(run), note)))
    parts = [f"Step {progress.step}" + (f" of {progress.total_steps}" if progress.total_steps else "")]
    if progress.epoch is not None:
        parts.append(f"epoch {progress.epoch:.2f}")
    if progress.eta_s is not None:
        parts.append(f"about {duration(progress.eta_s)} left")
    return min(1.0, max(0.0, progress.fraction)), " · ".join(parts)


def _find_queue(run: Run) -> str:
    """Return what a run waits for in words, "" where it is not known or nothing is."""
    conn, runs = reads.find_connection(), reads.read(overview.read_runs, max_age_s=5.0).value
    if conn is None or runs is None or not run.state.waits:
        return ""
    return overview.find_queue_of(conn, runs, run.compute, created=run.created_at).words


def _draw_chart_choice(run: Run) -> ChartChoice:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        axis = st.segmented_control(
            "X axis", ["Step", "Epoch", "Time"], default="Step", required=True, key="axis", bind="query-params"
        )
        smoothing = st.slider("Smoothing", 0.0, 0.95, 0.6, 0.05, key="smoothing", width=200)
        with st.popover("Options", icon=":material/tune:", key="chart-options"):
            log_y = st.toggle("Logarithmic loss", key="log-y")
            draw_metric_files(run)
    return ChartChoice(axis or "Step", smoothing, log_y)


def _draw_view_choice(result: Evaluation | None) -> str:
    """Return what is shown below: what the address asks for, else the answers as soon as there are some."""
    views, wanted = list_views(VIEWS), url_id("view")
    by_itself = views[0] if result is None else "Evaluation"
    field = fields.place("view", wanted if wanted in views else by_itself, views)
    st.segmented_control(
        "Show",
        views,
        default=field.value,
        required=True,
        label_visibility="collapsed",
        **fields.follow(field, "What is shown", partial(set_url_id, "view")),
    )
    draw_error_of(field.name)
    return str(field.value)


def _draw_loss(run: Run, measured: RunMetrics, choice: ChartChoice, missing: str) -> None:
    train = measured.get("loss")
    if train.points:
        notes = find_notes(measured, run.parameters)
        charts.draw_loss(
            train,
            measured.get("eval_loss"),
            run=run.name,
            axis=_axis(measured, choice),
            smoothing=choice.smoothing,
            log_y=choice.log_y,
            marks=tuple((note.at, note.rule.name) for note in notes if note.on_loss),
        )
        _draw_notes(run, notes)
        if len(train.sources) > 1:
            st.caption(words.plain(f"Merged by step from the measures of {' and '.join(train.sources)}."))
    elif missing == "not measured":
        st.text(say_no_measure("loss", run, missing))
    else:
        # No skeleton: it pulses, which takes a quarter of a core from a trainer beside the browser, for minutes.
        with st.container(border=True, height=HEIGHT, vertical_alignment="center"):
            st.text(say_no_measure("loss", run, missing), width="stretch", text_alignment="center")


def _draw_notes(run: Run, notes: Sequence[Note]) -> None:
    """Say what is wrong with the curves, by which rule, and what to do; what ended the run is said above already."""
    for note in notes:
        if run.error and note.breaks:
            continue
        way = ' "Stop and keep the best" does it now.' if note.rule is EVAL_RISES and is_stoppable(run) else ""
        st.markdown(
            f":orange-badge[:material/warning: {note.rule.name}] {words.plain(note.said + ' ' + note.advice + way)}"
        )
        st.caption(words.plain(f"Rule: {note.rule.threshold} {note.rule.source}"))


def _draw_chart(view: str, run: Run, measured: RunMetrics, choice: ChartChoice, missing: str) -> None:
    keys = {"Learning rate": "learning_rate", "Gradient norm": "grad_norm", "Speed": "tokens_per_second"}
    if view not in keys:
        return
    series = measured.get(keys[view])
    axis = _axis(measured, choice)
    if not series.points:
        st.text(say_no_measure(view.lower(), run, missing))
    elif view == "Learning rate":
        charts.draw_rate(series, run=run.name, axis=axis)
    elif view == "Gradient norm":
        charts.draw_gradient(series, run=run.name, axis=axis, smoothing=choice.smoothing)
    else:
        charts.draw_speed(series, run=run.name, axis=axis)


def _axis(measured: RunMetrics, choice: ChartChoice) -> charts.Axis:
    per_epoch, first = measured.steps_per_epoch, measured.get("loss").first
    kind = "Step" if choice.axis == "Epoch" and not per_epoch else choice.axis
    return charts.Axis(kind, per_epoch, first.at_ms if first else 0)

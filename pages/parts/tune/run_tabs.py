"""What stands below a run's chart: its log, settings and evaluation. Text from models and logs is never Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import streamlit as st

from core import operations
from core.azureml.connection import Connection
from core.errors import TunedeckError
from core.recipe import PARAMETERS
from core.runs import logs as run_logs
from core.runs import metrics_file
from core.runs.evaluation import BEST, RANDOM, WORST, Answer, Evaluation
from core.runs.logs import Level
from core.runs.metrics import RunMetrics, read_metrics
from core.runs.states import JobState, Run, Stage
from core.words import duration
from pages.parts.kit import reads, words
from pages.parts.kit.action import action, draw_download
from pages.parts.kit.notices import draw_age
from pages.parts.kit.state import ui
from pages.parts.kit.steps import draw_operation_error
from pages.parts.kit.tiles import draw_tile

VIEWS = ("Learning rate", "Gradient norm", "Speed", "Logs", "Settings", "Evaluation")
_ANSWERS_PER_PAGE = 3
_WHY = {RANDOM: "Random", BEST: "Best", WORST: "Worst"}
_LOG_HEIGHT = 320
_MOST_LINES = 2000
_LEVELS = {"All": Level.ALL, "Warnings, errors": Level.WARNINGS, "Errors": Level.ERRORS}


@dataclass(frozen=True)
class LogChoice:
    """Which log, what is looked for, and whether the end stays in sight."""

    stage: str
    search: str
    level: Level
    follow: bool

    @property
    def filters(self) -> bool:
        """Whether only some lines are shown."""
        return bool(self.search) or self.level is not Level.ALL


def draw_metric_files(run: Run) -> None:
    """Draw the ways to take away all that a run measured, read and written at the click."""
    conn = reads.find_connection()
    for kind, write in (("CSV", metrics_file.to_csv), ("JSON", metrics_file.to_json)):
        if conn is not None:
            draw_download(
                f"All metrics as {kind}",
                partial(_write_metrics, conn, run.name, write),
                f"{run.name}-metrics.{kind.lower()}",
                key=f"metrics-{kind}",
            )


def _write_metrics(conn: Connection, name: str, write: Callable[[RunMetrics], bytes]) -> bytes:
    while not (found := read_metrics(conn, name)).complete:
        pass  # of a long run a look reads some pages
    return write(found)


def choose_log(run: Run) -> LogChoice:
    """Draw the choices beside a log; outside the live part, so that typing is never interrupted."""
    begun = [stage for stage in run.stages if stage.job and stage.state]
    at = run.stage
    failed = at is not None and at.state is not None and at.state.failed
    first = "The stage that failed" if failed else "The stage that runs" if run.moves else "The last stage"
    titles = {"": first} | {stage.name: stage.title for stage in begun}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        stage = st.selectbox("Stage", list(titles), format_func=lambda name: titles.get(name, name), key="log-stage")
        search = st.text_input(
            "Search the log", type="search", live=True, key="log-search", placeholder="error, loss …"
        )
        level = st.selectbox("Level", list(_LEVELS), key="log-level", width=140)
        follow = st.toggle("Follow", value=True, key="log-follow", help="Keeps the newest line in sight.")
    return LogChoice(stage or "", search or "", _LEVELS[level], follow)


def draw_log(run: Run, choice: LogChoice) -> None:
    """Draw the end of a log and the way to take it away."""
    stage = run.find_stage(choice.stage) or run.stage
    if stage is None:
        st.text(
            "No stage of this run began, so there is no log."
            if run.finished
            else "No log yet. The first stage has not begun."
        )
        return
    snapshot = reads.read(
        find_lines_of, stage.job, choice.search, choice.level, max_age_s=10.0 if choice.filters else 1.5
    )
    if snapshot.value is None:
        if snapshot.error is not None:
            draw_age(snapshot)
        else:
            st.skeleton(_LOG_HEIGHT)
        return
    found, count, left_out = snapshot.value
    of = f" of {words.number(count)}" if choice.filters else ""
    st.caption(words.plain(" · ".join(filter(None, (stage.title, words.plural(len(found), "line") + of, left_out)))))
    shown = [f"{number}: {line}" if choice.filters else line for number, line in found[-_MOST_LINES:]]
    if len(found) > len(shown):
        st.caption(f"The newest {words.number(len(shown))} of them are shown.")
    with st.container(height=_LOG_HEIGHT, autoscroll=choice.follow, key="log"):
        nothing = "No line is so." if choice.filters else "The log is empty."
        st.code("\n".join(shown) or nothing, language=None, wrap_lines=True)
    if conn := reads.find_connection():
        draw_download(
            "All logs of this run", partial(run_logs.zip_logs, conn, run), f"{run.name}-logs.zip", key="log-download"
        )


def find_lines_of(conn: Connection, job: str, search: str, level: Level) -> tuple[list[tuple[int, str]], int, str]:
    """Return the lines of a stage's log that are looked for, of how many, and what was left out.

    By its job alone, so that a reader knows it again while the run's state moves on.
    """
    most = run_logs.SEARCHED_BYTES if search or level is not Level.ALL else run_logs.LOG_TAIL_BYTES
    part = run_logs.read_log(conn, job, most)
    lines = part.text.splitlines()
    left_out = f"only the last {words.size(most)} of the log" if part.truncated else ""
    return run_logs.find_lines(lines, search, level), len(lines), left_out


def draw_settings(run: Run) -> None:
    """Draw what a run was started with."""
    known = [p for p in PARAMETERS if p.name in run.parameters]
    changed = [p for p in known if str(run.parameters[p.name]) != str(p.default)]
    only_changed = st.toggle(
        f"Only what differs from the component's defaults ({len(changed)})", value=True, key="diff"
    )
    rows = [
        {"Setting": p.label, "Name": p.name, "Value": str(run.parameters[p.name]), "Default": str(p.default)}
        for p in (changed if only_changed else known)
    ]
    st.dataframe(rows, hide_index=True, alt=f"{len(rows)} settings of the run, with their default values")


def draw_evaluation(run: Run, result: Evaluation | None, error: TunedeckError | None) -> None:
    """Draw base against tuned: loss on all test rows, and answers side by side. error: of reading the result."""
    if result is None:
        _draw_no_evaluation(run, error)
        return
    with st.grid(4, min_column_width=160):
        change = result.tuned.loss - result.base.loss
        draw_tile("Tuned loss", words.format_loss(result.tuned.loss), f"{change:+.2f} to base", colour="inverse")
        draw_tile("Base loss", words.format_loss(result.base.loss))
        draw_tile(
            "Tuned perplexity",
            words.format_loss(result.tuned.perplexity),
            help="exp(loss): among how many words the model hesitates.",
        )
        draw_tile("Base perplexity", words.format_loss(result.base.perplexity))
    st.caption(
        f"Measured on {words.plural(result.rows, 'test row')}, {words.number(result.tokens)} assistant tokens, in "
        f"{duration(result.seconds)}. A fall here says nothing of what else the model may have forgotten."
    )
    st.header("Answers to test questions", anchor=False)
    answers = _choose_answers(result.answers)
    pages = max(1, -(-len(answers) // _ANSWERS_PER_PAGE))
    first = st.container()
    page = st.pagination(pages, key="answers-page") if pages > 1 else 1
    with first:
        for number, answer in enumerate(answers[(page - 1) * _ANSWERS_PER_PAGE : page * _ANSWERS_PER_PAGE]):
            _draw_answer(answer, number)


def _choose_answers(answers: Sequence[Answer]) -> list[Answer]:
    """Draw the choice by which rows they are to, and return those; an evaluation of before has drawn ones alone."""
    there = [why for why in _WHY if any(answer.why == why for answer in answers)]
    if len(there) < 2:
        return list(answers)
    chosen = st.segmented_control(
        "Test rows",
        there,
        default=there[0],
        format_func=_WHY.__getitem__,
        required=True,
        key="answers",
        bind="query-params",
        help="By the tuned model's loss on the whole row: lowest, highest, or drawn at random.",
    )
    return [answer for answer in answers if answer.why == chosen]


def _draw_no_evaluation(run: Run, error: TunedeckError | None) -> None:
    st.text(_explain_no_evaluation(run, error))
    launch = operations.find_operation_for(ui().alias or "", run.name, "launch") if run.completed else None
    if launch is not None and launch.state == "failed":
        draw_operation_error(launch, key="evaluation")
        action("Try again", operations.retry_operation, launch.id, key="retry-evaluation", icon="refresh")


def _explain_no_evaluation(run: Run, error: TunedeckError | None) -> str:
    stage = run.evaluation or Stage("", "")
    if stage.missed:
        return f"There is no evaluation. {stage.missed}"
    if not run.finished:
        return "The evaluation begins when the run has completed: base and tuned model on the test rows."
    if error is not None:
        return f"{error.message} {error.hint}"
    if stage.state and stage.state is not JobState.COMPLETED and not stage.running:
        cause = f" {stage.error.cause}" if stage.error else ""
        return f"There is no evaluation: it is {stage.state_word.lower()}.{cause}"
    return "Base and tuned model are being compared on the test rows."


def _draw_answer(answer: Answer, number: int) -> None:
    with st.container(border=True, gap="small", key=f"answer-{number}"):
        losses = (
            f" · loss {words.format_loss(answer.tuned_loss)}, base model's {words.format_loss(answer.base_loss)}"
            if answer.tuned_loss is not None and answer.base_loss is not None
            else ""
        )
        st.caption(f"Test row {answer.row}{losses}")
        st.text(answer.prompt)
        base, tuned, expected = st.columns(3)
        for column, title, text in (
            (base, "Base model", answer.base),
            (tuned, "Tuned model", answer.tuned),
            (expected, "Expected", answer.expected),
        ):
            with column:
                st.markdown(f"**{title}**")
                st.text(text or "(no words)")

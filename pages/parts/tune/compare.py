"""Runs side by side: their curves, what they came to, what differs in their settings, and their answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import streamlit as st

from core import overview
from core.azureml.reader import Snapshot
from core.catalog.prices import money
from core.errors import NotFound
from core.runs import comparison, evaluation
from core.runs.comparison import CURVES, FACTS, MOST_COMPARED, Compared, Fact
from core.runs.evaluation import Evaluation
from core.runs.metrics import RunMetrics
from core.runs.states import Run
from core.words import duration
from pages.parts.kit import charts, fields, reads, words
from pages.parts.kit.action import draw_download
from pages.parts.kit.links import link
from pages.parts.kit.live import live
from pages.parts.kit.notices import draw_empty, draw_error, draw_warning
from pages.parts.kit.state import set_url_id, url_id
from pages.parts.kit.steps import draw_badge
from pages.parts.tune.run import awaits_more
from pages.parts.tune.run_tiles import find_cost, say_missing

_QUESTIONS_PER_PAGE = 2
_TOLD = ("Eval loss", "Test loss", "Took", "Cost")
_UNDRAWN = {"none yet": "no {} yet.", "being read": "its {} is being read.", "not read": "its {} could not be read."}
_SMOOTHED = ("Train loss", "Gradient norm")
# How a number of each kind is written, and what a smaller and a larger one is called.
_SAID: Mapping[str, tuple[Callable[[float], str], str, str]] = {
    "loss": (words.format_loss, "lower", "higher"),
    "count": (words.number, "fewer", "more"),
    "speed": (words.number, "slower", "faster"),
    "seconds": (duration, "shorter", "longer"),
    "money": (money, "less", "more"),
}


def draw_comparison(names: Sequence[str]) -> None:
    """Draw the runs with these names side by side; the first one is the baseline unless the address names another."""
    wanted = [name for name in dict.fromkeys(names) if name]
    if len(wanted) < 2:
        draw_empty("Choose two to six runs to compare.", link("runs"), "See all runs")
    if left_out := wanted[MOST_COMPARED:]:
        st.text(f"Six runs are compared at most. Left out: {', '.join(left_out)}.")
    wanted = wanted[:MOST_COMPARED]
    compared = _read_all(wanted)
    _draw_missing(wanted, compared)
    if not compared:
        return
    base = _choose_baseline(compared)
    result = st.container(gap="xsmall")
    name, kind, smoothing = _choose_chart()
    below = st.container()
    _draw_settings(compared)
    _draw_answers(compared)

    def draw() -> object:
        now = _read_all(wanted)
        first = next((one for one in now if one.run.name == base), now[0])
        with result:
            _draw_result(now, first)
        with below:
            _draw_chart(now, first, name, kind, smoothing)
            _draw_facts(now, first)
        return _token(now)

    at_rest = all(map(rests, compared))
    live(draw, key="compare", run_every=None if at_rest else 2.0, token=_token(compared))


def _read_all(names: Sequence[str]) -> list[Compared]:
    """Return what is known by now of the runs that are there."""
    found = [run for name in names if (run := reads.read(overview.read_run, name).value)]
    return read_compared(found)


def read_compared(found: Sequence[Run]) -> list[Compared]:
    """Return what is known of runs by now."""
    titles = Counter(run.title for run in found)
    return [_read_one(run, run.title if titles[run.title] == 1 else f"{run.title} ({run.name})") for run in found]


def _read_one(run: Run, label: str) -> Compared:
    measured = reads.read_measures(run)
    evaluated = _read_evaluation(run) if run.completed else None
    stage = run.evaluation
    if evaluated and (evaluated.loading or evaluated.error):
        no_evaluation = "not read" if evaluated.error else "being read"
    elif not run.finished or (stage and stage.running):
        no_evaluation = "not yet"
    else:
        no_evaluation = "none"
    cost, said, currency = find_cost(run)
    return Compared(
        run,
        label,
        measured.value or RunMetrics(run.name),
        evaluated.value if evaluated else None,
        cost,
        currency or "USD",
        no_measure=say_missing(run, measured).replace("…", "being read"),
        no_evaluation=no_evaluation,
        no_cost=said,
    )


def _read_evaluation(run: Run) -> Snapshot[Evaluation | None]:
    """Return a run's evaluation, which does not change once it is there."""
    kept = reads.read(evaluation.read_evaluation, run.name, max_age_s=600.0)
    return kept if kept.value else reads.read(evaluation.read_evaluation, run.name, max_age_s=3.0)


def rests(one: Compared) -> bool:
    """Whether nothing of a run can change any more."""
    return not awaits_more(one.run, one.evaluation) and reads.is_final(one.run, reads.read_measures(one.run))


def _token(compared: Sequence[Compared]) -> object:
    """Return what those parts of the page stand on that are not drawn again by themselves."""
    return [(one.label, one.run.state, one.evaluation is None, rests(one)) for one in compared]


def _draw_missing(wanted: Sequence[str], compared: Sequence[Compared]) -> None:
    there = {one.run.name for one in compared}
    for name in wanted:
        snapshot = reads.read(overview.read_run, name)
        if isinstance(snapshot.error, NotFound):
            draw_empty(snapshot.error.message, link("runs"), "See all runs")
        elif name not in there and snapshot.error is not None:
            draw_error(snapshot.error, key=f"compare-{name}")
        elif name not in there:
            st.caption(words.plain(f"Reading {name}…"))


def _choose_baseline(compared: Sequence[Compared]) -> str:
    """Draw the runs with the choice of the one that the others are held against; returns its name."""
    with st.container(horizontal=True, gap="medium", vertical_alignment="center", key="compared"):
        for one in compared:
            with st.container(horizontal=True, width="content", gap="xsmall", vertical_alignment="center"):
                link("runs", run=one.run.name).draw(words.plain(one.label))
                draw_badge(one.run.state)
    labels = {one.run.name: one.label for one in compared}
    names, asked = list(labels), url_id("base", 300)
    chosen = asked if asked in names else names[0]
    field = fields.place("baseline", chosen, names)
    st.selectbox(
        "Baseline",
        names,
        field.index or 0,
        format_func=lambda name: labels.get(name, name),
        width=320,
        **fields.follow(field, "Baseline", partial(set_url_id, "base")),
    )
    return chosen


def _choose_chart() -> tuple[str, str, float]:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        bound: dict[str, Any] = {"required": True, "bind": "query-params", "wrap": True}
        name = st.segmented_control("Curve", list(CURVES), default="Train loss", key="metric", **bound)
        kind = st.segmented_control("X axis", ["Step", "Epoch", "Time"], default="Step", key="axis", **bound)
        smoothing = st.slider(
            "Smoothing",
            *(0.0, 0.95, 0.6, 0.05),
            key="smoothing",
            bind="query-params",
            width=200,
            help="Of the train loss and the gradient norm. Eval loss and learning rate are drawn as they are.",
        )
    return name or "Train loss", kind or "Step", smoothing


def _draw_result(compared: Sequence[Compared], base: Compared) -> None:
    """Say of each run how it differs from the baseline, and of which losses that cannot be said."""
    for one in compared:
        if one.run.name == base.run.name:
            continue
        doubts = comparison.find_doubts(one, base)
        said = {fact.label: _difference(fact, one, base, "") for fact in FACTS if fact.of not in doubts}
        known = [f"{label.lower()} {said[label]}" for label in _TOLD if said.get(label)]
        if known:
            st.text(f"{one.label} against {base.label}: {', '.join(known)}.")
        for reason in dict.fromkeys(doubts.values()):
            losses = " and the ".join(of for of, why in doubts.items() if why == reason)
            draw_warning(f"The {losses} of {one.label} and {base.label} are not comparable: {reason}.")


def _say(fact: Fact, value: float, currency: str) -> str:
    return money(value, currency) if fact.kind == "money" else _SAID[fact.kind][0](value)


def _difference(fact: Fact, one: Compared, base: Compared, same: str = "the same") -> str:
    """Return "0.12 lower" for how a run differs from the baseline; "" where either value is missing."""
    value, against = fact.read(one), fact.read(base)
    if value is None or against is None or value != value or against != against:
        return ""
    if fact.kind == "money" and one.currency != base.currency:
        return ""
    _, less, more = _SAID[fact.kind]
    said = _say(fact, abs(value - against), one.currency)
    return same if said == _say(fact, 0.0, one.currency) else f"{said} {less if value < against else more}"


def _draw_chart(compared: Sequence[Compared], base: Compared, name: str, kind: str, smoothing: float) -> None:
    lines, missing = [], {}
    for one in compared:
        series, first = one.measures.get(CURVES[name]), one.measures.get("loss").first
        axis = charts.Axis(kind, one.measures.steps_per_epoch, first.at_ms if first else 0)
        if not series.points and one.no_measure != "not measured":
            missing[one.label] = _UNDRAWN[one.no_measure].format(name.lower())
        elif reason := charts.explain_no_curve(series, name.lower(), kind, axis.steps_per_epoch):
            missing[one.label] = reason
        else:
            lines.append(charts.Line(one.label, series, axis, one.run.name == base.run.name))
    if lines:
        charts.draw_comparison(lines, name=name, smoothing=smoothing if name in _SMOOTHED else 0.0)
    _say_once({label: f"not drawn, {reason}" for label, reason in missing.items()})


def _say_once(said: Mapping[str, str]) -> None:
    """Draw what is to be said of runs, once for all of which it is the same."""
    for reason in dict.fromkeys(said.values()):
        st.text(f"{', '.join(label for label, why in said.items() if why == reason)}: {reason}")


def _draw_facts(compared: Sequence[Compared], base: Compared) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.header("What they came to", anchor=False, width="content")  # the table's own toolbar is at the right
        draw_download(
            "Download all as CSV", partial(comparison.to_csv, list(compared)), "comparison.csv", key="compare-csv"
        )
    rows = []
    for fact in FACTS:
        row = {"": fact.label}
        for one in compared:
            value = fact.read(one)
            said = fact.why(one) if value is None else _say(fact, value, one.currency)
            is_held = one is not base and fact.of not in comparison.find_doubts(one, base)
            apart = _difference(fact, one, base) if is_held else ""
            row[one.label] = f"{said} ({apart})" if apart else said
        rows.append(row)
    _draw_table(rows, "outcome", "; ".join(f"{one.label}: eval loss {rows[1][one.label]}" for one in compared))


def _draw_settings(compared: Sequence[Compared]) -> None:
    settings = comparison.list_settings([one.run for one in compared])
    differing = [setting for setting in settings if setting.differs]
    st.header("Settings", anchor=False)
    shows_all = st.toggle(f"All settings, not only the {len(differing)} that differ", key="all", bind="query-params")
    labels = [one.label for one in compared]
    shown = settings if shows_all else differing
    if not shown:
        st.text("They were started with the same settings.")
        return
    rows = [{"": one.label, **dict(zip(labels, map(str, one.values), strict=True))} for one in shown]
    _draw_table(
        rows,
        "settings",
        f"{words.plural(len(differing), 'setting')} differ: " + ", ".join(one.label for one in differing),
    )


def _draw_table(rows: Sequence[Mapping[str, str]], key: str, alt: str) -> None:
    columns = {"": st.column_config.TextColumn("", pinned=True)}
    st.dataframe(rows, hide_index=True, column_config=columns, alt=alt, key=f"compare-{key}", height="content")


def _draw_answers(compared: Sequence[Compared]) -> None:
    st.header("Answers to test questions", anchor=False)
    _say_once({one.label: f"evaluation {one.no_evaluation}." for one in compared if one.evaluation is None})
    questions = comparison.match_questions(compared)
    pages = -(-len(questions) // _QUESTIONS_PER_PAGE)
    shown = st.container()
    page = st.pagination(pages, key="answers-page") if pages > 1 else 1
    with shown:
        for number, question in enumerate(questions[(page - 1) * _QUESTIONS_PER_PAGE : page * _QUESTIONS_PER_PAGE]):
            with st.container(border=True, gap="small", key=f"question-{number}"):
                st.caption(f"Test row {question.row}")
                st.text(question.prompt)
                with st.grid(4, min_column_width=220):
                    for by, text in (("Expected", question.expected), *question.answers):
                        with st.container():
                            st.markdown(f"**{words.plain(by)}**")
                            st.text(text or "(no words)")

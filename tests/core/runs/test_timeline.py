"""When stages began and ended, on one axis, from what a service tells."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from core.runs.states import JobState, Stage
from core.runs.timeline import BETWEEN, make_timeline
from pages.parts.tune.timeline import describe_timeline, timeline_figure

BEGUN = datetime(2026, 11, 28, 12, tzinfo=UTC)


def at(second: float) -> datetime:
    return BEGUN + timedelta(seconds=second)


def stage(title: str, start: float | None, end: float | None, state: JobState = JobState.COMPLETED) -> Stage:
    known = [None if each is None else at(each) for each in (start, end)]
    return Stage(title, title, state, "", *known)


RUNNING = [
    stage("Queued", 0, 60),
    stage("Import", 60, 70),
    stage("Fine-tune", 190, None, JobState.RUNNING),
    stage("Converter", None, None, JobState.PREPARING),
]


def test_each_measured_stage_is_a_bar_and_what_lies_between_is_one_too() -> None:
    bars = {bar.title: bar for bar in make_timeline(RUNNING, at(400))}
    assert {title: bar.spans for title, bar in bars.items()} == {
        "Queued": ((0, 60),),
        "Import": ((60, 70),),
        "Fine-tune": ((190, 400),),
        BETWEEN: ((70, 190),),
    }
    assert [title for title, bar in bars.items() if bar.running] == ["Fine-tune"]


def test_a_running_stage_grows_and_one_whose_end_is_not_known_is_not_drawn() -> None:
    later = make_timeline(RUNNING, at(500))
    assert next(bar for bar in later if bar.running).seconds == 310
    unknown = make_timeline([stage("Queued", 0, 5), stage("Import", 5, None)], at(9))
    assert [bar.title for bar in unknown] == ["Queued"]
    assert make_timeline([stage("Queued", None, None, JobState.QUEUED)], at(9)) == ()


def test_clocks_that_differ_give_no_bar_backwards_and_stages_side_by_side_no_wait() -> None:
    bars = make_timeline([stage("Queued", 0, 10), stage("Import", 9, 8.5), stage("Preprocess", 3, 20)], at(30))
    assert [bar.spans for bar in bars] == [((0, 10),), ((9, 9),), ((3, 20),)]


def test_the_words_say_what_took_the_most_time_and_each_label_its_own() -> None:
    bars = make_timeline(RUNNING, at(400))
    assert describe_timeline(bars) == "Fine-tune takes the most time until now: 3 min 30 s of 6 min 40 s."
    figure = timeline_figure(bars, "job-1")
    assert [trace.y[0] for trace in figure.data] == [
        "Queued · 1 min",
        "Import · 10 s",
        "Fine-tune · running · 3 min 30 s",
        "Between stages · 2 min",
    ]
    assert figure.layout.xaxis.title.text == "Minutes since the first start"
    failed = make_timeline([stage("Queued", 0, 1), stage("Import", 1, 9, JobState.FAILED)], at(9))
    assert timeline_figure(failed, "job-1").data[1].y[0] == "Import · failed · 8 s"

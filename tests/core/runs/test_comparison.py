"""What may be held against what, and the CSV of it."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import Any

import pytest

from core.azureml import tags
from core.runs import comparison
from core.runs.comparison import EVAL, FACTS, TEST, TRAIN, Compared, find_doubts, list_settings, match_questions, to_csv
from core.runs.evaluation import parse_evaluation
from core.runs.metrics import RunMetrics
from core.runs.series import Columns, Ordered, Point, Series
from core.runs.states import JobState, Run
from tests.core.runs.test_evaluation import FOUND


def make(name: str, points: int = 3, evaluation: dict[str, Any] | None = None, **fields: Any) -> Compared:
    parameters = {"seed": 1, "max_seq_length": -1} | fields.pop("parameters", {})
    told = {"model": "tiny", "tags": {tags.DATASET_KEY: "abc"}, "parameters": parameters} | fields
    loss = Ordered(Columns(Point(step, 4.0 / step, 1000 * step) for step in range(1, points + 1)))
    loss.take_new()
    epoch = Series("epoch", [Point(2, 1.0, 2000)])
    found = parse_evaluation(json.dumps(FOUND | (evaluation or {})))
    run = Run(name, name, JobState.COMPLETED, **told)
    return Compared(run, name, RunMetrics(name, {"loss": loss.to_series("loss", (name,)), "epoch": epoch}), found)


@pytest.mark.parametrize(
    ("other", "doubted"),
    [
        ({}, {}),
        ({"parameters": {"learning_rate": 1e-3}}, {}),
        ({"tags": {tags.DATASET_KEY: "another"}}, dict.fromkeys((TRAIN, EVAL), "the data differ")),
        ({"parameters": {"seed": 2}}, {EVAL: "another seed splits off other rows"}),
        ({"parameters": {"max_seq_length": 64}}, dict.fromkeys((TRAIN, EVAL), "long rows are cut at another length")),
        (
            {"evaluation": {"rows": 3}},
            {TEST: "the test rows differ: 3 rows with 40 tokens against 2 rows with 40 tokens"},
        ),
    ],
)
def test_a_loss_on_other_rows_or_tokens_is_not_held_against_the_baselines(
    other: dict[str, Any], doubted: dict[str, str]
) -> None:
    assert find_doubts(make("other", **other), make("base")) == doubted


def test_of_settings_those_that_differ_are_known_and_those_one_run_lacks_are_named() -> None:
    runs = [make("a", parameters={"lora_r": 8, "odd": 1}).run, make("b", parameters={"lora_r": 16}).run]
    differing = {setting.label: setting.values for setting in list_settings(runs) if setting.differs}
    assert differing == {"Rank": (8, 16), "odd": (1, "not set")}


def test_a_question_stands_with_every_answer_and_the_base_models_once() -> None:
    alone = make("c", evaluation={"answers": [{**FOUND["answers"][0], "row": 2}]})  # type: ignore[index]
    questions = match_questions([make("a"), make("b"), alone])
    assert [(one.row, one.answers) for one in questions] == [
        (1, (("Base model", "B."), ("a", "A."), ("b", "A."))),
        (2, (("Base model", "B."), ("c", "A."))),
    ]


def test_the_csv_holds_settings_outcomes_curves_and_answers_and_nothing_a_spreadsheet_reckons_with() -> None:
    answers = [{**FOUND["answers"][0], "tuned": '=HYPERLINK("http://x")', "prompt": "@SUM(1)"}]  # type: ignore[index]
    odd = make("odd", evaluation={"answers": answers}, parameters={"odd": "-1+cmd"})
    odd = replace(odd, run=replace(odd.run, title="+1"))
    rows = list(csv.DictReader(io.StringIO(to_csv([make("a"), odd]))))
    assert {row["part"] for row in rows} == {"setting", "outcome", "curve", "answer"}
    assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "@", "-1+"))]
    assert {row["title"] for row in rows} == {"a", "'+1"}
    curve = [(row["step"], row["epoch"], row["seconds"], row["value"]) for row in rows if row["name"] == "loss"]
    assert curve[:2] == [("1", "0.5000", "0.000", "4.0"), ("2", "1.0000", "1.000", "2.0")]
    facts = {row["name"]: (row["value"], row["note"]) for row in rows if row["part"] == "outcome" and row["run"] == "a"}
    assert facts["Test loss"] == ("0.5", "")
    assert facts["Eval loss"] == ("", "not measured")
    assert set(facts) == {"State", *(fact.label for fact in FACTS)}
    assert next(row["value"] for row in rows if row["name"] == "Longest conversation") == "-1"


def test_the_csv_of_a_long_curve_is_bounded_and_says_so() -> None:
    text = to_csv([make("long", points=comparison.MOST_POINTS + 1)])
    curve = [row for row in csv.DictReader(io.StringIO(text)) if row["name"] == "loss"]
    assert len(curve) <= comparison.MOST_POINTS
    assert {row["note"] for row in curve} == {f"thinned, of {comparison.MOST_POINTS + 1} points"}

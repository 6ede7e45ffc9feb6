"""Runs side by side: what each came to, what differs in their settings, what of it may be compared, and all as CSV.

Asks nobody, and draws nothing.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from core.azureml import tags
from core.recipe import PARAMETERS, Value
from core.runs.evaluation import RANDOM, Answer, Evaluation
from core.runs.metrics import RunMetrics
from core.runs.series import Point, Series
from core.runs.states import Run

MOST_COMPARED = 6
NOT_KNOWN, NOT_SET = "not known", "not set"  # in the place of a setting
MOST_POINTS = 10_000  # of one curve in a CSV; of a longer one what a chart draws
TRAIN, EVAL, TEST = "train loss", "eval loss", "test loss"
CURVES = {
    "Train loss": "loss",
    "Eval loss": "eval_loss",
    "Learning rate": "learning_rate",
    "Gradient norm": "grad_norm",
}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Compared:
    """One run with what is known of it. no_…: what is said in the place of what is not there."""

    run: Run
    label: str
    """Its title; with its name where another has the same title."""
    measures: RunMetrics
    evaluation: Evaluation | None = None
    cost: float | None = None
    """At list price, until now."""
    currency: str = "USD"
    no_measure: str = "not measured"
    no_evaluation: str = "none"
    no_cost: str = "price unknown"

    def last(self, key: str) -> float | None:
        """Return the newest value of a measure."""
        found = self.measures.get(key).last
        return found.value if found else None

    @property
    def steps(self) -> int | None:
        """How many optimiser steps it has logged."""
        found = self.measures.get("loss").last
        return found.step if found else None


@dataclass(frozen=True)
class Fact:
    """One thing that runs came to. kind: "loss", "count", "speed", "seconds" or "money"; of: the loss that it is."""

    label: str
    kind: str
    read: Callable[[Compared], float | None]
    why: Callable[[Compared], str]
    of: str = ""


def _fact_of_measure(label: str, kind: str, key: str, of: str = "") -> Fact:
    return Fact(label, kind, lambda one: one.last(key), lambda one: one.no_measure, of)


def _fact_of_test(label: str, read: Callable[[Evaluation], float]) -> Fact:
    return Fact(label, "loss", lambda one: read(one.evaluation) if one.evaluation else None, _no_evaluation, TEST)


def _no_evaluation(one: Compared) -> str:
    return one.no_evaluation


def _best(one: Compared) -> float | None:
    best = one.measures.get("eval_loss").best
    return best.value if best else None


FACTS = (
    _fact_of_measure("Train loss", "loss", "loss", TRAIN),
    _fact_of_measure("Eval loss", "loss", "eval_loss", EVAL),
    Fact("Best eval loss", "loss", _best, lambda one: one.no_measure, EVAL),
    _fact_of_test("Test loss", lambda found: found.tuned.loss),
    _fact_of_test("Test loss, base", lambda found: found.base.loss),
    _fact_of_test("Perplexity", lambda found: found.tuned.perplexity),
    _fact_of_test("Perplexity, base", lambda found: found.base.perplexity),
    Fact("Steps", "count", lambda one: one.steps, lambda one: one.no_measure),
    Fact(
        "Tokens a second",
        "speed",
        lambda one: one.measures.get("tokens_per_second").average(),
        lambda one: one.no_measure,
    ),
    Fact("Took", "seconds", lambda one: one.run.whole_s, lambda one: "not known" if one.run.finished else "not begun"),
    Fact("Cost", "money", lambda one: one.cost, lambda one: one.no_cost),
)


@dataclass(frozen=True)
class Setting:
    """One thing that runs were started with, its value in each of them."""

    label: str
    values: tuple[Value, ...]

    @property
    def differs(self) -> bool:
        """Whether they do not all have the same."""
        return len(set(self.values)) > 1


def list_settings(runs: Sequence[Run]) -> list[Setting]:
    """Return what runs were started with: model, data, compute and every parameter."""
    told: dict[str, Callable[[Run], Value]] = {
        "Model": lambda run: run.model,
        "Model version": lambda run: run.model_version,
        "Data": lambda run: run.dataset,
        "Content of the data": lambda run: run.tags.get(tags.DATASET_KEY, "")[:12],
        "Training rows": lambda run: run.tags.get(tags.ROWS, ""),
        "Compute": lambda run: run.compute,
        "GPUs per node": lambda run: run.gpus,
    }
    labels = {parameter.name: parameter.label for parameter in PARAMETERS}
    others = sorted({name for run in runs for name in run.parameters} - set(labels))
    names = [name for name in (*labels, *others) if any(name in run.parameters for run in runs)]
    found = [Setting(label, tuple(read(run) or NOT_KNOWN for run in runs)) for label, read in told.items()]
    return found + [
        Setting(labels.get(name, name), tuple(run.parameters.get(name, NOT_SET) for run in runs)) for name in names
    ]


def find_doubts(one: Compared, base: Compared) -> dict[str, str]:
    """Return which losses of a run cannot be held against the baseline's, each with the reason as a clause.

    A loss is the mean of the tokens it was measured on: other rows, or other tokens of the same rows, give another.
    """
    runs = (one.run, base.run)
    both, found = (TRAIN, EVAL), dict[str, str]()
    if _differ(run.parameters.get("seed") for run in runs) and not all(map(_has_validation, runs)):
        found[EVAL] = "another seed splits off other rows"
    if _differ(run.parameters.get("max_seq_length") for run in runs):
        found = dict.fromkeys(both, "long rows are cut at another length")
    if _differ(run.tags.get(tags.DATASET_KEY) or run.inputs.get("train_file_path") for run in runs):
        found = dict.fromkeys(both, "the data differ")
    if _differ(run.model for run in runs):
        found = dict.fromkeys(both, "the base models differ, and with them perhaps the tokens")
    tests = [each.evaluation for each in (one, base) if each.evaluation]
    drawn = [frozenset((each.row, each.prompt) for each in test.answers if each.why == RANDOM) for test in tests]
    if _differ((test.rows, test.tokens, rows) for test, rows in zip(tests, drawn, strict=True)):
        sizes = [f"{test.rows} rows with {test.tokens} tokens" for test in tests]
        found[TEST] = f"the test rows differ: {sizes[0]} against {sizes[1]}"
    return found


def _has_validation(run: Run) -> bool:
    return bool(run.inputs.get("validation_file_path"))


def _differ(values: Iterable[object]) -> bool:
    """Whether what is known of them is not the same."""
    return len({value for value in values if value not in (None, "")}) > 1


@dataclass(frozen=True)
class Question:
    """One test question. answers: by whom, with the words; what a run was not asked is not among them."""

    row: int
    prompt: str
    expected: str
    answers: tuple[tuple[str, str], ...]


def match_questions(compared: Sequence[Compared]) -> list[Question]:
    """Return the test questions, those first that most runs were asked; a base model's answer once for all it is of."""
    asked: dict[tuple[int, str], list[tuple[str, Answer]]] = {}
    for one in compared:
        for answer in one.evaluation.answers if one.evaluation else ():
            asked.setdefault((answer.row, answer.prompt), []).append((one.label, answer))
    found = []
    for (row, prompt), given in asked.items():
        bases = list(dict.fromkeys(answer.base for _, answer in given))
        one_base = len(bases) == 1
        by = [("Base model" if one_base else f"Base model of {label}", answer.base) for label, answer in given]
        tuned = [(label, answer.tuned) for label, answer in given]
        found.append(Question(row, prompt, given[0][1].expected, (*dict.fromkeys(by), *tuned)))
    return sorted(found, key=lambda question: (-len(question.answers), question.row))


def to_csv(compared: Sequence[Compared]) -> str:
    """Return all that is compared in long form: settings, what they came to, curves and answers, a row for each.

    A cell of words that a spreadsheet would reckon with begins with an apostrophe.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["part", "run", "title", "name", "step", "epoch", "seconds", "value", "note"])
    settings = list_settings([one.run for one in compared])
    for place, one in enumerate(compared):
        named = (one.run.name, one.run.title)
        for setting in settings:
            rows.writerow(_safe("setting", *named, setting.label, "", "", "", setting.values[place], ""))
        rows.writerow(_safe("outcome", *named, "State", "", "", "", one.run.state_word, ""))
        for fact in FACTS:
            value = fact.read(one)
            unit = one.currency if fact.kind == "money" else ""
            note = unit if value is not None else fact.why(one)
            rows.writerow(_safe("outcome", *named, fact.label, "", "", "", "" if value is None else value, note))
        for name, series in one.measures.series.items():
            rows.writerows(_safe("curve", *named, name, *cells) for cells in _list_points(one, series))
        for question in match_questions([one]):
            for by, words in (("Question", question.prompt), ("Expected", question.expected), *question.answers):
                rows.writerow(_safe("answer", *named, by, "", "", "", words, f"test row {question.row}"))
    return text.getvalue()


def _list_points(one: Compared, series: Series) -> Iterator[tuple[object, ...]]:
    whole = len(series.points) <= MOST_POINTS
    drawn = series.points if whole else sorted((*series.drawn.curve, *series.drawn.broken))
    per_epoch, first = one.measures.steps_per_epoch, one.measures.get("loss").first or series.first
    note = "" if whole else f"thinned, of {len(series.points)} points"
    for point in drawn:
        epoch = f"{point.step / per_epoch:.4f}" if per_epoch else ""
        yield point.step, epoch, f"{_seconds(point, first):.3f}", point.value, note


def _seconds(point: Point, first: Point | None) -> float:
    return (point.at_ms - first.at_ms) / 1000 if first else math.nan


def _safe(*cells: object) -> list[object]:
    return [to_cell(cell) if isinstance(cell, str) else cell for cell in cells]


def to_cell(text: str) -> str:
    """Return words for a cell of a CSV; with an apostrophe before them where a spreadsheet would reckon with them."""
    return "'" + text if text.startswith(_FORMULA) else text

"""All that a run measured, as a file: every point, whatever it is called and whether or not it is a number."""

from __future__ import annotations

import csv
import io
import json
import math

from core.runs.metrics import RunMetrics
from core.runs.metrics_file import to_csv, to_json
from core.runs.series import Columns, Ordered, Point, Series

POINTS = [
    Point(1, 2.5, 1_700_000_000_123),
    Point(2, math.nan, 1_700_000_001_000),
    Point(3, math.inf, 1_700_000_002_000),
]


def measures() -> RunMetrics:
    ordered = Ordered(Columns(POINTS))
    assert ordered.take_new()
    return RunMetrics("run-1", {"loss": ordered.to_series("loss", ()), "=cmd()": Series("=cmd()", POINTS[:1])})


def test_the_csv_has_every_point_and_no_formula() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(measures()).decode())))
    assert [(row["metric"], row["step"], row["value"]) for row in rows] == [
        ("loss", "1", "2.5"),
        ("loss", "2", "nan"),
        ("loss", "3", "inf"),
        ("'=cmd()", "1", "2.5"),
    ]
    assert rows[0]["time"] == "2023-11-14T22:13:20.123000Z"


def test_the_json_has_every_point_in_columns() -> None:
    assert json.loads(to_json(measures())) == {
        "run": "run-1",
        "metrics": {
            "loss": {"step": [1, 2, 3], "value": [2.5, None, None], "time_ms": [point.at_ms for point in POINTS]},
            "=cmd()": {"step": [1], "value": [2.5], "time_ms": [POINTS[0].at_ms]},
        },
    }


def test_a_run_without_measures_gives_the_heading_alone() -> None:
    assert to_csv(RunMetrics("run-1")) == b"metric,step,time,value\n"

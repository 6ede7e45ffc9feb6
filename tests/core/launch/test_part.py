"""A part of a long run: rows from all of the data, so many as end in ten minutes, and the way back to the whole."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from core.azureml.connection import Connection
from core.catalog.prices import CostRange
from core.dataset import find_dataset
from core.launch.drafts import create_draft
from core.launch.part import find_whole, try_part
from core.launch.plan import Estimate, LaunchPlan
from tests.chat_data import from_upload
from tests.launching import plan_launch
from tests.tiny_model import NAME, make_conversations


def make_plan(conn: Connection, hours: float, **parameters: object) -> LaunchPlan:
    data = from_upload("kettle", b"\n".join(json.dumps(row).encode() for row in make_conversations(1000)))
    draft = create_draft("local", model=NAME, compute="this-machine", dataset=data.key, parameters=parameters)
    plan = plan_launch(conn, draft)
    return replace(plan, estimate=Estimate(hours * 3600, hours * 3600, CostRange(0.0, 0.0)))


@pytest.mark.parametrize(("hours", "epochs", "rows"), [(5.0, 1, 30), (5.0, 3, 100), (500.0, 1, 20)])
def test_a_part_takes_as_many_rows_as_end_in_ten_minutes(
    conn: Connection, hours: float, epochs: int, rows: int
) -> None:
    plan = make_plan(conn, hours, num_train_epochs=epochs)
    made = try_part(plan)
    data = find_dataset(made.dataset)
    assert data is not None
    assert data.rows == pytest.approx(rows, abs=rows // 10 + 1)
    assert data.usable
    lines = [int(line.split("kettle ")[1].split("?")[0]) for line in _lines(data.train_path)]
    assert max(lines) - min(lines) > 700, "the rows come from all of the data"
    assert made.parameters == {"num_train_epochs": 1}
    whole = find_whole(made.id)
    assert whole is not None
    assert whole.id == plan.draft.id
    assert find_whole(whole.id) is None


def test_a_run_that_is_long_by_its_steps_takes_fewer_of_them(conn: Connection) -> None:
    plan = make_plan(conn, 10.0, max_steps=6_000)
    made = try_part(plan)
    assert (made.dataset, made.parameters["max_steps"]) == (plan.draft.dataset, 100)


def test_a_part_takes_only_rows_that_a_run_reads(conn: Connection) -> None:
    rows = make_conversations(600)
    for number, row in enumerate(rows):
        if number % 12:
            row["messages"] = [{"role": "assistant", "content": f"Alone {number}"}]
    data = from_upload("mixed", b"\n".join(json.dumps(row).encode() for row in rows))
    draft = create_draft("local", model=NAME, compute="this-machine", dataset=data.key)
    plan = replace(plan_launch(conn, draft), estimate=Estimate(1e6, 1e6, CostRange(0.0, 0.0)))
    part = plan_launch(conn, try_part(plan))
    assert part.ready, part.failures
    assert part.dataset.rows == 20


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()

"""How long a run is said to take: by the length of its rows, the method, and what runs before it measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from core.catalog.compute import Compute
from core.catalog.families import find_family
from core.catalog.prices import Price
from core.home import Home
from core.launch.estimate import Work, estimate, measure_work
from core.launch.gpus import Power
from core.launch.plan import Estimate
from core.launch.rows import RunRows
from core.recipe import build_recipe
from core.runs.throughput import Pace, add_pace, find_pace

MACHINE = Compute(
    "this-machine", "cluster", "local.cpu2", "Succeeded", "Steady", 2, 0, 0, 1, 1, None, {}, None, price=Price(0.0)
)
SIZE = "Standard_NC24ads_A100_v4"
MODEL = "SmolLM2-135M-Instruct"


def tell(work: Work, **settings: Any) -> Estimate:
    recipe = build_recipe({}, {"apply_lora": "true", **settings}, here=True)
    return estimate("local", MODEL, MACHINE, recipe, work, is_tested=False)


def keep(run: str, **pace: Any) -> None:
    add_pace("local", MODEL, "this-machine", run, Pace(**pace))


def test_a_speed_of_short_rows_is_not_taken_for_long_ones(home: Home) -> None:
    """Measured: 596 tokens/s on rows of 60 tokens, 210 on rows of 1,100."""
    keep("short", tokens_per_s=596.0, row=60.0, around_s=0.0)
    told = tell(Work(tokens=210_000.0, validated=0.0, row=1100.0))
    assert told.low_s < 1000.0 < told.high_s, "at 210 tokens/s"
    assert told.high_s / told.low_s < 4
    assert "on rows of 1,100 tokens, from 1 run" in told.basis


def test_runs_of_a_like_length_and_method_count_first(home: Home) -> None:
    for number in range(3):
        keep(f"long-{number}", tokens_per_s=200.0, row=1000.0, around_s=10.0)
        keep(f"full-{number}", tokens_per_s=90.0, row=1000.0, lora=False, around_s=10.0)
        keep(f"short-{number}", tokens_per_s=600.0, row=60.0, around_s=10.0)
    told = tell(Work(tokens=200_000.0, validated=0.0, row=1000.0))
    assert (told.low_s, told.high_s) == pytest.approx((1000 / 1.3 + 10 / 1.3, 1000 * 1.3 + 13), rel=0.01)
    full = tell(Work(tokens=90_000.0, validated=0.0, row=1000.0), apply_lora="false", learning_rate=1e-4)
    assert full.low_s < 1010 < full.high_s


def test_full_training_takes_longer_than_lora_before_anything_was_measured(home: Home) -> None:
    work = Work(tokens=1e6, validated=0.0, row=100.0)
    assert tell(work, apply_lora="false").high_s > 1.3 * tell(work).high_s
    assert "nothing has been measured here yet" in tell(work).basis


def test_the_work_counts_padding_epochs_and_each_validation() -> None:
    lengths = {"train": np.array([50, 150]), "validation": np.array([100]), "test": np.array([10])}
    rows = RunRows(lengths, dict.fromkeys(lengths, 0), 200, 0, 2, True, 0, 10, 150, True)
    by_epoch = build_recipe({}, {"num_train_epochs": 3}, here=True)
    assert measure_work(by_epoch, rows, steps=6, steps_per_epoch=2) == Work(600.0, 300.0, 125.0)
    padded = build_recipe({}, {"pad_to_max_length": "true", "max_seq_length": 200}, here=True)
    assert measure_work(padded, rows, steps=2, steps_per_epoch=2) == Work(400.0, 200.0, 200.0)
    silent = build_recipe({}, {"evaluation_strategy": "disable"}, here=True)
    assert measure_work(silent, rows, steps=2, steps_per_epoch=2).validated == 0
    for here, times in ((True, 3), (False, 2)):  # this machine measures after the last step, too
        by_steps = build_recipe({}, {"evaluation_strategy": "steps", "eval_steps": 4}, here=here)
        assert measure_work(by_steps, rows, steps=10, steps_per_epoch=2).validated == 100 * times


def test_the_estimate_says_how_good_the_last_ones_were(home: Home) -> None:
    work = Work(tokens=1000.0, validated=0.0, row=100.0)
    assert tell(work).record == ""
    keep("right", tokens_per_s=500.0, told_low_s=60.0, told_high_s=120.0, took_s=100.0)
    assert tell(work).record == "The last estimate held."
    keep("late", tokens_per_s=500.0, told_low_s=60.0, told_high_s=120.0, took_s=240.0)
    keep("early", tokens_per_s=500.0, told_low_s=60.0, told_high_s=120.0, took_s=50.0)
    assert tell(work).record == "Of the last 3 estimates 1 held; the worst was 50% too short."


CLUSTER = replace(MACHINE, name="gpu", size=SIZE, gpus=1, max_nodes=4, nodes=0, idle_s=120, price=Price(3.6))
PHI = Power(14_000_000_000, "stated", find_family("standardNCADSA100v4Family"), gpus=1)
WORK = Work(tokens=1e6, validated=0.0, row=100.0)


def tell_azure(
    power: Power | None = PHI, compute: Compute = CLUSTER, tested: bool = False, **settings: Any
) -> Estimate:
    recipe = build_recipe({}, {"apply_lora": "true", "precision": "16", **settings}, here=False)
    return estimate("ml-dev", "Phi-4", compute, recipe, WORK, is_tested=tested, power=power)


def test_an_unmeasured_model_is_reckoned_by_its_parameters_and_gpus(home: Home) -> None:
    told = tell_azure()
    assert told.basis == (
        "assumed 334 to 1,393 tokens/s, from 14 B parameters (stated) on 1 × A100 80 GiB; not measured"
    )
    quarter = tell_azure(replace(PHI, parameters=3_500_000_000))
    trained = [next(line for line in each.lines if line.title == "Training").high_s for each in (told, quarter)]
    assert trained[0] == pytest.approx(4 * trained[1])
    assert tell_azure(replace(PHI, family=find_family("standardNCASv3_T4 Family"))).high_s > 3 * told.high_s
    assert tell_azure(apply_lora="false").high_s > 1.3 * told.high_s
    assert "the size of the model or its GPUs are not known" in tell_azure(None).basis


def test_all_that_bills_is_a_line_of_the_cost(home: Home) -> None:
    told = tell_azure(replace(PHI, nodes=2), tested=True, num_nodes_finetune=2)
    lines = {line.title: line for line in told.lines}
    assert list(lines) == [
        "Start of the nodes",
        "Steps before and after training",
        "Training",
        "Evaluation",
        "Idle until the cluster scales down",
    ]
    assert [line.nodes for line in told.lines] == [2, 1, 2, 1, 2]
    assert lines["Idle until the cluster scales down"].cost.high == pytest.approx(2 * 3.6 * 120 / 3600)
    assert lines["Start of the nodes"].time_words == "2 to 10 min × 2 nodes"
    assert told.cost.high == pytest.approx(sum(line.cost.high or 0 for line in told.lines))
    running = tell_azure(compute=replace(CLUSTER, nodes=1, min_nodes=1))
    assert [line.title for line in running.lines] == ["Steps before and after training", "Training"]
    assert tell_azure(compute=replace(CLUSTER, price=Price(None))).cost_words == "price unknown"


def test_a_measured_speed_counts_for_other_nodes_and_models_as_a_share_of_their_gpus(home: Home) -> None:
    peak = PHI.find_peak(build_recipe({}, {"apply_lora": "true", "precision": "16"}, here=False))
    add_pace("ml-dev", "Phi-3", "other", "otter", Pace(0.2 * 4 * peak, peak=4 * peak))
    other = tell_azure()
    assert other.basis.endswith("from 14 B parameters (stated) on 1 × A100 80 GiB, by 1 run of other models here")
    assert other.basis.startswith(f"{0.2 * peak:,.0f} tokens/s")
    add_pace("ml-dev", "Phi-4", "gpu", "heron", Pace(0.1 * peak, peak=peak))
    own = tell_azure(replace(PHI, nodes=2))
    assert own.basis == f"{0.2 * peak:,.0f} tokens/s, from 1 run of this model here"


def test_a_kept_pace_is_read_as_it_was_kept_and_can_be_added_to(home: Home) -> None:
    keep("otter", tokens_per_s=512.5, row=64.0, lora=False)
    keep("otter", tokens_per_s=512.5, row=64.0, lora=False, took_s=31.5)
    assert find_pace("otter") == Pace(512.5, 64.0, lora=False, took_s=31.5)
    assert find_pace("nobody") is None

"""What Launch says of rows and steps is what the pipeline's own steps then do with the same files."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.azureml.connection import Room
from core.catalog.families import find_family
from core.dataset import ChatDataset, count_tokens_with
from core.engine.memory_estimate import ModelShape, estimate_peak, read_shape
from core.engine.preprocess import preprocess
from core.engine.step import Step
from core.engine.token_rows import read_rows
from core.errors import BadInput
from core.home import Home
from core.launch.estimate import measure_work
from core.launch.gpus import Power
from core.launch.plan import Check, CheckState
from core.launch.rows import RunRows, deal_rows
from core.launch.settings_checks import (
    check_gpu_memory,
    check_length,
    check_memory,
    check_rows,
    check_settings,
    check_weights,
)
from core.recipe import build_recipe, total_steps
from tests.chat_data import from_upload
from tests.tiny_model import build_tiny_model, make_conversations


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("base-models"))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("TUNEDECK_HOME", str(tmp_path / "home"))
    return Home(tmp_path / "home")


def save(rows: list[Any], model: Path, test: list[Any] | None = None) -> ChatDataset:
    parts = [b"\n".join(json.dumps(row).encode() for row in each) if each else None for each in (rows, test)]
    assert parts[0] is not None
    return count_tokens_with(from_upload("kettle", parts[0], parts[1]), model)


def uneven(count: int) -> list[Any]:
    """Return conversations whose questions grow, so that a cut takes the answers of some."""
    rows = make_conversations(count)
    for number, row in enumerate(rows):
        row["messages"][0]["content"] *= 1 + number % 7
    return rows


def run_preprocess(folder: Path, dataset: ChatDataset, model: Path, **parameters: object) -> Path:
    (folder / "outputs").mkdir(parents=True)
    files = {"train_file": str(dataset.train_path)}
    if dataset.test_path:
        files["test_file"] = str(dataset.test_path)
    values = {name: str(value) for name, value in parameters.items()}
    preprocess(Step(folder, {**files, "model_dir": str(model), "parameters": values}))
    return folder / "outputs"


@pytest.mark.parametrize("seed", [0, 42, 7_000])
@pytest.mark.parametrize("limit", [-1, 20, 60])
@pytest.mark.parametrize("with_test", [True, False])
def test_the_rows_that_are_told_are_those_that_train(
    tmp_path: Path, model: Path, seed: int, limit: int, with_test: bool
) -> None:
    alone = [{"messages": [{"role": "assistant", "content": f"Alone {number}"}]} for number in range(3)]
    dataset = save([*uneven(33), *alone, *uneven(11)], model, uneven(9) if with_test else None)
    told = deal_rows(dataset, limit if limit > 0 else 512, seed)
    if told.empty_split:
        with pytest.raises(BadInput, match=f"No answer of the {told.empty_split} data is left"):
            run_preprocess(tmp_path / "preprocess", dataset, model, max_seq_length=limit, seed=seed)
        return
    outputs = run_preprocess(tmp_path / "preprocess", dataset, model, max_seq_length=limit, seed=seed)
    for name, lengths in told.splits.items():
        assert read_rows(outputs / f"{name}.safetensors").lengths.tolist() == lengths.tolist(), name
    facts = json.loads((outputs / "preprocess.json").read_text())["splits"]
    assert told.cut == sum(each["cut_rows"] for each in facts.values())
    assert {name: each["empty_rows"] for name, each in facts.items()} == dict(told.answerless)
    assert told.alone == dataset.rows - told.conversations
    assert told.measured


def test_a_limit_that_leaves_no_answer_is_refused_with_one_that_does(tmp_path: Path, model: Path) -> None:
    dataset = save(uneven(40), model)
    rows = deal_rows(dataset, 8, 42)
    check = check_length(rows, 512)
    assert check.state is CheckState.FAILED
    assert "No answer of the train rows is left within 8 tokens." in check.detail
    assert check.fix is not None
    allowed = check.fix.settings["max_seq_length"]
    assert isinstance(allowed, int)
    assert check_length(deal_rows(dataset, allowed, 42), 512).state is CheckState.OK
    run_preprocess(tmp_path / "preprocess", dataset, model, max_seq_length=allowed)


def test_a_limit_is_offered_only_where_it_leaves_answers(model: Path) -> None:
    rows = deal_rows(save(uneven(40), model), 8, 42)
    check = check_length(rows, rows.least - 1)
    assert (check.state, check.fix) == (CheckState.FAILED, None)
    check = check_length(rows, rows.least)
    assert check.fix is not None
    assert check.fix.settings == {"max_seq_length": rows.least}


def test_a_test_file_of_single_messages_is_said_to_hold_no_conversation(tmp_path: Path, model: Path) -> None:
    alone = [{"messages": [{"role": "assistant", "content": f"Alone {number}"}]} for number in range(3)]
    dataset = save(make_conversations(40), model, alone)
    check = check_length(deal_rows(dataset, -1, 42), None)
    assert (check.state, check.fix) == (CheckState.FAILED, None)
    assert check.detail == "There is no conversation among the test rows."
    with pytest.raises(BadInput, match="No answer of the test data"):
        run_preprocess(tmp_path / "preprocess", dataset, model)


def test_rows_without_an_answer_within_the_limit_are_counted(model: Path) -> None:
    rows = deal_rows(save(uneven(70), model), 60, 42)
    lost = sum(rows.answerless.values())
    assert lost > 0
    check = check_length(rows, 512)
    assert (check.state, check.detail.split(" ")[0]) == (CheckState.WARNING, str(lost))


def test_a_component_that_lost_inputs_is_checked_all_the_same(rows: RunRows) -> None:
    recipe = build_recipe({}, {}, ["num_train_epochs", "learning_rate"], here=True)
    steps = total_steps(recipe.values, len(rows.train), 0)
    assert all(check.detail for check in check_settings(recipe, rows, 0, steps))
    assert measure_work(recipe, rows, steps, steps).tokens > 0
    shape = ModelShape(134_515_008, 28_311_552, 269_060_552, 576, 1536, 30, 9, 305_280)
    assert check_memory(shape, Room(0, 10**10, 10**10), recipe, rows) is not None


def test_a_wrong_value_of_the_models_own_is_mended_too(rows: RunRows) -> None:
    tags = {"adam_beta2": 1.5}
    (check,) = check_settings(build_recipe(tags, {}, here=True), rows, 0, 30)
    assert (check.state, check.fix is not None) == (CheckState.FAILED, True)
    assert check.fix is not None
    assert not build_recipe(tags, dict(check.fix.settings), here=True).problems


def test_what_is_only_estimated_is_never_ok(model: Path) -> None:
    rows = [b"\n".join(json.dumps(row).encode() for row in make_conversations(40))]
    found = deal_rows(from_upload("kettle", rows[0]), 512, 42)
    assert not found.measured
    assert check_length(found, 512).state is CheckState.OPEN


def test_data_of_single_messages_is_refused_before_it_is_sent(model: Path) -> None:
    alone = [{"messages": [{"role": "assistant", "content": f"Alone {number}"}]} for number in range(40)]
    check = check_rows(deal_rows(save([*make_conversations(4), *alone], model), 512, 42))
    assert check.state is CheckState.FAILED
    assert "4 conversations to train on; at least 10 are needed. 36 rows of one message alone" in check.detail


@pytest.fixture
def rows(model: Path) -> RunRows:
    return deal_rows(save(make_conversations(40), model), 512, 42)


@pytest.mark.parametrize(
    ("settings", "title", "words"),
    [
        ({"warmup_steps": 100}, "Warm-up", "The warm-up of 100 steps is not over when the run ends after 28."),
        ({"evaluation_strategy": "steps"}, "Evaluation", "before its first evaluation at 500."),
        ({"learning_rate": 0.5, "lora_alpha": 2**31 - 1}, "Learning rate", "alpha makes it"),
        ({"logging_steps": 30}, "Logging", "The loss is written every 30 steps of 28: it is no curve."),
        ({"per_device_train_batch_size": 64}, "Batch", "The total batch of 64 is larger than the 28 rows"),
        ({"learning_rate": 0.5}, "Learning rate", "LoRA learns with 1e-6 to 0.01; this is 0.5."),
        ({"learning_rate": 1e-9}, "Learning rate", "this is 1e-9."),
        ({"lora_alpha": 2_000_000}, "Learning rate", "alpha makes it 15,625 times as much."),
        ({"apply_lora": "false", "learning_rate": 5e-3}, "Learning rate", "Full fine-tuning learns with"),
        ({"adam_beta1": 1.5}, "Settings", "Adam beta 1 (adam_beta1) is 1.5; the most is 0.999999."),
    ],
)
def test_what_is_surely_not_meant_is_named_and_one_button_mends_it(
    rows: RunRows, settings: dict[str, Any], title: str, words: str
) -> None:
    own: dict[str, Any] = {"num_train_epochs": 1, "logging_steps": 1, "learning_rate": 2e-3} | settings
    check = check_all(own, rows)[title]
    assert words in check.detail
    assert check.confirm == (title == "Learning rate")
    assert check.fix is not None
    mended = {name: value for name, value in (own | dict(check.fix.settings)).items() if value is not None}
    again = check_all(mended, rows).get(title)
    assert again is None or again.state is CheckState.OK


def check_all(settings: dict[str, Any], rows: RunRows) -> dict[str, Check]:
    recipe = build_recipe({}, settings, here=True)
    checks = check_settings(recipe, rows, 0, total_steps(recipe.values, len(rows.train), 0))
    return {check.title: check for check in checks}


def test_no_batch_is_offered_where_the_nodes_alone_take_more_rows_than_there_are(rows: RunRows) -> None:
    wide = build_recipe({}, {"num_nodes_finetune": 5}, here=False)
    checks = {check.title: check for check in check_settings(wide, rows, 8, 3)}
    assert checks["Batch"].fix is None
    fewer = build_recipe({}, {"num_nodes_finetune": 3, "per_device_train_batch_size": 4}, here=False)
    fix = next(check.fix for check in check_settings(fewer, rows, 8, 3) if check.title == "Batch")
    assert fix is not None
    assert fix.settings["per_device_train_batch_size"] == 1


def test_memory_is_not_saved_by_a_limit_that_leaves_no_answer(model: Path) -> None:
    asked = make_conversations(40)
    for row in asked:
        row["messages"][0]["content"] *= 60
    long = deal_rows(save(asked, model), -1, 42)
    shape = ModelShape(134_515_008, 28_311_552, 269_060_552, 576, 1536, 30, 9, 305_280)
    tight = Room(disk=0, memory=8 * 10**9, free_memory=1_700_000_000)
    check = check_memory(shape, tight, build_recipe({}, {}, here=True), long)
    assert check is not None
    length = check.fix.settings.get("max_seq_length", long.longest) if check.fix else long.longest
    assert int(length) >= long.least > 256


def test_weights_that_fit_no_memory_are_refused_and_a_tight_run_is_offered_what_fits(rows: RunRows) -> None:
    shape = ModelShape(134_515_008, 28_311_552, 269_060_552, 576, 1536, 30, 9, 305_280)  # SmolLM2-135M
    recipe = build_recipe({}, {"per_device_train_batch_size": 16, "apply_lora": "false"}, here=True)
    small = check_memory(shape, Room(disk=0, memory=10**8, free_memory=10**8), recipe, rows)
    assert small is not None
    assert (small.state, "weights alone take 0.5 GB" in small.detail) == (CheckState.FAILED, True)
    tight = Room(disk=0, memory=8 * 10**9, free_memory=2_200_000_000)
    check = check_memory(shape, tight, recipe, rows)
    assert check is not None
    assert (check.state, check.confirm) == (CheckState.WARNING, True)
    assert check.fix is not None
    mended = build_recipe({}, {**recipe.values, **check.fix.settings}, here=True)
    again = check_memory(shape, tight, mended, rows)
    assert again is not None
    assert again.state is CheckState.OK


def test_a_run_on_a_gpu_is_held_against_its_card(rows: RunRows) -> None:
    shape = ModelShape(134_515_008, 28_311_552, 269_060_552, 576, 1536, 30, 9, 305_280)
    recipe = build_recipe({}, {"apply_lora": "false", "per_device_train_batch_size": 1}, here=True)
    large, small = (Room(0, 8 * 10**9, 10**6, card=card) for card in (24 * 10**9, 10**9))
    fits, tight = (check_memory(shape, room, recipe, rows, gpus=1) for room in (large, small))
    assert fits is not None
    assert tight is not None
    assert (fits.state, tight.state) == (CheckState.OK, CheckState.WARNING)
    assert "its GPU" in tight.detail
    assert check_memory(shape, Room(0, 10**10, 10**10), recipe, rows, gpus=1) is None, "nobody says how large it is"


# Peaks of the local trainer on SmolLM2-135M, in GB: `python -m benchmarks.memory` on two cores with bf16.
MEASURED = [
    ({"apply_lora": "true", "precision": "16"}, 4, 100, 2.83),
    ({"apply_lora": "true", "precision": "32"}, 2, 500, 3.32),
    ({"apply_lora": "true", "precision": "16"}, 1, 1000, 2.83),
    ({"apply_lora": "true", "precision": "16"}, 4, 1000, 3.75),
    ({"apply_lora": "true", "precision": "16", "lora_r": 128}, 4, 300, 3.96),
    ({"apply_lora": "false", "precision": "16"}, 2, 500, 4.71),
    ({"apply_lora": "false", "precision": "32"}, 4, 100, 3.48),
    ({"apply_lora": "false", "precision": "32", "optim": "adafactor"}, 8, 100, 3.33),
]


@pytest.mark.parametrize(("settings", "batch", "length", "peak_gb"), MEASURED)
def test_the_estimate_of_memory_is_right_within_a_quarter_of_what_was_measured(
    settings: dict[str, Any], batch: int, length: int, peak_gb: float
) -> None:
    shape = ModelShape(134_515_008, 28_311_552, 269_060_552, 576, 1536, 30, 9, 305_280)
    values = build_recipe({}, {**settings, "per_device_train_batch_size": batch}, here=True).values
    size = 2 if values["precision"] == "16" else 4
    assert estimate_peak(shape, values, length, size, 21 * 10**9) / 1e9 == pytest.approx(peak_gb, rel=0.25)


def test_a_model_without_weights_here_has_no_shape(tmp_path: Path, model: Path) -> None:
    assert read_shape(model) is not None
    shutil.copy(model / "config.json", tmp_path)
    assert read_shape(tmp_path) is None


def test_answers_of_weight_0_are_warned_of_where_azure_trains_alone(model: Path) -> None:
    rows: list[Any] = make_conversations(40)
    assert check_weights(save(rows, model), here=False) is None
    for row in rows[:3]:
        answer = {"role": "assistant", "content": "Not this.", "weight": 0}
        row["messages"] = [*row["messages"][:1], answer, *row["messages"]]
    dataset = save(rows, model)
    assert dataset.usable
    assert check_weights(dataset, here=True) is None
    told = check_weights(dataset, here=False)
    assert told is not None
    assert (told.state, told.confirm) == (CheckState.WARNING, True)
    assert told.detail == "3 rows hold answers with weight 0, which are learned on Azure too."


@pytest.mark.parametrize("limit", [-1, 60])
def test_rows_that_hold_nothing_but_answers_of_weight_0_are_told_and_trained_as_none(
    tmp_path: Path, model: Path, limit: int
) -> None:
    rows: list[Any] = make_conversations(40)
    for row in rows[5:12]:
        row["messages"][-1]["weight"] = 0
    dataset = save(rows, model)
    assert [(finding.code, finding.count) for finding in dataset.findings if finding.kind.severity.blocks] == [
        ("no_assistant", 7)
    ]
    told = deal_rows(dataset, limit, 42)
    outputs = run_preprocess(tmp_path / "preprocess", dataset, model, max_seq_length=limit, seed=42)
    assert told.conversations == 33
    for name, lengths in told.splits.items():
        assert read_rows(outputs / f"{name}.safetensors").lengths.tolist() == lengths.tolist(), name


def test_memory_on_azures_gpus_warns_and_refuses_only_weights_that_no_card_holds(rows: RunRows) -> None:
    large = Power(70_000_000_000, "by its name", find_family("standardNCADSA100v4Family"), gpus=1)
    small = replace(large, parameters=3_800_000_000)

    def check(power: Power, **settings: Any) -> Check | None:
        recipe = build_recipe({}, {"precision": "16", "apply_lora": "false", **settings}, here=False)
        return check_gpu_memory(power, recipe, rows)

    refused = check(large, apply_lora="true")
    assert refused == Check(
        "Memory",
        CheckState.FAILED,
        "The weights alone take 130 GiB; 1 × A100 80 GiB is all there is.",
        "Pick a size with more or larger GPUs, more nodes, or a smaller model.",
    )
    read_out = check(replace(large, source="by its text"), apply_lora="true")
    full, shared = check(small), check(replace(small, gpus=4), apply_deepspeed="true", deepspeed_stage="3")
    fits = check(small, apply_lora="true")
    assert read_out is not None
    assert full is not None
    assert shared is not None
    assert fits is not None
    assert [each.state for each in (read_out, full, shared, fits)] == ["warning", "ok", "ok", "ok"]
    assert check(replace(small, family=find_family("standard NCASv3_T4 Family")), apply_deepspeed="true") == Check(
        "Memory",
        CheckState.WARNING,
        "About 57 GiB on each GPU, an estimate from 3.8 B parameters (by its name) on 1 × T4 16 GiB.",
        "DeepSpeed may move a part to the node's memory; LoRA, a smaller batch or shorter rows need less.",
    )

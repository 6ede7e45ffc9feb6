"""Ready is a promise: what Launch lets start the workspace accepts and the trainer begins, whatever the settings."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from core.azureml.connection import Connection, connect
from core.azureml.settings import local_settings
from core.dataset import upload
from core.engine.component import check_inputs
from core.engine.finetune import finetune
from core.engine.preprocess import preprocess
from core.engine.step import Step
from core.engine.validate import validate
from core.errors import TunedeckError
from core.launch.drafts import Draft
from core.launch.pipeline import PipelineRequest, submit_pipeline
from core.launch.plan import CheckState, LaunchPlan
from core.launch.preflight import LaunchFacts, make_plan, read_facts
from core.launch.request import make_request
from core.recipe import PARAMETERS, Parameter
from core.runs.jobs import cancel_run
from tests.chat_data import from_upload
from tests.local_server import LocalServer, running_server
from tests.soak import Soak
from tests.tiny_model import NAME, build_tiny_model, make_conversations

SEED = 12
EXAMPLES = 50  # of a round: the first ones of hypothesis are the simplest
STEPS = 3  # of each run; the first ones show what cannot work


def draw_value(parameter: Parameter) -> st.SearchStrategy[Any]:
    """Return values of a parameter: usual ones, its limits, and what lies beyond."""
    if parameter.choices:
        return st.sampled_from([*parameter.choices, *parameter.choices, "neither"])
    if parameter.kind == "size":
        return st.sampled_from(["5g", "512m", "lots", ""])
    least = parameter.minimum if parameter.minimum is not None else parameter.above or 0.0
    most = parameter.maximum if parameter.maximum is not None else parameter.below
    edges = [parameter.default, least, least - 1, *([most, most + 1] if most is not None else [2**31, 10.0])]
    if parameter.kind == "int":
        usual: st.SearchStrategy[Any] = st.integers(int(least), int(least) + 40)
        return st.one_of(usual, usual, st.sampled_from([int(edge) for edge in edges]), st.just("many"))
    usual = st.floats(least, min(most or 1.0, 1.0))
    return st.one_of(usual, usual, st.sampled_from(edges), st.just("nan"))


SETTINGS = st.lists(st.sampled_from(PARAMETERS), max_size=6, unique=True).flatmap(
    lambda chosen: st.fixed_dictionaries({each.name: draw_value(each) for each in chosen})
)


def make_rows(kind: str) -> list[Any]:
    """Return small data: even, of many lengths, hardly enough, mostly without a conversation."""
    rows = make_conversations({"even": 24, "uneven": 30, "few": 12, "alone": 14}[kind])
    for number, row in enumerate(rows):
        if kind == "uneven":
            row["messages"][0]["content"] *= 1 + number % 9
        if kind == "alone" and number > 10:
            row["messages"] = row["messages"][1:]
    return rows


def configure(examples: int) -> settings:
    """Return how many examples are made, and how; what fails is made smaller."""
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )


DATA = ("even", "uneven", "few", "alone")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base-models")
    build_tiny_model(folder)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[LocalServer]:
    with running_server(tmp_path_factory.mktemp("served"), TUNEDECK_BASE_MODELS=str(models)) as running:
        yield running


@pytest.fixture(scope="module")
def read(server: LocalServer, models: Path) -> dict[str, LaunchFacts]:
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEDECK_HOME", str(server.home.path))
        patch.setenv("TUNEDECK_BASE_MODELS", str(models))
        conn = connect(local_settings(), home=server.home)
        for kind in DATA:
            data = from_upload(kind, b"\n".join(json.dumps(row).encode() for row in make_rows(kind)))
            found[kind] = read_facts(conn, NAME, "1", "this-machine", data.key)
    return found


@pytest.fixture
def facts(
    read: dict[str, LaunchFacts], conn: Connection, models: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, LaunchFacts]:
    """What a launch of the tiny model on this machine stands on, for each data."""
    monkeypatch.setenv("TUNEDECK_BASE_MODELS", str(models))
    return read


def plan(facts: LaunchFacts, parameters: dict[str, Any]) -> LaunchPlan:
    found = make_plan(facts, Draft("k3f9", "local", parameters=parameters))
    for check in found.failures:
        assert check.title
        assert check.detail
    return found


def begin(folder: Path, model: Path, found: LaunchPlan) -> str:
    """Take the pipeline's own steps until some optimiser steps are taken; returns what the trainer stopped with."""
    dataset, sent = found.dataset, make_request(found, "tiny-otter").parameters
    inputs = {name: str(value) for name, value in {**sent, "number_of_gpu_to_use_finetuning": found.gpus}.items()}
    assert check_inputs(inputs) == []
    short = inputs | {"max_steps": str(min(found.total_steps, STEPS))}
    files = {"train_file": str(dataset.train_path)}
    files |= {"test_file": str(dataset.test_path)} if dataset.test_path else {}
    config = {**files, "model_dir": str(model), "parameters": inputs}
    folders = {name: folder / name for name in ("validate", "preprocess", "finetune")}
    for each in folders.values():
        (each / "outputs").mkdir(parents=True, exist_ok=True)
    validate(Step(folders["validate"], config))
    preprocess(Step(folders["preprocess"], config))
    trained = {"model_dir": str(model), "data_dir": str(folders["preprocess"] / "outputs"), "cores": 1}
    try:
        finetune(Step(folders["finetune"], {**trained, "parameters": short}))
    except TunedeckError as error:
        return error.message
    measured = json.loads((folders["finetune"] / "outputs" / "training.json").read_text())
    assert measured["steps"] == min(found.total_steps, STEPS) or found.recipe["apply_early_stopping"] == "true"
    return ""


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_what_is_ready_begins_to_train(
    facts: dict[str, LaunchFacts], models: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """100 settings and data, some 10 s; 2,000 in a soak."""
    seen: Counter[bool] = Counter()

    @configure(EXAMPLES)
    @given(parameters=SETTINGS, kind=st.sampled_from(DATA))
    def check(parameters: dict[str, Any], kind: str) -> None:
        found = plan(facts[kind], parameters)
        seen[found.ready] += 1
        if not found.ready:
            return
        assert all(each.state is not CheckState.OPEN for each in found.checks)
        failure = begin(tmp_path_factory.mktemp("run"), models / NAME / "1", found)
        assert not failure or ("diverged" in failure and found.confirmations), failure

    with Soak("ready", quick=2, long=40, what="launches that are said to be ready") as soak:
        for number, _ in soak.rounds():
            seed(soak.seed * 100_000 + number)(check)()
            soak.add("settings", EXAMPLES)
    assert min(seen[True], seen[False]) > sum(seen.values()) / 10, f"hardly tried: {seen}"


ODD = [None, "", "many", "nan", "1e308", 1e300, -1_000_000, True, [1], "٣"]


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_an_odd_value_is_named_and_all_else_goes_by_the_default(facts: dict[str, LaunchFacts], odd: object) -> None:
    usual = plan(facts["even"], {})
    for parameter in PARAMETERS:
        found = plan(facts["even"], {parameter.name: odd})
        assert found.estimate is not None
        assert found.estimate.time_words
        if parameter.name in found.recipe.problems:
            assert not found.ready
            assert any(parameter.name in check.detail for check in found.failures)
            assert found.rows == usual.rows
            assert found.total_steps > 0


def test_what_a_component_of_another_version_does_not_take_counts_as_its_default(facts: dict[str, LaunchFacts]) -> None:
    few = replace(facts["even"], inputs=("learning_rate", "num_train_epochs", "logging_steps"), here=False)
    found = plan(few, {"logging_steps": 1})
    assert found.ready
    assert set(make_request(found, "tiny-otter").parameters) <= set(few.inputs or ())


def test_what_is_wrong_in_a_models_own_defaults_is_mended_by_one_button(facts: dict[str, LaunchFacts]) -> None:
    for defaults, own in (
        ({"logging_steps": "many"}, {}),
        ({"apply_early_stopping": "true"}, {"evaluation_strategy": "disable"}),
        ({"pad_to_max_length": "true"}, {}),
    ):
        stands = replace(facts["even"], model=replace(facts["even"].model, defaults=dict(defaults)))
        found = plan(stands, dict(own))
        (check,) = (each for each in found.failures if each.title == "Settings")
        assert check.fix is not None
        assert plan(stands, {**own, **check.fix.settings}).ready


def test_what_is_ready_is_accepted_by_the_workspace(conn: Connection, facts: dict[str, LaunchFacts]) -> None:
    numbers = itertools.count()
    sent = upload(conn, facts["even"].dataset)

    @seed(SEED)
    @configure(15)
    @given(parameters=SETTINGS)
    def check(parameters: dict[str, Any]) -> None:
        found = plan(facts["even"], parameters)
        if not found.ready:
            return
        name = f"ready-{next(numbers)}"
        submit_pipeline(conn, PipelineRequest(name, make_request(found, "tiny-otter"), train=sent.train_uri))
        cancel_run(conn, name)

    check()

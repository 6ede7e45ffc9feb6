"""Several runs from one set-up: each combination is checked as one run is, and all are priced and capped together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from core.azureml import tags
from core.azureml.connection import Connection
from core.catalog.prices import CostRange, add_costs
from core.errors import BadInput
from core.launch.drafts import Draft, create_draft, save_draft
from core.launch.group import GroupPlan, parse_values, plan_group
from core.launch.plan import Estimate
from core.launch.preflight import LaunchFacts, read_facts
from core.operations import Launch, copy_setup, list_group, start_group
from core.operations.ledger import Ledger
from core.recipe import from_job_inputs
from core.runs.states import JobState, Run
from tests.chat_data import from_upload
from tests.local_server import LocalServer, running_server
from tests.tiny_model import NAME, build_tiny_model, make_conversations


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    base_models = tmp_path_factory.mktemp("base-models")
    build_tiny_model(base_models)
    with running_server(tmp_path_factory.mktemp("served"), TUNEDECK_BASE_MODELS=str(base_models)) as running:
        yield running


@pytest.fixture
def draft(conn: Connection) -> Draft:
    rows = "\n".join(json.dumps(row) for row in make_conversations(24))
    data = from_upload("kettle", rows.encode())
    return create_draft("local", model=NAME, compute="this-machine", dataset=data.key, parameters={"max_steps": 4})


@pytest.fixture
def facts(conn: Connection, draft: Draft) -> LaunchFacts:
    return read_facts(conn, draft.model, draft.model_version, draft.compute, draft.dataset)


def test_every_combination_is_planned_and_none_beyond_twenty(facts: LaunchFacts, draft: Draft) -> None:
    group = plan_group(facts, draft, {"learning_rate": (1e-4, 1e-3), "lora_r": (4, 8, 16)})
    sent = [(plan.recipe["learning_rate"], plan.recipe["lora_r"], plan.total_steps) for plan in group.plans]
    assert sent == [(rate, rank, 4) for rate in (1e-4, 1e-3) for rank in (4, 8, 16)]
    assert group.titles[0].endswith(" 0.0001 4")
    assert group.at_once == 1
    for ranks in ((4,), range(1, 22)):
        with pytest.raises(BadInput, match=f"These values make {len(ranks)} run"):
            plan_group(facts, draft, {"lora_r": tuple(ranks)})


def test_one_combination_that_fails_a_check_keeps_all_back_and_is_named(facts: LaunchFacts, draft: Draft) -> None:
    group = plan_group(facts, draft, {"lora_r": (0, 8)})
    assert [count for check, count in group.checks if check.state == "failed"] == [1] * len(group.failures)
    with pytest.raises(BadInput, match=group.failures[0].title):
        start_group(group)


def test_a_value_that_the_setting_does_not_take_is_refused_by_its_name() -> None:
    assert parse_values("learning_rate", "1e-4, 5e-4;1e-4\n") == (1e-4, 5e-4)
    with pytest.raises(BadInput, match=r"Rank \(lora_r\) is 0; the least is 1"):
        parse_values("lora_r", "4 0")


def test_a_group_is_recorded_once_with_its_name_on_every_run_and_its_cap_shared(
    facts: LaunchFacts, draft: Draft
) -> None:
    group = plan_group(facts, draft, {"lora_r": (4, 8, 16)})
    begun = start_group(group, cap="6 USD", ends_at_cap=True)
    assert [each.id for each in start_group(group, cap="6 USD", ends_at_cap=True)] == [each.id for each in begun]
    changes = [each.change for each in list_group(Ledger(), "local", group.name)]
    assert [(each.subject, each.cap) for each in changes if isinstance(each, Launch)] == [
        (f"{group.name}-{place}", "2 USD") for place in (1, 2, 3)
    ]
    launch = begun[1].change
    assert isinstance(launch, Launch)
    assert launch.job_tags[tags.GROUP] == group.name
    parameters = from_job_inputs(launch.parameters)
    run = Run(launch.subject, "", JobState.COMPLETED, model=NAME, tags=launch.job_tags, parameters=parameters)
    assert copy_setup(run, "local").parameters["lora_r"] == 8  # not the draft's own, which all of them share
    edited = save_draft(draft, parameters={"max_steps": 5})
    assert plan_group(facts, edited, {"lora_r": (4, 8, 16)}).name != group.name


def test_time_and_cost_of_all_are_told_together(facts: LaunchFacts, draft: Draft) -> None:
    plan = plan_group(facts, draft, {"lora_r": (4, 8)}).plans[0]
    told = replace(plan, estimate=Estimate(600.0, 1200.0, CostRange(2.0, 4.0)))
    values = tuple({"lora_r": rank} for rank in range(6))
    assert GroupPlan((told,) * 6, values, 1).time_words == "1 to 2 h"
    assert GroupPlan((told,) * 6, values, 3).time_words == "20 to 60 min"
    assert GroupPlan((told,) * 6, values, 3).cost == CostRange(12.0, 24.0)
    unknown = replace(plan, estimate=None)
    assert GroupPlan((told, unknown), values[:2], 1).time_words == "time unknown"
    assert add_costs([CostRange(1.0, 1.0), CostRange(1.0, 1.0, "EUR")]).words == "price unknown"

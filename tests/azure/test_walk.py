"""The whole way on Azure, in the order an operator goes it: all is real but the data centre and the bill."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from core.azureml.access import check_access
from core.catalog import compute
from core.catalog.matrix import list_offers
from core.catalog.quota import list_quota
from core.errors import BadInput
from core.operations import list_receipts, start_create_compute, start_deploy, start_launch, start_teardown
from core.runs import jobs
from core.runs.logs import read_log
from core.runs.metrics import read_metrics
from core.runs.states import Run
from core.serving import chat, endpoints
from core.teardown.inventory import list_inventory
from core.teardown.plan import plan_teardown
from tests.azure.behind import WORKSPACE_PATH
from tests.azure.prices import PER_HOUR
from tests.azure.sites import PRICES, PUBLIC
from tests.azure.stand_in import SIZE, running_stand_in
from tests.azure.walking import COMPUTE, Walk, walking
from tests.catalogue import find_models
from tests.fine_tuning_runs import training_of
from tests.tiny_model import NAME

ENDPOINT = "kettle-1"
QUESTION = [{"role": "user", "content": "What is the kettle 3?"}]


@pytest.fixture
def walk(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Walk]:
    """An operator at a stand-in whose trainer and scorer are the real ones."""
    with running_stand_in(tmp_path_factory.mktemp("azure")) as azure:
        for name, value in azure.environment.items():
            monkeypatch.setenv(name, value)
        with walking(azure) as operator:
            yield operator


@pytest.mark.slow
def test_a_model_is_found_tuned_served_asked_and_taken_down_with_its_price_beside_it(walk: Walk) -> None:
    """Takes 40 s: the tiny model is trained, and served, by the real engine."""
    assert "failed" not in {line.state for line in check_access(walk.conn.settings)}
    assert walk.conn.costs_money
    pick_a_compute(walk)
    run = tune(walk)
    serve_and_ask(walk, run)
    take_down(walk)
    check_what_was_asked(walk)


def pick_a_compute(walk: Walk) -> None:
    (model,) = find_models(walk.conn, "tiny")
    assert (model.name, model.runs_on, model.finetunable) == (NAME, "", True)
    allowed = compute.list_allowed_sizes(compute.list_sizes(walk.conn), model.finetune)
    sizes = compute.with_prices(walk.conn, allowed)
    assert {size.name: size.price.per_hour for size in sizes} == {size.name: PER_HOUR[size.name] for size in sizes}
    offers = list_offers(sizes, model.finetune, list_quota(walk.conn), model.name)
    picked = offers[0].size
    assert (picked.name, picked.price.words, offers[0].why_not) == (SIZE, "$3.67/h", "")
    until = datetime.now(UTC) + timedelta(hours=8)
    walk.finish(start_create_compute(walk.conn.alias, COMPUTE, picked.name, delete_at=until))
    made = compute.get_compute(walk.conn, COMPUTE)
    assert (made.state, made.price.words, made.nodes) == ("Succeeded", "$3.67/h", 0)


def tune(walk: Walk) -> Run:
    plan = walk.plan()
    assert plan.ready, plan.failures
    assert plan.recipe["apply_deepspeed"] == "true"
    assert plan.estimate is not None
    assert (plan.estimate.cost.low or 0) > 0, plan.estimate
    ended = walk.finish(start_launch(plan))
    run = jobs.get_run(walk.conn, ended.subject)
    assert (run.state, run.error) == ("Completed", None)
    assert {stage.state_word for stage in run.stages[:6]} == {"Completed"}
    assert run.parameters["apply_deepspeed"] == "true"
    log = read_log(walk.conn, training_of(run)).text
    assert "DeepSpeed (apply_deepspeed) is ignored: it spreads a model over GPUs" in log
    assert run.stages[6].state_word == "Completed", "it was evaluated"
    assert len(read_metrics(walk.conn, run.name).get("loss").points) == 4
    return run


def serve_and_ask(walk: Walk, run: Run) -> None:
    until = datetime.now(UTC) + timedelta(hours=8)
    walk.finish(start_deploy(walk.conn.alias, run.name, "kettle", ENDPOINT, SIZE, until))
    endpoint = endpoints.get_endpoint(walk.conn, ENDPOINT)
    assert endpoint.live
    assert endpoint.scoring_uri == f"https://{ENDPOINT}.eastus.inference.ml.azure.com/score"
    *words, last = chat.stream_chat(walk.conn, endpoint, QUESTION, chat.Sampling(temperature=0, max_tokens=8))
    assert last.stats is not None
    assert last.stats.finish_reason == ("length" if last.stats.tokens == 8 else "stop")
    assert 0 < len(words) <= last.stats.tokens, "it comes in pieces, as long as this model has something to say"


def take_down(walk: Walk) -> None:
    inventory = list_inventory(walk.conn)
    assert inventory.words == "$3.67/h"
    assert [item.key for item in inventory.billing] == [f"deployment:{ENDPOINT}/{endpoints.DEPLOYMENT_NAME}"]
    plan = plan_teardown(walk.conn, inventory, [f"endpoint:{ENDPOINT}", f"compute:{COMPUTE}"])
    assert plan.sentences == ("This ends billing of $3.67/h. It cannot be undone.",)
    with pytest.raises(BadInput, match="The name does not match"):
        start_teardown(plan, "kettle")
    walk.finish(start_teardown(plan, plan.confirm))
    receipt = list_receipts()[0]
    assert [(gone.kind, gone.name) for gone in receipt.gone] == [("endpoint", ENDPOINT), ("compute", COMPUTE)]
    assert (receipt.per_hour_before, receipt.per_hour_after) == (PER_HOUR[SIZE], 0.0)


def check_what_was_asked(walk: Walk) -> None:
    """Hold that all went to Azure's own names, and that nothing that costs was sent twice."""
    hosts = {each.url.split("/")[2] for each in walk.azure.rules.asked()}
    endpoint = f"{ENDPOINT}.eastus.inference.ml.azure.com"
    assert hosts == {PUBLIC.management, PUBLIC.api, PUBLIC.blobs, PRICES, endpoint}
    starts = "one for each of the resource manager, its jobs and the storage; a sweep may ask beside the first check"
    assert walk.azure.az_starts() <= 4, starts
    things = {
        "computes/gpu": 2,  # made, and then told when it is to go: it takes no tags alone
        r"jobs/[^/]+(?<!-evaluation)": 1,
        "jobs/[^/]+-evaluation": 1,
        "onlineEndpoints/.+/deployments/.+": 1,
    }
    for thing, times in things.items():
        sent = walk.azure.rules.asked(rf"^PUT .*{WORKSPACE_PATH}/{thing}\?")
        assert [each.status for each in sent] == [201] * times, sent

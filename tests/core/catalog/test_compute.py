from __future__ import annotations

from dataclasses import replace

import pytest

from core.azureml.connection import Connection
from core.catalog.allow_list import AllowList, MinimumSize
from core.catalog.base_models import BaseModel, get_base_model, to_base_model
from core.catalog.compute import (
    DENIED_SIZES,
    Compute,
    Size,
    check_compute,
    check_size,
    find_size,
    get_compute,
    list_allowed_sizes,
    list_computes,
    list_sizes,
    read_time,
)
from core.catalog.prices import Price
from core.errors import NotFound
from core.launch.preflight import check_nodes
from tests import tiny_model

A100 = "Standard_NC24ads_A100_v4"
SIZES = [
    Size("Standard_NC24ads_A100_v4", "standardNCADSA100v4Family", 24, 220.0, 1, Price(3.67), True, True),
    Size("Standard_ND96asr_v4", "standardNDASv4Family", 96, 900.0, 8, Price(None), True, True),
    Size("Standard_NC6", "standardNCFamily", 6, 56.0, 1, Price(0.9), False, True),
    Size("Standard_D2_v3", "standardDv3Family", 2, 8.0, 0, Price(0.1), True, True),
]


def make_model(tag: str | None) -> BaseModel:
    tags = {"task": "chat-completion", "finetuning-tasks": "chat-completion"}
    if tag is not None:
        tags["finetune_compute_allow_list"] = tag
    return to_base_model("Phi-4", "8", {"properties": {"tags": tags}})


def make_compute(size: str = A100, **changes: object) -> Compute:
    known = find_size(SIZES, size)
    gpus = known.gpus if known else None
    made = Compute("gpu-1", "cluster", size, "Succeeded", "Steady", 24, gpus, 0, 1, 0, 120, {}, None)
    return replace(made, **changes)  # type: ignore[arg-type]


def test_a_compute_whose_size_is_in_the_list_is_eligible_whatever_its_case() -> None:
    assert check_compute(make_compute(A100.upper()), make_model(f"['{A100.lower()}']"), SIZES).eligible


def test_a_size_outside_the_list_is_refused_with_the_sizes_to_take() -> None:
    verdict = check_compute(make_compute("STANDARD_NC6"), make_model(f"['{A100}', 'Standard_ND96asr_v4']"), SIZES)
    assert not verdict.eligible
    assert verdict.reason == "Size Standard_NC6 may not train 'Phi-4'."
    assert verdict.fix == f"Pick one of 2 allowed sizes, or create a compute: {A100}, Standard_ND96asr_v4."


@pytest.mark.parametrize("size", DENIED_SIZES)
def test_without_a_list_the_deny_list_counts(size: str) -> None:
    assert check_size(size.upper(), AllowList(None), "m") == f"Size {size.upper()} may not train 'm'."
    assert check_size(A100, AllowList(None), "m") is None
    assert check_size(size, AllowList((size,)), "m") is None


def test_without_a_list_a_size_must_have_the_least_that_the_model_asks() -> None:
    model = replace(make_model(None), finetune=AllowList(None, minimum=MinimumSize(40, 4, 220)))
    refused = check_compute(make_compute(A100), model, SIZES)
    assert refused.reason == f"Size {A100} may not train 'Phi-4': it needs 40 cores, 4 GPUs, 220 GiB."
    assert [size.name for size in list_allowed_sizes(SIZES, model.finetune)] == ["Standard_ND96asr_v4"]


@pytest.mark.parametrize("state", ["Failed", "failed"])
def test_a_compute_that_was_not_provisioned_is_refused_with_the_services_reason(state: str) -> None:
    verdict = check_compute(make_compute(state=state, errors=("No quota is left.",)), make_model(None), SIZES)
    assert verdict.reason == "Compute 'gpu-1' could not be provisioned: No quota is left."
    assert verdict.fix == "Delete it, or pick another compute."


@pytest.mark.parametrize(
    ("compute", "said"),
    [
        (make_compute(state="Deleting"), "Compute 'gpu-1' is being deleted."),
        (make_compute(state="Creating"), "Compute 'gpu-1' is still being created."),
        (make_compute(kind="instance", allocation="Stopped"), "Instance 'gpu-1' is stopped."),
        (make_compute("Standard_X1"), "The GPU count of size Standard_X1 is not known: this region does not list it."),
    ],
)
def test_what_else_keeps_a_compute_from_training_is_said(compute: Compute, said: str) -> None:
    verdict = check_compute(compute, make_model(None), SIZES)
    assert (verdict.eligible, verdict.reason) == (False, said)
    assert verdict.fix


def test_a_run_of_more_nodes_than_its_cluster_can_have_is_refused() -> None:
    """It would wait in the queue for good."""
    cluster = make_compute(max_nodes=2)
    assert check_nodes(cluster, 2) is None
    refused = check_nodes(cluster, 4)
    assert refused is not None
    assert (refused.state, refused.detail) == ("failed", "The run wants 4 nodes; gpu-1 has at most 2 nodes.")


def test_a_cpu_size_has_no_gpu_and_may_train() -> None:
    assert check_compute(make_compute("Standard_D2_v3"), make_model(None), SIZES).eligible


def test_a_model_for_inference_only_is_refused() -> None:
    model = replace(make_model(None), finetunable=False)
    assert check_compute(make_compute(), model, SIZES).reason == "'Phi-4' can be deployed, but not fine-tuned."


def test_allowed_sizes_come_cheapest_first_and_unpriced_last() -> None:
    names = [size.name for size in list_allowed_sizes(SIZES, AllowList(None))]
    assert names == ["Standard_D2_v3", A100, "Standard_ND96asr_v4"]
    online = list_allowed_sizes(SIZES, AllowList(("standard_nc6", A100.upper())), online=True)
    assert [size.name for size in online] == [A100]


def test_azures_seven_decimals_are_read() -> None:
    found = read_time("2026-02-25T23:13:46.4523183+00:00")
    assert found is not None
    assert (found.second, found.microsecond) == (46, 452318)
    assert read_time(None) is None


def test_the_home_begins_with_a_compute_that_trains_its_own_model(conn: Connection) -> None:
    computes = list_computes(conn)
    assert [compute.name for compute in computes] == ["this-machine"]
    assert (computes[0].state, computes[0].idle_s, computes[0].price.words) == ("Succeeded", 120, "$0.00/h")
    assert computes[0].gpus is not None
    sizes = list_sizes(conn)
    assert find_size(sizes, computes[0].size.upper()) is not None
    assert check_compute(computes[0], get_base_model(conn, tiny_model.NAME), sizes).eligible
    refused = check_compute(computes[0], get_base_model(conn, "Phi-4"), sizes)
    assert refused.reason == "'Phi-4' cannot be trained here: it needs the GPUs of Azure."


def test_an_unknown_compute_is_named(conn: Connection) -> None:
    with pytest.raises(NotFound, match="Compute 'gpu-9' was not found in workspace 'local'"):
        get_compute(conn, "gpu-9")

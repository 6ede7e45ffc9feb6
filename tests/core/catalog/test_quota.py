from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from core.azureml.connection import Connection
from core.catalog.allow_list import AllowList
from core.catalog.compute import Size, list_sizes
from core.catalog.matrix import list_absent, list_offers, list_serving_offers, suggest_offer
from core.catalog.prices import Price
from core.catalog.quota import Quota, claim_deployment, claim_nodes, find_quota, list_quota, to_quota

A100 = Size("Standard_NC24ads_A100_v4", "standardNCADSA100v4Family", 24, 220.0, 1, Price(3.67), True, True)
LARGE = replace(A100, name="Standard_NC96ads_A100_v4", cores=96, gpus=4, price=Price(14.69))
T4 = Size("Standard_NC4as_T4_v3", "standard NCASv3_T4 Family", 4, 28.0, 1, Price(0.53), True, True)
CPU = Size("Standard_D2_v3", "standardDv3Family", 2, 8.0, 0, Price(0.1), True, True)
FAMILY = "standardNCADSA100v4Family"
LIST = AllowList((A100.name, LARGE.name))


def row(name: str, sort: str, used: int, limit: int, where: str = "") -> Quota | None:
    """Return what is made of a row of the usages. sort: the type but for its ends; where: in the id."""
    wire = {
        "id": f"/subscriptions/1{where}/usages/{name}",
        "type": f"Microsoft.MachineLearningServices/{sort}/usages",
        "name": {"value": name},
        "currentValue": used,
        "limit": limit,
    }
    return to_quota(wire, "ml-dev")


def rows(*found: Quota | None) -> Sequence[Quota]:
    return [each for each in found if each]


def test_a_familys_two_rows_of_one_name_are_told_apart_by_their_type() -> None:
    """So the service answers: the name is the same, and -1 is no limit."""
    limits = rows(
        row(FAMILY, "vmFamily/lowPriorityCores", 24, -1),
        row(FAMILY, "vmFamily/dedicatedCores", 40, 48),
        row("TotalLowPriorityCores", "lowPriorityCores", 24, 100),
    )
    assert claim_nodes(limits, A100, 1).words == f"{FAMILY}: needs 24 cores, 8 free."
    low = claim_nodes(limits, A100, 4, low_priority=True)
    assert (low.fits, low.words) == (False, "all low-priority cores of the region: needs 96 cores, 76 free.")
    assert claim_nodes(limits, A100, 3, low_priority=True).fits


def test_the_documented_names_are_read_as_well() -> None:
    limits = rows(
        row("Standard NCADSA100v4 Family Cluster LowPriority vCPUs", "vmFamily", 18, -1),
        row("Standard NCADSA100v4 Family Cluster Dedicated vCPUs", "vmFamily", 20, 24),
        row("Clusters", "totalCores", 7, 10),
    )
    assert [limit.low_priority for limit in limits] == [True, False]
    found = find_quota(limits, A100)
    assert found is not None
    assert found.free == 4
    assert find_quota(limits, CPU) is None


WORKSPACE = "/resourceGroups/rg/providers/Microsoft.MachineLearningServices/workspaces/"


@pytest.mark.parametrize(
    ("least", "said"),
    [
        (
            row(FAMILY, "workspaces", 0, 9, f"{WORKSPACE}ML-Dev"),
            f"{FAMILY} in this workspace: needs 24 cores, 9 free",
        ),
        (row("TotalDedicatedCores", "any", 90, 100), "all dedicated cores of the region: needs 24 cores, 10 free"),
        (row(FAMILY, "workspaces", 0, 12, f"{WORKSPACE}other"), f"{FAMILY}: needs 24 cores, 48 free"),
        (row(FAMILY, "workspaces", 0, 1, f"{WORKSPACE}ml-dev/computes/gpu"), f"{FAMILY}: needs 24 cores, 48 free"),
    ],
)
def test_the_least_limit_binds_and_is_named(least: Quota | None, said: str) -> None:
    limits = rows(row(FAMILY, "vmFamily", 0, 48), row("TotalDedicatedCores", "dedicatedCores", 0, 300), least)
    assert claim_nodes(limits, A100, 1).words == f"{said}."


def test_a_family_without_a_row_is_not_known_to_have_quota() -> None:
    """A region that has none for a family may leave its row out."""
    claim = claim_nodes(rows(row("TotalDedicatedCores", "dedicatedCores", 0, 300)), A100, 1)
    assert claim.fits is None
    assert claim.words == f"{FAMILY}: the region names none, which often means that there is none."
    assert claim_nodes(rows(row(FAMILY, "vmFamily", 0, -1)), A100, 1).words == f"{FAMILY}: not enforced here."


@pytest.mark.parametrize(
    ("size", "instances", "needed", "reserve"),
    [(T4, 1, 8, 4), (T4, 5, 24, 4), (T4, 6, 32, 8), (T4, 10, 48, 8), (A100, 1, 24, 0)],
)
def test_a_deployment_needs_a_fifth_more_but_for_the_families_that_azure_exempts(
    size: Size, instances: int, needed: int, reserve: int
) -> None:
    claim = claim_deployment([], size, instances)
    assert (claim.needed, claim.reserve) == (needed, reserve)


def test_the_matrix_begins_with_the_cheapest_that_has_quota_and_says_why_not_of_the_rest() -> None:
    limits = [Quota(FAMILY, 48, 0), Quota(T4.family, 64, 0)]
    unpriced = replace(A100, name="Standard_NC12_new", price=Price(None), cores=12)
    allowed = AllowList((*(LIST.sizes or ()), unpriced.name, "Standard_ND96asr_v4"))
    offers = list_offers([LARGE, CPU, T4, unpriced, A100], allowed, limits, "Phi-4")
    assert [(offer.size.name, offer.why_not) for offer in offers] == [
        (A100.name, ""),
        (unpriced.name, ""),
        (LARGE.name, f"Quota for {FAMILY}: needs 96 cores, 48 free."),
        (T4.name, f"Size {T4.name} may not train 'Phi-4'."),
    ]
    assert list_absent([A100, LARGE, unpriced], allowed) == ["Standard_ND96asr_v4"]
    two = list_offers([A100], allowed, limits, "Phi-4", nodes=3)
    assert two[0].why_not == f"Quota for {FAMILY}: needs 72 cores, 48 free."


def test_low_priority_has_its_price_its_pool_and_not_every_size() -> None:
    limits = [Quota("TotalLowPriorityCores", 100, 0, low_priority=True, of="region")]
    cheap = replace(A100, low_price=Price(0.73))
    not_low = replace(LARGE, low_priority=False)
    offers = list_offers([not_low, cheap], LIST, limits, "Phi-4", low_priority=True)
    assert [(offer.price.words, offer.why_not) for offer in offers] == [
        ("$0.73/h", ""),
        ("price unknown", f"Size {LARGE.name} is not to be had at low priority."),
    ]


def test_sizes_for_serving_are_checked_with_their_reserve_on_azure_alone() -> None:
    limits = [Quota(T4.family, 6, 0)]
    (offer,) = list_serving_offers([T4], AllowList(None), limits)
    assert offer.why_not == f"Quota for {T4.family}: needs 8 cores (4 of them for upgrades, unbilled), 6 free."
    (here,) = list_serving_offers([T4], AllowList(None), limits, billed=False)
    assert here.why_not == ""


def test_a_new_compute_begins_with_the_largest_where_all_cost_nothing() -> None:
    free = [replace(size, price=Price(0.0)) for size in (A100, LARGE)]
    assert suggest_offer(list_offers(free, LIST, [], "m")).size.name == LARGE.name
    assert suggest_offer(list_offers(free, LIST, [Quota(FAMILY, 48, 0)], "m")).size.name == A100.name
    assert suggest_offer(list_offers([LARGE, A100], LIST, [], "m")).size.name == A100.name, "the cheapest"
    nothing = suggest_offer(list_offers([LARGE], LIST, [Quota(FAMILY, 48, 0)], "m"))
    assert nothing.why_not, "the drawer says what is missing"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "1 × A100 80 GiB"),
        ({"family": "standardNVADSA10v5Family", "cores": 6}, "1 × A10 4 GiB"),
        ({"family": "standardNewFamily", "gpus": 2}, "2 GPUs"),
        ({"gpus": 0}, "no GPU"),
    ],
)
def test_the_gpus_of_a_size_are_told(changes: dict[str, Any], said: str) -> None:
    assert replace(A100, **changes).gpu_words == said


def test_quota_counts_this_machines_cores(conn: Connection) -> None:
    size = list_sizes(conn)[-1]
    found = find_quota(list_quota(conn), size)
    assert found is not None
    assert found.free == found.limit == size.cores

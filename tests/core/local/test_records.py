from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core.local.compute import Compute
from core.local.endpoints.resources import Deployment, Endpoint
from core.local.provisioned import ProvisioningState
from core.local.store import Store
from core.local.wire.errors import WireError


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "workspace.db")


def test_a_document_of_an_earlier_version_is_read_with_what_it_lacks_as_default(store: Store) -> None:
    store.put("endpoint", "old", {"name": "old", "state": "Succeeded", "traffic": {"blue": 100}, "since_removed": 1})
    endpoint = Endpoint.get(store, "OLD")
    assert (endpoint.state, endpoint.mirror, endpoint.operation) == (ProvisioningState.SUCCEEDED, {}, "")
    assert endpoint.created_at


def test_a_record_comes_back_from_the_store_as_it_was_put_there(store: Store) -> None:
    deployment = Deployment(endpoint="shop", name="blue", asked={"model": "m"}, sku={"capacity": 2})
    stored = deployment.insert(store)
    assert stored is not None
    assert stored == replace(deployment, created_at=stored.created_at, modified_at=stored.modified_at)
    assert deployment.insert(store) is None, "the key is taken"
    assert Deployment.list_all(store, "shop") == [stored]
    assert Deployment.list_all(store, "another") == []


def test_a_change_that_returns_none_or_raises_writes_nothing(store: Store) -> None:
    stored = Compute(name="gpu", size="local.cpu1").put(store)
    assert Compute.update(store, "gpu", lambda _compute: None) == stored
    with pytest.raises(WireError, match="The compute 'none' was not found"):
        Compute.update(store, "none", lambda compute: compute)


@pytest.mark.parametrize("state", ProvisioningState)
def test_a_state_is_finished_or_goes_on(state: ProvisioningState) -> None:
    assert state.finished == (state.ready or state.failed)
    assert not (state.deleting and state.finished)

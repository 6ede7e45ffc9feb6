from __future__ import annotations

import math
import sqlite3
import threading
from pathlib import Path

import pytest

from core.local.store import Store
from core.local.wire.errors import WireError


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "workspace.db")


def test_a_document_keeps_its_creation_time_when_it_is_written_again(store: Store) -> None:
    first = store.put("compute", "gpu", {"size": "local.cpu1"})
    second = store.put("compute", "gpu", {"size": "local.cpu2"})
    assert second["created_at"] == first["created_at"]
    assert second["modified_at"] > first["modified_at"]
    assert store.require("compute", "gpu")["size"] == "local.cpu2"


def test_what_was_read_can_be_written_back_without_its_times_becoming_content(store: Store) -> None:
    store.put("compute", "gpu", {"size": "a"})
    store.put("compute", "gpu", {**store.require("compute", "gpu"), "size": "b"})
    kept = store.require("compute", "gpu")
    assert set(kept) == {"size", "created_at", "modified_at"}


def test_insert_changes_nothing_where_the_key_is_taken(store: Store) -> None:
    assert store.insert("job", "a", {"n": 1}) is not None
    assert store.insert("job", "a", {"n": 2}) is None
    assert store.require("job", "a")["n"] == 1


def test_lists_are_newest_first_by_creation_and_can_be_cut_and_turned(store: Store) -> None:
    for name in "abc":
        store.put("job", name, {"name": name}, parent="p" if name != "b" else "q")
    store.put("job", "a", {"name": "a"}, parent="p")
    assert [job["name"] for job in store.list("job")] == ["c", "b", "a"]
    assert [job["name"] for job in store.list("job", parent="p")] == ["c", "a"]
    assert [job["name"] for job in store.list("job", limit=1, offset=1)] == ["b"]
    assert [job["name"] for job in store.list("job", newest_first=False)] == ["a", "b", "c"]


def test_a_missing_document_is_a_404_by_its_name(store: Store) -> None:
    with pytest.raises(WireError, match="The compute 'gpu' was not found") as caught:
        store.require("compute", "gpu")
    assert (caught.value.status, caught.value.code) == (404, "ResourceNotFound")
    with pytest.raises(WireError):
        store.update("compute", "gpu", lambda body: body)


def test_updates_of_many_threads_are_all_counted(store: Store) -> None:
    store.put("counter", "c", {"n": 0})

    def count() -> None:
        for _ in range(25):
            store.update("counter", "c", lambda body: {"n": body["n"] + 1})

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.require("counter", "c")["n"] == 200


def test_an_update_that_raises_or_returns_none_writes_nothing(store: Store) -> None:
    before = store.put("job", "a", {"n": 1}, parent="p")
    with pytest.raises(ZeroDivisionError):
        store.update("job", "a", lambda body: {"n": 1 // 0})
    assert store.update("job", "a", lambda body: None) == before
    assert store.list("job", parent="p") == [before]


def test_metrics_and_their_offset_are_stored_together(store: Store) -> None:
    rows = [("loss", 2.0, 1, 10), ("lr", 0.1, 1, 10), ("loss", 1.5, 2, 20)]
    store.append_metrics("run_4", rows, source="metrics.jsonl", offset=120, also_run_id="run")
    assert store.ingest_offset("metrics.jsonl") == 120
    assert [(point.step, point.value) for point in store.read_metrics("run_4", "loss")] == [(1, 2.0), (2, 1.5)]
    assert [point.key for point in store.latest_metrics("run")] == ["loss", "lr"]
    newest = store.read_metrics("run", "loss")[-1]
    assert store.read_metrics("run", "loss", since_rowid=newest.id) == []
    store.append_metrics("run", [("loss", 1.0, 3, 30)])
    assert [point.value for point in store.read_metrics("run", "loss", since_rowid=newest.id)] == [1.0]


def test_nothing_of_a_batch_is_stored_when_one_row_cannot_be(store: Store) -> None:
    bad = [("loss", 1.0, 1, 10), ("loss", 1.0, None, 10)]
    with pytest.raises(sqlite3.IntegrityError):
        store.append_metrics("run", bad, source="s", offset=9)  # type: ignore[arg-type]
    assert (store.ingest_offset("s"), store.read_metrics("run", "loss")) == (0, [])


def test_a_loss_that_is_not_a_number_comes_back_as_one_that_is_not(store: Store) -> None:
    store.append_metrics("run", [("loss", math.nan, 1, 1), ("loss", math.inf, 2, 2)])
    first, second = store.read_metrics("run", "loss")
    assert math.isnan(first.value)
    assert second.value == math.inf


def test_parameters_never_change_and_tags_do(store: Store) -> None:
    assert store.set_param("run", "lr", "0.1")
    assert store.set_param("run", "lr", "0.1")
    assert not store.set_param("run", "lr", "0.2")
    assert store.get_params("run") == {"lr": "0.1"}


def test_another_process_reads_what_was_written(store: Store) -> None:
    store.put("job", "a", {"n": 1})
    assert Store(store.path).require("job", "a")["n"] == 1

"""Homes of other versions: an older one is brought forward with all it holds, a newer one is left as it is."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

import pytest

from core.errors import Conflict
from core.local import schema
from core.local.store import Store

OLD = Path(__file__).parents[2] / "data" / "workspace_schema_0.sql"


@pytest.fixture
def old_file(tmp_path: Path) -> Path:
    path = tmp_path / "workspace.db"
    connection = sqlite3.connect(path)
    connection.executescript(OLD.read_text(encoding="utf-8"))
    connection.close()
    return path


def version_of(path: Path) -> int:
    connection = sqlite3.connect(path)
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.close()
    return int(found)


def test_an_older_home_is_brought_forward_with_all_it_holds(old_file: Path) -> None:
    store = Store(old_file)
    assert version_of(old_file) == len(schema.STEPS)
    job = store.require("job", "brave-fox")
    assert (job["status"], job["created_at"]) == ("Completed", "2026-11-01T08:00:00.000001+00:00")
    assert [each["name"] for each in store.list("deployment", parent="clerk")] == ["blue"]
    assert store.require("compute", "gpu-ONE") == store.require("compute", "GPU-One")
    assert [point.step for point in store.read_metrics("brave-fox", "loss")] == [1, 2]
    assert store.ingest_offset("brave-fox_2/metrics.jsonl") == 120
    assert store.get_params("brave-fox") == {"lr": "0.1"}
    store.put("job", "later", {"name": "later"})
    assert [each["name"] for each in Store(old_file).list("job")] == ["later", "brave-fox"]


def test_a_step_that_fails_leaves_the_older_home_as_it_was(old_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = (*schema.STEPS, ("CREATE TABLE half (a)", "CREATE INDEX no ON nowhere (a)"))
    with monkeypatch.context() as patch:
        patch.setattr(schema, "STEPS", broken)
        with pytest.raises(sqlite3.OperationalError, match="nowhere"):
            Store(old_file)
    assert version_of(old_file) == 0
    assert Store(old_file).require("job", "brave-fox")["status"] == "Completed"


def test_a_newer_home_is_refused_in_a_sentence_and_not_touched(old_file: Path) -> None:
    connection = sqlite3.connect(old_file)
    connection.execute(f"PRAGMA user_version = {len(schema.STEPS) + 5}")
    connection.close()
    before = hashlib.sha256(old_file.read_bytes()).hexdigest()
    with pytest.raises(Conflict, match=f"newer Tunedeck \\(schema {len(schema.STEPS) + 5}; this one knows"):
        Store(old_file)
    assert hashlib.sha256(old_file.read_bytes()).hexdigest() == before


def test_every_version_gives_the_same_tables_as_a_new_home(old_file: Path, tmp_path: Path) -> None:
    def tables(path: Path) -> set[tuple[str, str]]:
        rows = sqlite3.connect(path).execute("SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")
        return set(rows.fetchall())

    Store(old_file)
    Store(tmp_path / "new.db")
    assert tables(old_file) == tables(tmp_path / "new.db")


def test_a_page_of_a_list_is_read_in_order_without_sorting_the_whole_kind(tmp_path: Path) -> None:
    store = Store(tmp_path / "workspace.db")
    plan = sqlite3.connect(store.path).execute(
        "EXPLAIN QUERY PLAN SELECT body FROM documents WHERE kind = 'job' ORDER BY sequence DESC LIMIT 10"
    )
    assert "documents_in_order" in (told := " ".join(str(row) for row in plan))
    assert "TEMP B-TREE" not in told

"""What a home takes and what of it can go, from the command line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from core.local import usage
from core.local.blobs import CONTAINER
from core.local.store import Store
from core.locks import held
from tests.core.local.test_serving import run_command
from tests.local_server import LocalServer

MIB = 1 << 20


def job(name: str, status: str) -> dict[str, object]:
    state = {"status": status, "display_name": name, "tags": {}, "properties": {}, "hidden": False}
    state |= {"started_at": None, "ended_at": None, "error": None}
    return {
        "name": name,
        "kind": "command",
        "run": state,
        "steps": [],
        "compute": "x",
        "experiment": "e",
        "plan": {},
        "properties": {},
        "cancel_asked_at": None,
    }


def test_usage_counts_a_linked_file_once_and_prune_deletes_only_what_can_go(
    own_server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEDECK_BASE_MODELS", str(tmp_path / "models"))
    own_server.stop()
    home = own_server.home
    store = Store(home.workspace_db)
    for name, status in (("over", "Failed"), ("at-work", "Running")):
        store.put("job", name, job(name, status))
        checkpoints = home.runs / name / "finetune" / "outputs" / "checkpoints" / "checkpoint-8"
        checkpoints.mkdir(parents=True)
        (checkpoints / "weights").write_bytes(os.urandom(4 * MIB))
        (home.runs / name / "finetune" / "std_log.txt").write_text("kept")
    placed = home.blobs / CONTAINER / "azureml" / "over" / "model"
    placed.mkdir(parents=True)
    (placed / "weights").write_bytes(os.urandom(8 * MIB))
    handed_on = home.runs / "over" / "finetune" / "outputs" / "model"
    handed_on.mkdir()
    os.link(placed / "weights", handed_on / "weights")
    fetched, fetching = (home.base_models / ".adding" / name for name in ("broken-off", "at-work"))
    for folder in (fetched, fetching):
        folder.mkdir(parents=True)
        (folder / "weights").write_bytes(b"")

    told = {use.title.partition(":")[0]: use.size_bytes for use in usage.read_usage(home)}
    assert 8 * MIB <= told["Data and tuned models"] < 9 * MIB
    assert 8 * MIB <= told["Runs"] < 9 * MIB, "two checkpoints; the linked weights are counted once, above"
    said = run_command(home, "usage").stdout
    assert "8 MiB  Data and tuned models (1 files)" in said
    assert "4 MiB  of it can go: python -m core.local prune" in said

    with held(fetching / "lock"):
        pruned = run_command(home, "prune").stdout
        assert "Nothing can go." in run_command(home, "prune").stdout
    assert (fetched.exists(), fetching.exists()) == (False, True)
    assert "Deleted checkpoints of the run over, which is over: 4 MiB." in pruned
    assert "4 MiB freed." in pruned
    assert sorted(each.name for each in (home.runs / "over" / "finetune").rglob("*")) == ["outputs", "std_log.txt"]
    assert (placed / "weights").stat().st_nlink == 1
    assert (home.runs / "at-work" / "finetune" / "outputs" / "checkpoints" / "checkpoint-8" / "weights").exists()

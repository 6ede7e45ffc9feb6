"""The memory of long tests: what was finished is not done again, what failed is, and the row says what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.soak import BEGIN, END, Soak, write_row


@pytest.fixture(autouse=True)
def document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "reliability.md"
    path.write_text(f"# Measured\n\n{BEGIN}\n{END}\n\n## After\n", encoding="utf-8")
    monkeypatch.delenv("TUNEDECK_SEED", raising=False)
    monkeypatch.setenv("TUNEDECK_SOAK", "4")
    return path


def draw(folder: Path, document: Path, name: str = "kills", *, fail_at: int = -1) -> list[float]:
    drawn = []
    with Soak(name, quick=1, long=9, what=name, folder=folder, document=document) as soak:
        for number, chance in soak.rounds():
            if number == fail_at:
                raise KeyboardInterrupt
            drawn.append(chance.random())
            soak.add("events", 2)
            soak.worst("slowest", number)
    return drawn


def test_an_interrupted_soak_goes_on_where_it_was(
    tmp_path: Path, document: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEDECK_SEED", "7")
    whole = draw(tmp_path / "whole", document)
    with pytest.raises(KeyboardInterrupt):
        draw(tmp_path / "parts", document, fail_at=2)
    monkeypatch.delenv("TUNEDECK_SEED")
    assert draw(tmp_path / "parts", document) == whole[2:]
    with pytest.raises(pytest.skip.Exception, match="seed 7"):
        draw(tmp_path / "parts", document)
    (row,) = [line for line in document.read_text(encoding="utf-8").splitlines() if "kills" in line]
    assert row.startswith("| kills | 4 | 7 | ")
    assert "events 8, slowest 3" in row


def test_another_commit_begins_anew(tmp_path: Path, document: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        draw(tmp_path, document, fail_at=3)
    kept = tmp_path / "kills.json"
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"commit": "another"}))
    assert len(draw(tmp_path, document)) == 4


def test_each_soak_has_one_row_and_the_rest_of_the_document_stays(tmp_path: Path, document: Path) -> None:
    for name in ("b", "a"):
        draw(tmp_path, document, name)
    write_row(document, "a", "| a | 1 |")
    text = document.read_text(encoding="utf-8")
    assert next(line for line in text.splitlines() if line.startswith(("| a ", "| b "))) == "| a | 1 |"
    assert text.count("| b |") == 1
    assert text.startswith("# Measured\n")
    assert text.endswith("## After\n")


def test_the_rounds_of_make_test_leave_no_trace(
    tmp_path: Path, document: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TUNEDECK_SOAK")
    before = document.read_text(encoding="utf-8")
    assert len(draw(tmp_path, document)) == 1
    assert document.read_text(encoding="utf-8") == before
    assert list(tmp_path.glob("*.json")) == []

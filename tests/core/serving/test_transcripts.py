"""What was said with an endpoint is kept under its id, in the home and for its connection alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.serving import transcripts


@pytest.fixture(autouse=True)
def home_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEDECK_HOME", str(tmp_path))


def test_a_transcript_is_found_by_its_id_in_its_own_connection_only() -> None:
    turns = [{"question": "Wann öffnet der Pier?", "replies": []}]
    transcripts.save_transcript("k3f9xx", "local", "pier", turns)
    found = transcripts.find_transcript("k3f9xx", "local")
    assert found is not None
    assert (found.endpoint, list(found.turns)) == ("pier", turns)
    assert transcripts.find_transcript("k3f9xx", "azure") is None
    assert transcripts.find_transcript("unknown", "local") is None


def test_the_newest_come_first_and_the_oldest_go() -> None:
    for number in range(transcripts.KEPT + 3):
        transcripts.save_transcript(f"id{number:04}", "local", "pier", [{"question": str(number), "replies": []}])
    transcripts.save_transcript("id0004", "local", "pier", [])  # spoken to again, so it is the newest
    transcripts.save_transcript("last", "local", "pier", [])
    listed = [one.id for one in transcripts.list_transcripts("local", "pier", limit=1000)]
    assert len(listed) == transcripts.KEPT
    assert set(listed[:2]) == {"last", "id0004"}
    assert not {"id0000", "id0001", "id0002", "id0003"} & set(listed)

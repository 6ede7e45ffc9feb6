"""Of what runs measured, what makes no sense costs that run's word in an estimate, and not the estimate."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from core.runs.throughput import Pace, add_pace, list_paces


def test_a_speed_that_is_none_is_not_reckoned_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEDECK_HOME", str(tmp_path))
    kept = Pace(300.0)
    odd = [Pace(0.0), Pace(math.nan), Pace(math.inf), Pace(300.0, row=0.0), Pace("many")]  # type: ignore[arg-type]
    for number, pace in enumerate([*odd, kept]):
        add_pace("local", "tiny-chat", "cpu", f"run-{number}", pace)
    assert list_paces("local", "tiny-chat", "cpu") == [kept]

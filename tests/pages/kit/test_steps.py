from __future__ import annotations

import pytest

from core.runs.states import JobState
from pages.parts.kit.steps import BADGES


@pytest.mark.parametrize("state", list(JobState))
def test_every_state_of_azure_has_a_word_and_a_badge(state: JobState) -> None:
    assert state.word in BADGES
    assert state.finished == (state.word in ("Completed", "Failed", "Cancelled"))


def test_a_state_of_another_day_is_unknown_and_goes_on() -> None:
    assert JobState("Hibernating") is JobState.UNKNOWN
    assert not JobState.UNKNOWN.finished

"""What an operator reads of a long check: how far it is, how fast, and what is left."""

from __future__ import annotations

import time

from core.dataset.progress import Meter, Progress


def test_a_second_file_has_a_rate_of_its_own() -> None:
    heard: list[Progress] = []
    meter = Meter(heard.append, period_s=0.0)
    for rows in (1, 100_000, 200_000):
        meter.tell("Checked", rows, 200_000, rows * 6_000, 1_200_000_000)
        time.sleep(0.01)
    assert heard[-1].fraction == 1.0
    for rows in (1, 1_000, 2_000):
        meter.tell("Checked", rows, 20_000, rows * 6_000, 120_000_000)
        time.sleep(0.3)
    assert 0 < heard[-1].rows_per_s < 100_000
    assert heard[-1].left_s is not None
    assert 0 < heard[-1].left_s < 60
    assert heard[-1].words.startswith("Checked 2,000 of 20,000 rows · 12 of 120 MB · ")
    assert heard[-1].words.endswith(" s left")

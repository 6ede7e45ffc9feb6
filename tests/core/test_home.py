"""A new home that several threads come to at once: each sees the same address, secret and id from the first look."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core.azureml import tags
from core.home import Home

TOGETHER = 8


@pytest.mark.parametrize("ask", [Home.port, Home.tls_port, Home.secret, lambda home: tags.made_by()])
def test_all_who_come_first_read_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Home], object]
) -> None:
    """Twenty homes, each with eight threads let go at one moment: one of them writes, and nobody reads what it lost."""
    for number in range(20):
        home = Home(tmp_path / str(number)).create()
        monkeypatch.setenv("TUNEDECK_HOME", str(home.path))
        start = threading.Barrier(TOGETHER)

        def come(home: Home = home, start: threading.Barrier = start) -> object:
            start.wait(10)
            return ask(home)

        with ThreadPoolExecutor(TOGETHER) as pool:
            first = {future.result() for future in [pool.submit(come) for _ in range(TOGETHER)]}
        assert first == {ask(home)}

"""A home of their own for the tests of the Data page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.home import Home
from core.local import control


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, base_models: Path) -> Iterator[Path]:
    """A home with no workspace running: the data page needs none, though it starts one for the model's limits."""
    path = tmp_path_factory.mktemp("data-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEDECK_HOME", str(path))
        patch.setenv("TUNEDECK_BASE_MODELS", str(base_models))
        yield path
        control.stop(Home(path))

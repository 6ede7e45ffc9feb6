from __future__ import annotations

from collections.abc import Iterator

import pytest

from core.home import Home
from core.local.blobs import CONTAINER
from tests.core.local.conftest import local_server, own_server, pytest_runtest_makereport
from tests.local_server import LocalServer

__all__ = ["light_server", "local_server", "own_server", "pytest_runtest_makereport"]


@pytest.fixture(scope="module")
def light_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A server whose trainers and scorers are a few lines each, with models that can be deployed."""
    home = Home(tmp_path_factory.mktemp("home"))
    settings = {"TUNEDECK_QUOTA_CORES": "64", "TUNEDECK_BASE_MODELS": ""}
    server = LocalServer(home, settings, module="tests.core.local.trivial_server")
    try:
        server.start()
        for name in ("good", "other"):
            model = home.blobs / CONTAINER / "models" / name / "model"
            model.mkdir(parents=True)
            (model / "config.json").write_text("{}")
        base_model = home.base_models / "tiny" / "1"
        base_model.mkdir(parents=True)
        (base_model / "tunedeck.json").write_text('{"name": "tiny", "version": "1", "tags": {}}')
        (base_model / "model.safetensors").write_bytes(b"base" * 1000)
        (home.blobs / CONTAINER / "train.jsonl").write_text("{}\n")
        yield server
    finally:
        server.stop()

from __future__ import annotations

from tests.local.conftest import local_server, own_server, pytest_runtest_makereport

__all__ = ["local_server", "own_server", "pytest_runtest_makereport"]

"""Nothing of the shell reaches a test, and no test touches what is the operator's."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
# Quick ones of each kind: they call make, restore a model, sign in, run a job and draw a page.
SOME = (
    "tests/test_commands.py::test_make_alone_lists_every_command",
    "tests/core/engine/test_base_model.py",
    "tests/core/azureml/test_cloud.py::test_the_machines_own_credential_is_proved_by_a_token_for_the_resource_manager",
    "tests/core/local/test_runner.py::test_a_pipeline_runs_its_five_steps_and_places_one_copy_of_the_model",
    "tests/pages/setup/test_setup_pages.py::test_a_newcomer_sees_two_ways_in_and_nothing_else",
)
FOLDERS = (
    "HOME",
    "TUNEDECK_HOME",
    "TUNEDECK_BASE_MODELS",
    "TUNEDECK_DATA_FOLDERS",
    "XDG_DATA_HOME",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_DATASETS_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "TRANSFORMERS_CACHE",
    "TORCH_HOME",
    "AZURE_CONFIG_DIR",
    "AZUREML_OUTPUT_DIR",
    "MLFLOW_ARTIFACT_ROOT",
    "STREAMLIT_CONFIG_DIR",
)
NONSENSE = (
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "TUNEDECK_QUOTA_CORES",
    "TUNEDECK_PROFILE",
    "TUNEDECK_LOOK_S",
    "TUNEDECK_STEP_FOLDER",
    "TUNEDECK_DEVICE",
    "TUNEDECK_SPEEDS",
    "AZURE_CLIENT_ID",
    "AZURE_TENANT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_AUTHORITY_HOST",
    "AZUREML_CURRENT_CLOUD",
    "AZUREML_RUN_ID",
    "ARM_CLOUD_METADATA_URL",
    "IDENTITY_ENDPOINT",
    "HF_TOKEN",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_RUN_ID",
    "STREAMLIT_SERVER_PORT",
    "STREAMLIT_SERVER_BASE_URL_PATH",
    "TOKENIZERS_PARALLELISM",
    "TRANSFORMERS_OFFLINE",
    "OMP_NUM_THREADS",
    "PYTHONPATH",
    "SCORE_SECRET",
    "GIT_DIR",
)
MAKE = {
    "MAKEFLAGS": "w -n",
    "MFLAGS": "-w -n",
    "GNUMAKEFLAGS": "--trace",
    "MAKELEVEL": "2",
    "MAKEFILES": "nowhere.mk",
    "TESTS": "tests/none",
    "WORKERS": "none",
}
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
ENDPOINTS = ("HF_ENDPOINT", "MLFLOW_TRACKING_URI", "TUNEDECK_RETAIL_PRICES_URL")


@pytest.fixture
def trap() -> Iterator[tuple[str, list[str]]]:
    """An address that should be asked nothing, and who asked it."""
    asked: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def listen() -> None:
            with suppress(OSError):  # the listener was closed
                while True:
                    client = listener.accept()[0]
                    with client:
                        asked.append(client.recv(200).decode("latin-1"))

        threading.Thread(target=listen, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked
        listener.shutdown(socket.SHUT_RDWR)


def read_all(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return every file and folder below this one, with when it changed and what is in it."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in [folder, *folder.rglob("*")]
    }


@pytest.mark.slow
def test_tests_pass_in_any_shell_and_leave_what_is_the_operators_untouched(
    tmp_path: Path, trap: tuple[str, list[str]]
) -> None:
    """About 5 s: another pytest, under an environment in which each variable leads astray."""
    address, asked = trap
    folders = {name: str(tmp_path / "traps" / name) for name in FOLDERS}
    for folder in folders.values():
        for name in (".streamlit/config.toml", ".azure/config", ".azureml/auth/x", "address.json", "connections.json"):
            damaged = Path(folder) / name
            damaged.parent.mkdir(parents=True, exist_ok=True)
            damaged.write_text("[ this is damaged", encoding="utf-8")
    leading_astray = dict.fromkeys(NONSENSE, "/nowhere") | folders | MAKE
    for name in PROXIES:
        leading_astray |= {name: address, name.lower(): address}
    leading_astray |= {"NO_PROXY": "none", "no_proxy": "none"} | dict.fromkeys(ENDPOINTS, address)
    before = read_all(tmp_path / "traps")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "run"), *SOME],
        cwd=REPOSITORY,
        env=os.environ | leading_astray,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-4000:]
    assert read_all(tmp_path / "traps") == before
    assert asked == []

"""The home folder: where everything Tunedeck writes is, and the address and secret of the local workspace.

Shared by both sides of the wire, so it imports nothing of either but the errors they share.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from core.errors import BadInput

SUBSCRIPTION_ID = "00000000-0000-0000-0000-000000000000"
RESOURCE_GROUP = "local"
WORKSPACE_NAME = "local"
LOCATION = "local"
FIRST_PORT = 8765
# The checkout: programs are started from here.
REPOSITORY = Path(__file__).resolve().parents[1]


def default_path() -> Path:
    """Return TUNEDECK_HOME, or the platform's folder for user data."""
    if set_by_user := os.environ.get("TUNEDECK_HOME"):
        return Path(set_by_user).expanduser().resolve()
    return _usual_path()


def _usual_path() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "tunedeck"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "tunedeck"


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Write `text` so that a reader sees the old content or the new, never a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_once(path: Path, text: str, mode: int = 0o644) -> str:
    """Write `text` unless the file is there, and return what it holds: of several that write at once, one is first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    candidate = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    write_atomically(candidate, text, mode)
    try:
        os.link(candidate, path)
    except FileExistsError:
        pass
    finally:
        candidate.unlink()
    return path.read_text(encoding="utf-8")


@dataclass(frozen=True)
class Home:
    """Paths inside one home folder; properties make no folder, `create()` makes them all."""

    path: Path

    @property
    def workspace_db(self) -> Path:
        """SQLite file of the local workspace."""
        return self.path / "workspace.db"

    @property
    def ledger_db(self) -> Path:
        """SQLite file of the dashboard: drafts and operations."""
        return self.path / "ledger.db"

    @property
    def runs_db(self) -> Path:
        """SQLite file of what the dashboard knows of workspaces' runs; it can be read again."""
        return self.path / "runs.db"

    @property
    def catalogue(self) -> Path:
        """What registries hold, as it was last read; may be removed."""
        return self.path / "catalogue"

    @property
    def connections(self) -> Path:
        """Which workspaces were used; no secrets."""
        return self.path / "connections.json"

    @property
    def blobs(self) -> Path:
        """One folder per blob container."""
        return self.path / "blobs"

    @property
    def runs(self) -> Path:
        """One folder per job, one below it per step."""
        return self.path / "runs"

    @property
    def deployments(self) -> Path:
        """One folder per endpoint, one below it per deployment."""
        return self.path / "deployments"

    @property
    def computes(self) -> Path:
        """Return the folder of what the nodes of each compute did, minute by minute."""
        return self.path / "computes"

    @property
    def datasets(self) -> Path:
        """Chat data the dashboard was given, by content hash."""
        return self.path / "datasets"

    @property
    def logs(self) -> Path:
        """Logs of the server and of the dashboard."""
        return self.path / "logs"

    @property
    def base_models(self) -> Path:
        """Base models as `<name>/<version>/`; several homes may share one copy (TUNEDECK_BASE_MODELS)."""
        shared = os.environ.get("TUNEDECK_BASE_MODELS")
        return Path(shared).expanduser().resolve() if shared else self.path / "base-models"

    @property
    def speeds(self) -> Path:
        """How this machine computes fastest, as it was measured; may be removed."""
        return self.path / "speeds.json"

    @property
    def server_lock(self) -> Path:
        """Locked by the one server of this home while it lives."""
        return self.path / "server.lock"

    @property
    def server_file(self) -> Path:
        """Who serves this home: pid, start time."""
        return self.path / "server.json"

    def create(self) -> Home:
        """Make the folders that are missing, readable by the owner only; raises BadInput where that cannot be."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in (self.blobs, self.runs, self.deployments, self.datasets, self.logs, self.base_models):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(
                f"The home folder {self.path} cannot be written: {error.strerror}.",
                "Choose a folder on a disk of this machine with TUNEDECK_HOME.",
                str(error),
            ) from error
        return self

    def secret(self) -> str:
        """Return the secret that signs this home's tokens, made on first use (0600)."""
        path = self.path / "secret"
        if not path.exists():
            self.create()
            write_once(path, secrets.token_hex(32), 0o600)
        return path.read_text(encoding="ascii").strip()

    def port(self) -> int:
        """Return the port of this home, chosen free on first use and kept for good.

        Kept because the SDK remembers a cloud's address by its name for the life of a process. Only the usual home asks
        for the well-known port: another one might take it while its owner is stopped.
        """
        path = self.path / "address.json"
        if not path.exists():
            self.create()
            wanted = FIRST_PORT if self.path == _usual_path() else 0
            port = _free_port(wanted)
            write_once(path, json.dumps({"port": port, "tls_port": _free_port(port + 1)}), 0o600)
        return int(json.loads(path.read_text(encoding="utf-8"))["port"])

    def tls_port(self) -> int:
        """Return the second port of this home, which speaks TLS to foreign scripts; chosen and kept like the first."""
        port, path = self.port(), self.path / "address.json"
        address = json.loads(path.read_text(encoding="utf-8"))
        if "tls_port" not in address:  # a home of before there was one
            address["tls_port"] = _free_port(port + 1)
            write_atomically(path, json.dumps(address))
        return int(address["tls_port"])

    def url(self) -> str:
        """Return the base address of the local workspace of this home."""
        return f"http://127.0.0.1:{self.port()}"

    def tls_url(self) -> str:
        """Return the base address of the same over TLS."""
        return f"https://127.0.0.1:{self.tls_port()}"


def current() -> Home:
    """Return the home of this process."""
    return Home(default_path())


def _free_port(wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")

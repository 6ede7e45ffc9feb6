"""Blobs as files: `home.blobs/<container>/<blob name>`.

A job's outputs are written straight into this tree, so a file needs no record to be a blob; its description by a client
(content type, metadata) is kept in the store.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.engine import disk
from core.local.jobs.runs import Runs
from core.local.store import Store
from core.local.wire.errors import WireError

DATASTORE = "workspaceblobstore"
CONTAINER = "azureml-blobstore"
ARTIFACT_DATASTORE = "workspaceartifactstore"  # what runs leave besides outputs: logs, and what MLflow clients log
ARTIFACT_CONTAINER = "azureml"
KIND = "blob"
MAX_BLOCK_ID_BYTES = 64
UNCOMMITTED_BLOCKS_S = 7 * 24 * 3600  # as long as Azure keeps blocks that no list names

CONTAINER_NAME = re.compile(r"[a-z0-9](?:[a-z0-9]|-(?!-)){1,61}[a-z0-9]")
_OF_A_RUN = re.compile(r"ExperimentRun/dcid\.(?P<run>[^/]+)/(?P<below>.*)", re.DOTALL)
_STAGING = ".staging"  # no container can have this name; on the same disk as the blobs, so that a rename is enough


@dataclass(frozen=True)
class Blob:
    """A blob as it is on disk. `modified_ns` is the file's own time; `etag` changes with every write."""

    name: str
    path: Path = field(repr=False)
    size_bytes: int
    modified_ns: int
    content_type: str = "application/octet-stream"
    metadata: dict[str, str] = field(default_factory=dict)
    content_md5: str = ""

    @property
    def etag(self) -> str:
        """Return the quoted entity tag."""
        return f'"0x{self.modified_ns:X}{self.size_bytes:X}"'


class BlobStore:
    """The containers of one workspace."""

    def __init__(self, root: Path, store: Store, runs: Runs) -> None:
        self._root = root
        self._store = store
        self._runs = runs
        for container in (CONTAINER, ARTIFACT_CONTAINER):
            (self._root / container).mkdir(parents=True, exist_ok=True)
        self._take_over_artifacts()
        self._drop_unfinished()

    def _take_over_artifacts(self) -> None:
        """Move what MLflow clients logged in an older home, where it lay in the default container."""
        older = self._root / CONTAINER / "azureml" / "ExperimentRun"
        if older.is_dir() and not (self._root / ARTIFACT_CONTAINER / "ExperimentRun").exists():
            older.rename(self._root / ARTIFACT_CONTAINER / "ExperimentRun")

    def _drop_unfinished(self) -> None:
        """Delete what uploads left that an earlier server did not finish: halves of bodies, and blocks after a week."""
        folder = self._root / _STAGING
        folder.mkdir(exist_ok=True)
        for left in folder.iterdir():
            if left.is_file():
                left.unlink()
            elif left.stat().st_mtime < time.time() - UNCOMMITTED_BLOCKS_S:
                shutil.rmtree(left, ignore_errors=True)

    def container_path(self, container: str) -> Path:
        """Return the folder of a container that is there; raises 404 ContainerNotFound."""
        path = self._root / _checked_container(container)
        if not path.is_dir():
            raise WireError(404, "ContainerNotFound", "The specified container does not exist.")
        return path

    def create_container(self, container: str) -> None:
        """Make a container; raises 409 where it is there."""
        try:
            (self._root / _checked_container(container)).mkdir()
        except FileExistsError as error:
            raise WireError(409, "ContainerAlreadyExists", "The specified container already exists.") from error

    def path_of(self, container: str, name: str) -> Path:
        """Return the file of a blob, there or not, always inside its container.

        Raises 400 for an unsafe name, and 409 for the log of a run, which is its process's to write.
        """
        root = self.container_path(container)
        if self._find_log(container, name):
            raise WireError(409, "BlobImmutableDueToPolicy", "The log of a run is written by the run alone.")
        parts = name.split("/")
        if any(part in ("", ".", "..") or "\0" in part or len(part.encode()) > 255 for part in parts):
            raise WireError(
                400, "InvalidResourceName", "The specified blob name contains characters that are not allowed."
            )
        path = root.joinpath(*parts)
        if not path.resolve().is_relative_to(root.resolve()):
            raise WireError(400, "InvalidResourceName", "The specified blob name leads out of its container.")
        return path

    def find(self, container: str, name: str) -> Blob | None:
        """Return a blob, or None; a name with a slash at its end is a folder's, which the SDK asks for as a blob."""
        if name.endswith("/"):
            self.container_path(container)
            return None
        return self._blob(container, name, self._find_log(container, name) or self.path_of(container, name))

    def _find_log(self, container: str, name: str) -> Path | None:
        """Return the log of a run that a name stands for: it stays in the run's own folder."""
        found = _OF_A_RUN.fullmatch(name) if container == ARTIFACT_CONTAINER else None
        run = self._runs.find(found["run"]) if found else None
        return run.logs().get(found["below"]) if found and run else None

    def require(self, container: str, name: str) -> Blob:
        """Return a blob; raises 404 BlobNotFound."""
        found = self.find(container, name)
        if found is None:
            raise WireError(404, "BlobNotFound", "The specified blob does not exist.")
        return found

    def _blob(self, container: str, name: str, path: Path) -> Blob | None:
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not path.is_file():
            return None
        described = self._store.get(KIND, f"{container}/{name}") or {}
        if described.get("modified_ns") != status.st_mtime_ns:
            described = {}  # a job has written the file since; the description is of other content
        return Blob(
            name,
            path,
            status.st_size,
            status.st_mtime_ns,
            described.get("content_type") or "application/octet-stream",
            described.get("metadata", {}),
            described.get("content_md5", ""),
        )

    def staging_file(self) -> Path:
        """Return a new name for a file that is not a blob yet."""
        return self._root / _STAGING / uuid.uuid4().hex

    def commit(self, container: str, name: str, staged: Path, described: dict[str, Any]) -> Blob:
        """Make a staged file the content of a blob, in one step; raises 409 where the name is a folder's."""
        path = self.path_of(container, name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            disk.place(staged, path)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise WireError(
                409, "BlobNameConflict", "A part of this name is a blob, or this name a folder of one."
            ) from error
        self.describe(container, name, described)
        return self.require(container, name)

    def describe(self, container: str, name: str, described: dict[str, Any]) -> None:
        """Store the description of a blob: content_type, metadata, content_md5."""
        modified_ns = self.path_of(container, name).stat().st_mtime_ns
        self._store.put(KIND, f"{container}/{name}", {**described, "modified_ns": modified_ns}, parent=container)

    def delete(self, container: str, name: str) -> None:
        """Delete a blob and the folders that are empty without it; raises 404."""
        self.require(container, name)
        path = self.path_of(container, name)
        path.unlink()
        self._store.delete(KIND, f"{container}/{name}")
        _prune(path.parent, self.container_path(container))

    # Blocks: the parts of a large upload, kept until the list of them is committed

    def block_path(self, container: str, name: str, block_id: str) -> Path:
        """Return where a block is kept; raises 400 for an id that is not base64 of at most 64 bytes."""
        try:
            raw = base64.b64decode(block_id, validate=True)
        except (binascii.Error, ValueError) as error:
            raise WireError(400, "InvalidBlockId", "The block id is not base64.") from error
        if not 0 < len(raw) <= MAX_BLOCK_ID_BYTES:
            raise WireError(400, "InvalidBlockId", "The block id is longer than 64 bytes.")
        folder = self._blocks_of(container, name)
        folder.mkdir(parents=True, exist_ok=True)
        return folder / raw.hex()

    def _blocks_of(self, container: str, name: str) -> Path:
        self.path_of(container, name)
        return self._root / _STAGING / hashlib.sha256(f"{container}/{name}".encode()).hexdigest()

    def list_blocks(self, container: str, name: str) -> list[tuple[str, int]]:
        """Return id (base64) and size of the blocks that were sent and that no list named yet."""
        folder = self._blocks_of(container, name)
        found = sorted(folder.iterdir()) if folder.is_dir() else []
        return [
            (base64.b64encode(bytes.fromhex(block.name)).decode(), block.stat().st_size)
            for block in found
            if set(block.name) <= set("0123456789abcdef")
        ]

    def commit_blocks(self, container: str, name: str, block_ids: Iterable[str], described: dict[str, Any]) -> Blob:
        """Put blocks together as the content of a blob; raises 400 InvalidBlockList where one was never sent."""
        blocks = [self.block_path(container, name, block_id) for block_id in block_ids]
        if missing := [block for block in blocks if not block.is_file()]:
            raise WireError(
                400, "InvalidBlockList", f"{len(missing)} of the {len(blocks)} blocks in the list were not sent."
            )
        staged = self.staging_file()
        with staged.open("wb") as whole:
            for block in blocks:
                with block.open("rb") as part:
                    shutil.copyfileobj(part, whole, 1 << 20)
        blob = self.commit(container, name, staged, described)
        shutil.rmtree(self._blocks_of(container, name), ignore_errors=True)
        return blob

    # Lists

    def walk(self, container: str, prefix: str) -> Iterator[str]:
        """Yield the names of the blobs with a prefix, in no order; logs of a run where the prefix names the run."""
        root = self.container_path(container)
        yield from self._list_logs(container, prefix)
        folder, _, _ = prefix.rpartition("/")
        start = self.path_of(container, folder) if folder else root
        for parent, folders, files in os.walk(start):
            folders[:] = [name for name in folders if not name.startswith(_STAGING)]
            base = Path(parent).relative_to(root).as_posix()
            for file in files:
                name = file if base == "." else f"{base}/{file}"
                if name.startswith(prefix):
                    yield name

    def _list_logs(self, container: str, prefix: str) -> list[str]:
        found = _OF_A_RUN.fullmatch(prefix) if container == ARTIFACT_CONTAINER else None
        run = self._runs.find(found["run"]) if found else None
        names = (f"ExperimentRun/dcid.{run.run_id}/{below}" for below in run.logs()) if run else ()
        return [name for name in names if name.startswith(prefix)]


def _checked_container(container: str) -> str:
    if not CONTAINER_NAME.fullmatch(container):
        raise WireError(400, "InvalidResourceName", "The specified container name is not allowed.")
    return container


def _prune(folder: Path, root: Path) -> None:
    while folder != root and folder.is_relative_to(root):
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent

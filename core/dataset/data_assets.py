"""Data sets in a workspace: sent as blobs under their hash, registered as data assets, listed and fetched again.

Starts no run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from core.azureml import datastore
from core.azureml.connection import Connection
from core.azureml.storage import BLOCK_BYTES
from core.dataset.chat_dataset import ChatDataset
from core.dataset.store import hash_files
from core.errors import BadInput

if TYPE_CHECKING:  # and late below: Azure's SDK takes a second, which a page that sends nothing need not wait for
    from azure.storage.blob import BlobClient, ContainerClient

HASH_TAG = "tunedeck.sha256"
_FOLDER = "tunedeck/datasets"
_PARALLEL_BLOCKS = 2
_LONGEST_NAME = 80
_NAMES, _VERSIONS = 100, 10  # that are listed; one request for each name


@dataclass(frozen=True)
class UploadedData:
    """Where a data set lies in the default datastore. bytes_sent: 0 if it was there already."""

    train_uri: str
    test_uri: str | None
    bytes_sent: int


@dataclass(frozen=True)
class RegisteredData:
    """The data assets registered for a data set; the ids go into a job."""

    name: str
    version: str
    train_id: str
    test_id: str | None


@dataclass(frozen=True)
class DataAsset:
    """One version of a data asset. rows: as Tunedeck registered it, else 0."""

    name: str
    version: str
    rows: int
    source: str
    created_at: str

    @property
    def words(self) -> str:
        """Return "support-train 3 · 450 rows · uploaded file x.jsonl"."""
        rows = f"{self.rows:,} rows" if self.rows else ""
        return " · ".join(part for part in (f"{self.name} {self.version}", rows, self.source) if part)


def upload(conn: Connection, dataset: ChatDataset, progress: Callable[[int, int], None] | None = None) -> UploadedData:
    """Send a data set to the default datastore, under its hash; what is there already is not sent again.

    An interrupted upload is resumed: the service keeps the blocks that arrived for a week.

    progress: hears (bytes done, bytes in all), from other threads.
    """
    blobs = conn.blobs()
    files = {path: f"{_FOLDER}/{dataset.key}/{path.name}" for path in dataset.files.values()}
    total = sum(path.stat().st_size for path in files)
    done = sent = 0
    for path, blob in files.items():
        if not _is_there(conn, blobs.container, blob, path):
            sent += _send(conn, blobs.container, blob, path, _from(progress, done, total))
        done += path.stat().st_size
        if progress:
            progress(done, total)
    uris = [blobs.uri(blob) for blob in files.values()]
    return UploadedData(uris[0], uris[1] if len(uris) > 1 else None, sent)


def register_data(conn: Connection, dataset: ChatDataset, uploaded: UploadedData) -> RegisteredData:
    """Register an upload as named, versioned data assets; the same content has the same version again."""
    name = _to_asset_name(dataset.name)
    train = _register(conn, f"{name}-train", dataset, uploaded.train_uri, dataset.rows)
    test = None
    if uploaded.test_uri:
        test = _register(conn, f"{name}-test", dataset, uploaded.test_uri, dataset.test_rows)
    return RegisteredData(name, str(train.version), str(train.id), str(test.id) if test else None)


def list_assets(conn: Connection) -> list[DataAsset]:
    """Return the newest versions of up to 100 data assets that are single files, newest first."""
    data = conn.workspace.data
    names = conn.call("read", "data assets", lambda: [str(asset.name) for asset in islice(data.list(), _NAMES)])
    assets: list[DataAsset] = []
    for name in names:
        versions = conn.call("read", f"data '{name}'", lambda name=name: list(islice(data.list(name), _VERSIONS)))
        assets += [_read(version) for version in versions if _is_file(version)]
    return sorted(assets, key=lambda asset: asset.created_at, reverse=True)


def get_blob(conn: Connection, name: str, version: str) -> str:
    """Return where a data asset's file lies in the default datastore. Raises BadInput where it is no such file."""
    asset = conn.call("read", f"data asset '{name}'", lambda: conn.workspace.data.get(name, version))
    blob = datastore.path_of(conn, str(asset.path))
    if blob is None:
        hint = "Choose one whose file lies in the workspace's default datastore, or upload the file."
        raise BadInput(f"Data asset '{name}' version {version} lies in another datastore.", hint, str(asset.path))
    if not _is_file(asset):
        raise BadInput(f"Data asset '{name}' is no single file.", "Choose a data asset of the type file.")
    return blob


def fetch(conn: Connection, blob: str, path: Path) -> int:
    """Write a blob of the default datastore to a file; returns its size in bytes."""
    download = conn.call("read", f"'{blob}'", conn.blobs().container.get_blob_client(blob).download_blob)
    part = path.with_suffix(".fetched")
    with part.open("wb") as file:
        for chunk in download.chunks():
            file.write(chunk)
    part.replace(path)
    return int(download.size)


def hash_stored(conn: Connection, blobs: Sequence[str]) -> str:
    """Return the key of a data set whose training file, and test file if it has one, lie there; reads them whole."""
    with TemporaryDirectory() as folder:
        files = [Path(folder) / str(number) for number in range(len(blobs))]
        for blob, path in zip(blobs, files, strict=True):
            fetch(conn, blob, path)
        return hash_files(files[0], files[1] if len(files) > 1 else None)


def _is_file(asset: Any) -> bool:
    return str(asset.type).lower().endswith("uri_file")


def _read(asset: Any) -> DataAsset:
    tags = dict(asset.tags or {})
    rows = str(tags.get("rows", ""))
    context = asset.creation_context
    return DataAsset(
        str(asset.name),
        str(asset.version),
        int(rows) if rows.isdigit() else 0,
        str(tags.get("source", ""))[:60],
        context.created_at.isoformat() if context and context.created_at else "",
    )


def _is_there(conn: Connection, container: ContainerClient, blob: str, path: Path) -> bool:
    """Tell whether the whole blob is there; its name holds its hash, so comparing sizes is enough."""
    from azure.core.exceptions import ResourceNotFoundError

    def ask() -> int | None:
        try:
            return int(container.get_blob_client(blob).get_blob_properties().size)
        except ResourceNotFoundError:
            return None

    return conn.call("read", f"the file '{path.name}' in the datastore", ask) == path.stat().st_size


def _send(conn: Connection, container: ContainerClient, blob: str, path: Path, hook: Callable[[int], None]) -> int:
    """Send a file in blocks, but those that an interrupted upload sent already; returns the bytes sent.

    The service keeps blocks for a week until a list makes a blob of them. The blob's name holds the content's hash, and
    a block's name its size and number: so a block of that name is that part of the content.
    """
    what, size = f"the file '{path.name}' to the datastore", path.stat().st_size
    client = container.get_blob_client(blob)
    there = conn.call("read", f"the parts of '{path.name}'", lambda: _list_blocks(client))
    names = [f"{BLOCK_BYTES:010d}-{number:08d}" for number in range(max(1, -(-size // BLOCK_BYTES)))]
    missing = [
        number for number, name in enumerate(names) if there.get(name) != min(BLOCK_BYTES, size - number * BLOCK_BYTES)
    ]
    done = size - sum(min(BLOCK_BYTES, size - number * BLOCK_BYTES) for number in missing)
    hook(done)
    sent = size - done

    def send(number: int) -> int:
        with path.open("rb") as file:
            file.seek(number * BLOCK_BYTES)
            content = file.read(BLOCK_BYTES)
        conn.call("write", what, client.stage_block, names[number], content, length=len(content))
        return len(content)

    with ThreadPoolExecutor(_PARALLEL_BLOCKS) as pool:
        for length in pool.map(send, missing):
            done += length
            hook(done)
    conn.call("write", what, client.commit_block_list, names)
    return sent


def _list_blocks(client: BlobClient) -> dict[str, int]:
    """Return the uncommitted blocks of a blob, with their sizes."""
    from azure.core.exceptions import ResourceNotFoundError

    try:
        _, waiting = client.get_block_list("uncommitted")
    except ResourceNotFoundError:
        return {}
    return {str(block.id): int(block.size) for block in waiting}


def _from(progress: Callable[[int, int], None] | None, done: int, total: int) -> Callable[[int], None]:
    """Return a hook for one file, which adds the bytes of the files before it."""
    return (lambda current: progress(done + current, total)) if progress else (lambda _current: None)


def _to_asset_name(text: str) -> str:
    """Return `text` as Azure accepts it as a data asset's name: letters, digits, hyphens, dots and underscores."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:_LONGEST_NAME].rstrip("-._")
    return name or "data"


def _register(conn: Connection, name: str, dataset: ChatDataset, uri: str, rows: int) -> Any:
    what = f"data asset '{name}'"
    registered = conn.call("read", what, lambda: _find_version(conn, name, dataset.key))
    if registered is not None:
        return registered
    from azure.ai.ml.constants import AssetTypes
    from azure.ai.ml.entities import Data

    asset = Data(
        name=name,
        path=uri,
        type=AssetTypes.URI_FILE,
        description=f"{rows:,} conversations from {dataset.source}.",
        tags={**conn.policy_tags, **_tags(dataset, name, rows)},
    )
    return conn.call("create", what, lambda: conn.workspace.data.create_or_update(asset))


def _tags(dataset: ChatDataset, name: str, rows: int) -> dict[str, str]:
    """Return the tags of a data asset; a tag's value holds 256 characters."""
    report = dataset.test if name.endswith("-test") and dataset.test else dataset.train
    findings = ", ".join(f"{finding.code}={finding.count}" for finding in report.findings) or "none"
    unit = "tokens" if report.stats.in_tokens else "tokens_estimate"
    tags = {
        HASH_TAG: dataset.key,
        "rows": str(rows),
        unit: str(report.stats.total_length),
        "source": dataset.source[:250],
        "findings": findings[:250],
        "made_by": "tunedeck",
    }
    return tags | ({"shape": dataset.shape.name} if dataset.shape else {})


def _find_version(conn: Connection, name: str, sha256: str) -> Any:
    """Return the version with this content, None if there is none yet."""
    from azure.core.exceptions import HttpResponseError

    def versions() -> Iterator[Any]:
        try:
            yield from conn.workspace.data.list(name)
        except HttpResponseError as error:
            if error.status_code != 404:
                raise

    return next((version for version in versions() if (version.tags or {}).get(HASH_TAG) == sha256), None)

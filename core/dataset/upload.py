"""Sends a data set to a workspace: blobs under its hash, then named and versioned data assets. Starts no run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.azureml.connection import Connection
from core.azureml.storage import BLOCK_BYTES
from core.dataset.chat_dataset import ChatDataset
from core.dataset.files import TEST, TRAIN

if TYPE_CHECKING:  # and late below: Azure's SDK takes a second, which a page that sends nothing need not wait for
    from azure.storage.blob import BlobClient, ContainerClient

HASH_TAG = "tunedeck.sha256"
_FOLDER = "tunedeck/datasets"
_PARALLEL_BLOCKS = 2
_LONGEST_NAME = 80


@dataclass(frozen=True)
class UploadedData:
    """Where a data set lies in the default datastore. bytes_sent: 0 where all of it was there already."""

    train_uri: str
    test_uri: str | None
    bytes_sent: int


@dataclass(frozen=True)
class DataAssets:
    """Data assets made from a data set; the ids go into a job."""

    name: str
    version: str
    train_id: str
    test_id: str | None


def upload(conn: Connection, dataset: ChatDataset, progress: Callable[[int, int], None] | None = None) -> UploadedData:
    """Send a data set to the default datastore, under its hash; what is there already is not sent again.

    A broken upload goes on where it was: the blocks that arrived are kept by the service for a week.

    progress: hears (bytes done, bytes in all), from other threads.
    """
    blobs = conn.blobs()
    files = [(TRAIN, dataset.train_path)] + ([(TEST, dataset.test_path)] if dataset.test_path else [])
    total = sum(path.stat().st_size for _, path in files)
    done = sent = 0
    for name, path in files:
        blob = f"{_FOLDER}/{dataset.sha256}/{name}"
        if not _is_there(conn, blobs.container, blob, path):
            sent += _send(conn, blobs.container, blob, path, _from(progress, done, total))
        done += path.stat().st_size
        if progress:
            progress(done, total)
    uris = [blobs.uri(f"{_FOLDER}/{dataset.sha256}/{name}") for name, _ in files]
    return UploadedData(uris[0], uris[1] if len(uris) > 1 else None, sent)


def register_data(conn: Connection, dataset: ChatDataset, uploaded: UploadedData) -> DataAssets:
    """Make named, versioned data assets of an upload; the same content gives the same version again."""
    name = _to_asset_name(dataset.name)
    train = _register(conn, f"{name}-train", dataset, uploaded.train_uri, dataset.rows)
    test = None
    if uploaded.test_uri:
        test = _register(conn, f"{name}-test", dataset, uploaded.test_uri, dataset.test_rows)
    return DataAssets(name, str(train.version), str(train.id), str(test.id) if test else None)


def _is_there(conn: Connection, container: ContainerClient, blob: str, path: Path) -> bool:
    """Tell whether the blob is there whole; its name holds its hash, so the size decides."""
    from azure.core.exceptions import ResourceNotFoundError

    def ask() -> int | None:
        try:
            return int(container.get_blob_client(blob).get_blob_properties().size)
        except ResourceNotFoundError:
            return None

    return conn.call("read", f"the file '{path.name}' in the datastore", ask) == path.stat().st_size


def _send(conn: Connection, container: ContainerClient, blob: str, path: Path, hook: Callable[[int], None]) -> int:
    """Send a file in blocks, and leave out those that a broken upload sent already; returns the bytes sent.

    Blocks wait a week on the service for the list that makes a blob of them. The blob's name holds the content's hash,
    and a block's name its size and number: so a block of that name is that part of the content.
    """
    what, client, size = (
        f"the file '{path.name}' to the datastore",
        container.get_blob_client(blob),
        path.stat().st_size,
    )
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
    """Return the blocks that were sent and not yet made a blob of, with their sizes."""
    from azure.core.exceptions import ResourceNotFoundError

    try:
        _, waiting = client.get_block_list("uncommitted")
    except ResourceNotFoundError:
        return {}
    return {str(block.id): int(block.size) for block in waiting}


def _from(progress: Callable[[int, int], None] | None, done: int, total: int) -> Callable[[int], None]:
    """Return a hook that adds what was sent before this file."""
    return (lambda current: progress(done + current, total)) if progress else (lambda _current: None)


def _to_asset_name(text: str) -> str:
    """Return `text` as Azure accepts it for a data asset: letters, digits, hyphens, dots and underscores."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:_LONGEST_NAME].rstrip("-._")
    return name or "data"


def _register(conn: Connection, name: str, dataset: ChatDataset, uri: str, rows: int) -> Any:
    what = f"data asset '{name}'"
    known = conn.call("read", what, lambda: _find_version(conn, name, dataset.sha256))
    if known is not None:
        return known
    from azure.ai.ml.constants import AssetTypes
    from azure.ai.ml.entities import Data

    asset = Data(
        name=name,
        path=uri,
        type=AssetTypes.URI_FILE,
        description=f"{rows:,} conversations from {dataset.source}.",
        tags=_tags(dataset, name, rows),
    )
    return conn.call("create", what, lambda: conn.workspace.data.create_or_update(asset))


def _tags(dataset: ChatDataset, name: str, rows: int) -> dict[str, str]:
    """Return what the asset says of itself: a tag's value holds 256 characters."""
    report = dataset.test if name.endswith("-test") and dataset.test else dataset.train
    found = ", ".join(f"{one.code}={one.count}" for one in report.findings) or "none"
    unit = "tokens" if report.stats.length_unit == "tokens" else "tokens_estimate"
    tags = {
        HASH_TAG: dataset.sha256,
        "rows": str(rows),
        unit: str(report.stats.total_length),
        "source": dataset.source[:250],
        "findings": found[:250],
        "made_by": "tunedeck",
    }
    return tags | ({"shape": dataset.shape.name} if dataset.shape else {})


def _find_version(conn: Connection, name: str, sha256: str) -> Any:
    """Return the version that holds this content, None where there is none yet."""
    from azure.core.exceptions import HttpResponseError

    def versions() -> Iterator[Any]:
        try:
            yield from conn.workspace.data.list(name)
        except HttpResponseError as error:
            if error.status_code != 404:
                raise

    return next((found for found in versions() if (found.tags or {}).get(HASH_TAG) == sha256), None)

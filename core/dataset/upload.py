"""Sends a data set to a workspace: blobs under its hash, then named and versioned data assets. Starts no run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.dataset.files import TEST, TRAIN
from core.names import to_asset_name

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient

    from core.connection import Connection
    from core.dataset.chat_dataset import ChatDataset

HASH_TAG = "tunedeck.sha256"
_FOLDER = "tunedeck/datasets"
_PARALLEL_BLOCKS = 2


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

    progress: hears (bytes done, bytes in all), from other threads.
    """
    blobs = conn.blobs()
    files = [(TRAIN, dataset.train_path)] + ([(TEST, dataset.test_path)] if dataset.test_path else [])
    total = sum(path.stat().st_size for _, path in files)
    done = sent = 0
    for name, path in files:
        blob = f"{_FOLDER}/{dataset.sha256}/{name}"
        if not _is_there(conn, blobs.container, blob, path):
            _send(conn, blobs.container, blob, path, _from(progress, done, total))
            sent += path.stat().st_size
        done += path.stat().st_size
        if progress:
            progress(done, total)
    uris = [blobs.uri(f"{_FOLDER}/{dataset.sha256}/{name}") for name, _ in files]
    return UploadedData(uris[0], uris[1] if len(uris) > 1 else None, sent)


def register_data(conn: Connection, dataset: ChatDataset, uploaded: UploadedData) -> DataAssets:
    """Make named, versioned data assets of an upload; the same content gives the same version again."""
    name = to_asset_name(dataset.name)
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


def _send(
    conn: Connection, container: ContainerClient, blob: str, path: Path, hook: Callable[..., None] | None
) -> None:
    with path.open("rb") as file:
        conn.call(
            "write",
            f"the file '{path.name}' to the datastore",
            lambda: container.upload_blob(
                blob,
                file,
                length=path.stat().st_size,
                overwrite=True,
                max_concurrency=_PARALLEL_BLOCKS,
                progress_hook=hook,
            ),
        )


def _from(progress: Callable[[int, int], None] | None, done: int, total: int) -> Callable[..., None] | None:
    """Return a hook that adds what was sent before this file."""
    return (lambda current, _of_file: progress(done + current, total)) if progress else None


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
        tags={HASH_TAG: dataset.sha256, "rows": str(rows), "source": dataset.source[:250], "made_by": "tunedeck"},
    )
    return conn.call("create", what, lambda: conn.workspace.data.create_or_update(asset))


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

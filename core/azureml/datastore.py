"""Files in the workspace's default datastore: addresses, small reads and writes, sizes, deletion."""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

from core.azureml.abreast import abreast
from core.azureml.connection import Connection
from core.errors import BadInput, NotFound, TunedeckError

if TYPE_CHECKING:
    from azure.core.paging import PageIterator
    from azure.storage.blob import BlobProperties

_LONG = re.compile(r"azureml:.*/datastores/(?P<store>[^/]+)/paths/(?P<path>.*)")

# An asset as an ARM id, as a registry's address or in short; the service may answer with another form than was sent.
_ASSET = re.compile(r"(?:azureml:|.*/(?:data|models|components)/)([^/:]+)(?:/versions/|:)([^/:]+)", re.IGNORECASE)


@dataclass(frozen=True)
class File:
    """One file as the datastore lists it. md5: in base64, "" where the service keeps none."""

    bytes: int
    etag: str
    md5: str = ""


def asset_of(address: str) -> tuple[str, str] | None:
    """Return the name and version of the asset that an address names, whatever its form; None for any other."""
    found = _ASSET.fullmatch(address)
    return (found[1], found[2]) if found else None


def uri_of(conn: Connection, path: str) -> str:
    """Return the address of a path in the default datastore, as a job's input takes it."""
    return f"azureml://datastores/{conn.blobs().datastore}/paths/{path}"


def path_of(conn: Connection, uri: str) -> str | None:
    """Return the path inside the default datastore that an address (short or long form) names, or None."""
    found = _LONG.fullmatch(uri)
    return found["path"] if found and found["store"] == conn.blobs().datastore else None


def send_file(conn: Connection, path: str, content: bytes) -> None:
    """Write a small file unless it is there already: for files named by their content."""
    blob = conn.blobs().container.get_blob_client(path)
    if not conn.call("read", f"'{path}'", blob.exists):
        conn.call("write", f"'{path}'", blob.upload_blob, content, overwrite=True)


def read_text(conn: Connection, path: str, limit_bytes: int = 8_000_000) -> str | None:
    """Return a small text file, or None when it is not there."""
    blob = conn.blobs().container.get_blob_client(path)
    try:
        content: bytes = conn.call("read", f"'{path}'", lambda: blob.download_blob(0, limit_bytes).readall())
    except NotFound:
        return None
    return content.decode("utf-8")


def sum_bytes(conn: Connection, prefixes: Collection[str], problems: list[str]) -> dict[str, int | None]:
    """Return what lies below each prefix in bytes; None when it is more than a page of files (5,000), or cannot be
    read: `problems` takes why.

    A first folder of no more files than that is listed once, for all the prefixes in it.
    """

    def measure(prefix: str) -> dict[str, int] | None:
        try:
            return _list_page(conn, prefix)
        except TunedeckError as error:
            problems.append(error.message)
            return None

    def measure_all(wanted: Iterable[str]) -> dict[str, dict[str, int] | None]:
        return dict(zip(wanted, abreast(conn, [partial(measure, prefix) for prefix in wanted]), strict=True))

    folders = {prefix: f"{prefix.partition('/')[0]}/" for prefix in prefixes}
    shared = {folder for folder, count in Counter(folders.values()).items() if count > 1}
    whole = measure_all(sorted(shared))
    files = {prefix: whole.get(folder) for prefix, folder in folders.items()}
    files |= measure_all([prefix for prefix, found in files.items() if found is None])
    return {
        prefix: None if found is None else sum(size for name, size in found.items() if name.startswith(prefix))
        for prefix, found in files.items()
    }


def has_files(conn: Connection, prefix: str, without: tuple[str, ...] = ()) -> bool:
    """Tell whether a file lies below a prefix, and not below one of `without`."""
    return bool(_list(conn, prefix, without))


def list_files(conn: Connection, path: str, most: int = 500) -> dict[str, File] | None:
    """Return the file at a path, or those below it, by their paths; None when they are more than `most`."""
    found = [blob for blob in _list(conn, path) if blob.name == path or blob.name.startswith(f"{path.rstrip('/')}/")]
    if len(found) > most:
        return None
    return {blob.name: _describe(blob) for blob in found}


def _describe(blob: BlobProperties) -> File:
    md5 = base64.b64encode(bytes(blob.content_settings.content_md5 or b"")).decode()
    return File(int(blob.size), str(blob.etag or "").strip('"'), md5)


def delete_below(conn: Connection, prefix: str, without: tuple[str, ...] = ()) -> int:
    """Delete every file below a prefix, but for those below `without`; returns the bytes.

    A prefix that is no folder of its own is refused.
    """
    if prefix.count("/") < 2 or not prefix.endswith("/"):
        raise BadInput(f"'{prefix}' is not a folder of one model or run.", "Nothing was deleted.")
    container, freed = conn.blobs().container, 0
    for blob in _list(conn, prefix, without):
        try:
            conn.call("delete", f"'{blob.name}'", container.delete_blob, blob.name)
        except NotFound:
            continue  # already deleted by someone else
        freed += blob.size
    return freed


def _list_page(conn: Connection, prefix: str) -> dict[str, int] | None:
    """Return name and size of the files below a prefix, in one request; None where there are more than a page."""
    container = conn.blobs().container

    def ask() -> dict[str, int] | None:
        pages = cast("PageIterator[BlobProperties]", container.list_blobs(prefix).by_page())
        files = {blob.name: int(blob.size or 0) for blob in next(pages, ())}
        return None if pages.continuation_token else files

    return conn.call("list", f"'{prefix}'", ask)


def list_softly_deleted(conn: Connection, prefix: str) -> list[tuple[int, int]]:
    """Return bytes and days left of each file below a prefix that was deleted and that the account keeps for a while.

    The local workspace keeps none. https://learn.microsoft.com/azure/storage/blobs/soft-delete-blob-overview
    """
    if conn.cloud.is_local:
        return []
    container = conn.blobs().container
    found = conn.call("list", f"'{prefix}'", lambda: list(container.list_blobs(prefix, include=["deleted"])))
    return [(int(blob.size or 0), int(blob.remaining_retention_days or 0)) for blob in found if blob.deleted]


def _list(conn: Connection, prefix: str, without: tuple[str, ...] = ()) -> list[BlobProperties]:
    container = conn.blobs().container
    found = conn.call("list", f"'{prefix}'", lambda: list(container.list_blobs(prefix)))
    return [blob for blob in found if not blob.name.startswith(without)] if without else found

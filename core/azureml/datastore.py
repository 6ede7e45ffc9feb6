"""Files in the workspace's default datastore: addresses, small reads and writes, sizes, deletion."""

from __future__ import annotations

import re
from collections.abc import Iterable

from core.azureml.connection import Connection
from core.errors import BadInput, NotFound

_LONG = re.compile(r"azureml:.*/datastores/(?P<store>[^/]+)/paths/(?P<path>.*)")


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


def sum_bytes(conn: Connection, prefix: str, most: int = 5000) -> int | None:
    """Return what lies below a prefix in bytes, None when it is more than `most` files."""
    total = 0
    for number, (_, size) in enumerate(_list(conn, prefix)):
        if number >= most:
            return None
        total += size
    return total


def delete_below(conn: Connection, prefix: str) -> int:
    """Delete every file below a prefix; returns the bytes. A prefix that is no folder of its own is refused."""
    if prefix.count("/") < 2 or not prefix.endswith("/"):
        raise BadInput(f"'{prefix}' is not a folder of one model.", "Nothing was deleted.")
    container, freed = conn.blobs().container, 0
    for name, size in list(_list(conn, prefix)):
        try:
            conn.call("delete", f"'{name}'", container.delete_blob, name)
        except NotFound:
            continue  # already deleted by someone else
        freed += size
    return freed


def _list(conn: Connection, prefix: str) -> Iterable[tuple[str, int]]:
    container = conn.blobs().container
    return conn.call("list", f"'{prefix}'", lambda: [(b.name, int(b.size or 0)) for b in container.list_blobs(prefix)])

"""Storage: the blob service behind the default datastore.

The blob handlers are asynchronous because bodies stream through them: a model is larger than the server may be.
"""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from core.engine import disk
from core.local.blobs import Blob, BlobStore
from core.local.wire import answers, storage_key
from core.local.wire.errors import WireError
from core.local.workspace import workspace_of

MAX_LIST = 5000
MAX_BLOCK_LIST_BYTES = 8 << 20
MAX_PUT_BYTES = 5000 << 20  # of one request, as on Azure; a larger blob comes in blocks
STORAGE_VERSION = "2026-10-06"

# What would change the meaning of a request and is not done here: refused, not overlooked.
_NOT_DONE_HEADERS = (
    "x-ms-copy-source",
    "x-ms-structured-body",
    "x-ms-content-crc64",
    "x-ms-encryption-key",
    "x-ms-encryption-scope",
    "x-ms-lease-id",
    "x-ms-if-tags",
    "if-modified-since",
    "if-unmodified-since",
)
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


# Containers


async def handle_container(request: Request) -> Response:
    """Create, look at or list a container."""
    store, container = _blobs(request), request.path_params["container"]
    query = request.query_params
    if query.get("restype") != "container":
        raise _not_done(request)
    if request.method == "PUT" and "comp" not in query:
        store.create_container(container)
        return Response(status_code=201, headers=_common_headers())
    if request.method in ("GET", "HEAD") and "comp" not in query:
        modified = store.container_path(container).stat().st_mtime_ns
        return Response(
            headers={**_common_headers(), "ETag": f'"0x{modified:X}"', "Last-Modified": _http_date(modified)}
        )
    if request.method == "GET" and query["comp"] == "list":
        content = await run_in_threadpool(_list_blobs, request, store, container)
        return Response(content, headers=_common_headers(), media_type="application/xml")
    raise _not_done(request)


def _list_blobs(request: Request, store: BlobStore, container: str) -> str:
    query = request.query_params
    prefix, delimiter, marker = query.get("prefix", ""), query.get("delimiter", ""), query.get("marker", "")
    asked = query.get("maxresults", "")
    limit = min(MAX_LIST, int(asked)) if asked.isdecimal() and int(asked) else MAX_LIST
    entries: dict[str, bool] = {}  # name or common prefix -> whether it is a prefix
    for name in store.walk(container, prefix):
        head, found, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
        entries[f"{prefix}{head}{delimiter}" if found else name] = bool(found)
    names = [name for name in sorted(entries) if name >= marker]
    page = names[:limit]
    with_metadata = "metadata" in query.get("include", "")
    items = "".join(
        f"<BlobPrefix><Name>{escape(name)}</Name></BlobPrefix>"
        if entries[name]
        else _blob_to_xml(store, container, name, with_metadata)
        for name in page
    )
    following = names[limit] if len(names) > limit else ""
    endpoint = f"{answers.base_url(request)}/{request.scope['path'].split('/')[1]}/"
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        f'<EnumerationResults ServiceEndpoint="{escape(endpoint)}" ContainerName="{escape(container)}">'
        f"<Prefix>{escape(prefix)}</Prefix><Marker>{escape(marker)}</Marker><MaxResults>{limit}</MaxResults>"
        f"<Delimiter>{escape(delimiter)}</Delimiter><Blobs>{items}</Blobs><NextMarker>{escape(following)}</NextMarker>"
        "</EnumerationResults>"
    )


def _blob_to_xml(store: BlobStore, container: str, name: str, with_metadata: bool) -> str:
    blob = store.find(container, name)
    if blob is None:  # deleted since the folder was read
        return ""
    fields = {
        "Creation-Time": _http_date(blob.modified_ns),
        "Last-Modified": _http_date(blob.modified_ns),
        "Etag": blob.etag.strip('"'),
        "Content-Length": str(blob.size_bytes),
        "Content-Type": blob.content_type,
        "Content-MD5": blob.content_md5,
        "BlobType": "BlockBlob",
        "AccessTier": "Hot",
    }
    properties = "".join(f"<{tag}>{escape(value)}</{tag}>" for tag, value in fields.items())
    pairs = "".join(f"<{key}>{escape(value)}</{key}>" for key, value in blob.metadata.items())
    metadata = f"<Metadata>{pairs}</Metadata>" if with_metadata else ""
    return f"<Blob><Name>{escape(name)}</Name><Properties>{properties}</Properties>{metadata}</Blob>"


# Blobs


async def handle_blob(request: Request) -> Response:
    """Write, read, describe or delete a blob."""
    comp = request.query_params.get("comp")
    if refused := [name for name in _NOT_DONE_HEADERS if name in request.headers]:
        raise WireError(501, "NotImplemented", f"The local blob store does not do {', '.join(refused)}.")
    if request.method == "PUT":
        if comp is None:
            return await _put_blob(request)
        if comp == "block":
            return await _put_block(request)
        if comp == "blocklist":
            return await _put_block_list(request)
        if comp == "metadata":
            return await run_in_threadpool(_put_metadata, request)
    elif comp is None and request.method in ("GET", "HEAD"):
        return await run_in_threadpool(_get_blob, request)
    elif comp == "blocklist" and request.method == "GET":
        return await run_in_threadpool(_get_block_list, request)
    elif comp is None and request.method == "DELETE":
        return await run_in_threadpool(_delete_blob, request)
    raise _not_done(request)


async def _put_blob(request: Request) -> Response:
    kind = request.headers.get("x-ms-blob-type", "")
    if kind != "BlockBlob":
        raise WireError(400, "InvalidHeaderValue", f"Block blobs only, not '{kind}'.")
    store, container, name = _address(request)
    _check_conditions(request, store.find(container, name))
    staged = store.staging_file()
    try:
        digest = await _receive(request, staged)
        described = {**_described(request), "content_md5": digest}
        blob = await run_in_threadpool(store.commit, container, name, staged, described)
    finally:
        staged.unlink(missing_ok=True)
    return Response(status_code=201, headers={**_written_headers(blob), "Content-MD5": digest})


async def _put_block(request: Request) -> Response:
    store, container, name = _address(request)
    target = store.block_path(container, name, request.query_params.get("blockid", ""))
    staged = store.staging_file()
    try:
        digest = await _receive(request, staged)
        await run_in_threadpool(disk.place, staged, target)
    finally:
        staged.unlink(missing_ok=True)
    return Response(status_code=201, headers={**_common_headers(), "Content-MD5": digest})


async def _put_block_list(request: Request) -> Response:
    store, container, name = _address(request)
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > MAX_BLOCK_LIST_BYTES:
            raise WireError(413, "RequestBodyTooLarge", "The list of blocks is too long.")
    _check_conditions(request, store.find(container, name))
    blob = await run_in_threadpool(
        store.commit_blocks, container, name, _read_block_list(bytes(content)), _described(request)
    )
    return Response(status_code=201, headers=_written_headers(blob))


def _get_block_list(request: Request) -> Response:
    """Answer which blocks were sent and wait for their list; what is committed is kept as one piece, without blocks."""
    store, container, name = _address(request)
    waiting = store.list_blocks(container, name)
    if not waiting and store.find(container, name) is None:
        raise WireError(404, "BlobNotFound", "The specified blob does not exist.")
    asked = request.query_params.get("blocklisttype", "committed")
    blocks = "".join(f"<Block><Name>{escape(block)}</Name><Size>{size}</Size></Block>" for block, size in waiting)
    shown = f"<UncommittedBlocks>{blocks}</UncommittedBlocks>" if asked in ("all", "uncommitted") else ""
    committed = "<CommittedBlocks></CommittedBlocks>" if asked in ("all", "committed") else ""
    content = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{committed}{shown}</BlockList>'
    return Response(content, headers=_common_headers(), media_type="application/xml")


def _read_block_list(content: bytes) -> list[str]:
    if (
        b"<!DOCTYPE" in content or b"<!ENTITY" in content
    ):  # nothing in a list of ids needs one; some can swell in memory
        raise WireError(400, "InvalidXmlDocument", "The list of blocks has a document type.")
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise WireError(400, "InvalidXmlDocument", f"The list of blocks is not XML: {error}") from error
    if any(child.tag not in ("Latest", "Uncommitted") for child in root):
        raise WireError(400, "InvalidBlockList", "Blocks of an older version of the blob cannot be used again here.")
    return [(child.text or "").strip() for child in root]


async def _receive(request: Request, target: Path) -> str:
    """Stream the body into a file; return its MD5 in base64; raises 400 where the client's own MD5 differs."""
    digest = hashlib.md5(usedforsecurity=False)
    pending, received = bytearray(), 0
    with target.open("wb") as file:
        async for chunk in request.stream():
            received += len(chunk)
            if received > MAX_PUT_BYTES:
                raise WireError(413, "RequestBodyTooLarge", f"A request holds at most {MAX_PUT_BYTES} bytes.")
            pending += chunk
            digest.update(chunk)
            if len(pending) >= answers.CHUNK_BYTES:
                await run_in_threadpool(file.write, bytes(pending))
                pending.clear()
        file.write(pending)
    found = base64.b64encode(digest.digest()).decode()
    if request.headers.get("content-md5", found) != found:
        raise WireError(400, "Md5Mismatch", "The MD5 value specified in the request did not match the content.")
    return found


def _put_metadata(request: Request) -> Response:
    store, container, name = _address(request)
    blob = store.require(container, name)
    _check_conditions(request, blob)
    described = {
        "content_type": blob.content_type,
        "content_md5": blob.content_md5,
        "metadata": _described(request)["metadata"],
    }
    store.describe(container, name, described)
    return Response(headers=_written_headers(blob))


def _get_blob(request: Request) -> Response:
    store, container, name = _address(request)
    blob = store.require(container, name)
    _check_conditions(request, blob)
    if request.headers.get("if-none-match") == blob.etag:
        return Response(status_code=304, headers=_written_headers(blob))
    headers = {
        **_written_headers(blob),
        "x-ms-blob-type": "BlockBlob",
        "Accept-Ranges": "bytes",
        "Content-Type": blob.content_type,
        **{f"x-ms-meta-{key}": value for key, value in blob.metadata.items()},
    }
    if blob.content_md5:
        headers["x-ms-blob-content-md5" if request.method == "GET" else "Content-MD5"] = blob.content_md5
    first, last, partial = _asked_range(request, blob)
    length = last - first + 1
    headers["Content-Length"] = str(length)
    if partial:
        headers["Content-Range"] = f"bytes {first}-{last}/{blob.size_bytes}"
    if request.method == "HEAD":
        return Response(headers=headers)
    return StreamingResponse(answers.read_part(blob.path, first, length), 206 if partial else 200, headers=headers)


def _asked_range(request: Request, blob: Blob) -> tuple[int, int, bool]:
    """Return first and last byte, and whether a range was asked for; raises 416 past the end."""
    asked = request.headers.get("x-ms-range") or request.headers.get("range", "")
    if not asked:
        return 0, blob.size_bytes - 1, False
    found = _RANGE.fullmatch(asked)
    if found is None or int(found[1]) >= blob.size_bytes:
        headers = {"Content-Range": f"bytes */{blob.size_bytes}"}
        raise WireError(
            416, "InvalidRange", "The range specified is invalid for the current size of the resource.", (), headers
        )
    last = min(int(found[2]), blob.size_bytes - 1) if found[2] else blob.size_bytes - 1
    return int(found[1]), last, True


def _delete_blob(request: Request) -> Response:
    store, container, name = _address(request)
    _check_conditions(request, store.require(container, name))
    store.delete(container, name)
    return Response(status_code=202, headers=_common_headers())


def _check_conditions(request: Request, blob: Blob | None) -> None:
    """Honour If-Match and If-None-Match: raises 409 BlobAlreadyExists or 412 ConditionNotMet."""
    if request.method == "PUT" and request.headers.get("if-none-match") == "*" and blob is not None:
        raise WireError(409, "BlobAlreadyExists", "The specified blob already exists.")
    wanted = request.headers.get("if-match")
    if wanted and (blob is None or wanted not in ("*", blob.etag)):
        raise WireError(412, "ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met.")


def _described(request: Request) -> dict[str, Any]:
    headers = request.headers
    metadata = {name[len("x-ms-meta-") :]: value for name, value in headers.items() if name.startswith("x-ms-meta-")}
    return {"content_type": headers.get("x-ms-blob-content-type", ""), "metadata": metadata, "content_md5": ""}


def _blobs(request: Request) -> BlobStore:
    return workspace_of(request).blobs


def _address(request: Request) -> tuple[BlobStore, str, str]:
    return _blobs(request), request.path_params["container"], request.path_params["blob"]


def _common_headers() -> dict[str, str]:
    return {"x-ms-version": STORAGE_VERSION}


def _written_headers(blob: Blob) -> dict[str, str]:
    return {**_common_headers(), "ETag": blob.etag, "Last-Modified": _http_date(blob.modified_ns)}


def _http_date(nanoseconds: int) -> str:
    return format_datetime(datetime.fromtimestamp(nanoseconds // 10**9, UTC), usegmt=True)


def _not_done(request: Request) -> WireError:
    query = ", ".join(f"{name}={value}" for name, value in request.query_params.items() if name in ("restype", "comp"))
    return WireError(
        501, "NotImplemented", f"The local blob store does not do {request.method} with {query or 'no query'}."
    )


_BLOB_METHODS = ["GET", "HEAD", "PUT", "DELETE"]

ROUTES = [
    *(
        Route(f"/{account}/{{container}}{below}", handler, methods=_BLOB_METHODS)
        for account in (storage_key.ACCOUNT, storage_key.TLS_ACCOUNT)
        for below, handler in (("", handle_container), ("/{blob:path}", handle_blob))
    ),
]

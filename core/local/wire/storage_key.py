"""The credentials of the blob store: SharedKey signatures and shared access signatures, checked as Azure Storage does.

Contracts: "Authorize with Shared Key", "Create a service SAS",
"Create an account SAS" of the Storage REST reference; signatures older than 2020-12-06 are refused.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qsl, quote

from starlette.requests import Request

from core.local.wire.errors import WireError

ACCOUNT = "localstore"
SUFFIX = "local"  # of the storage accounts of this cloud, to azure-ai-ml's own uploader
# That uploader speaks to https://<account>.blob.<suffix> and to nothing else. Over TLS the account is therefore called
# `<host>:<port>/localstore`, which makes this the first part of its paths.
TLS_ACCOUNT = f"{ACCOUNT}.blob.{SUFFIX}"
OLDEST_VERSION = "2020-12-06"  # the first whose signatures hold an encryption scope; the form has not changed since
SAS_VERSION = "2021-12-02"
CLOCK_SKEW = timedelta(minutes=15)

_SIGNED_HEADERS = (
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
)


def derive(secret: str) -> bytes:
    """Return the account key of the home with this secret."""
    return hmac.new(secret.encode(), b"storage account key", hashlib.sha256).digest()


def encode(key: bytes) -> str:
    """Return the key as clients are given it."""
    return base64.b64encode(key).decode()


def make_container_sas(key: bytes, container: str, lifetime: timedelta) -> str:
    """Return a signature for one container and its blobs: read, add, create, write, delete and list."""
    expires = (datetime.now(UTC) + lifetime).strftime("%Y-%m-%dT%H:%M:%SZ")
    fields = {"sv": SAS_VERSION, "sr": "c", "sp": "racwdl", "se": expires, "spr": "https,http"}
    signed = {**fields, "sig": _sign(key, _service_string(fields, container, ""))}
    return "?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in signed.items())


def check(request: Request, key: bytes) -> None:
    """Check the request's SharedKey or SAS; raises 403 AuthenticationFailed as Azure Storage does."""
    header = request.headers.get("authorization", "")
    query = _query(request)
    if header.startswith("SharedKey "):
        _check_shared_key(request, query, header, key)
    elif "sig" in query:
        _check_sas(request, query, key)
    else:
        raise _refused("The request carries neither a SharedKey signature nor a shared access signature.")


def _query(request: Request) -> dict[str, str]:
    return dict(parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True))


def _sign(key: bytes, text: str) -> str:
    return base64.b64encode(hmac.new(key, text.encode(), hashlib.sha256).digest()).decode()


def _refused(message: str) -> WireError:
    return WireError(403, "AuthenticationFailed", message)


# SharedKey


def _check_shared_key(request: Request, query: Mapping[str, str], header: str, key: bytes) -> None:
    account, _, signature = header.removeprefix("SharedKey ").partition(":")
    if account not in (ACCOUNT, TLS_ACCOUNT):
        raise _refused(f"The storage account is '{ACCOUNT}'.")
    text = _shared_key_string(request, query, account)
    if not hmac.compare_digest(_sign(key, text).encode(), signature.encode()):
        raise _refused("The SharedKey signature does not fit the request.")
    sent_at = request.headers.get("x-ms-date") or request.headers.get("date", "")
    try:
        age = datetime.now(UTC) - parsedate_to_datetime(sent_at)
    except (ValueError, TypeError) as error:
        raise _refused("The request carries no readable date.") from error
    if abs(age) > CLOCK_SKEW:
        raise _refused("The request was signed more than 15 minutes ago.")


def _shared_key_string(request: Request, query: Mapping[str, str], account: str) -> str:
    headers = {name.lower(): value for name, value in request.headers.items()}
    if headers.get("content-length") == "0":
        del headers["content-length"]
    own = sorted((name for name in headers if name.startswith("x-ms-")), key=_service_order)
    path = request.scope["raw_path"].decode("latin-1").partition("?")[0]
    lines = [request.method, *(headers.get(name, "") for name in _SIGNED_HEADERS)]
    lines += [f"{name}:{headers[name]}" for name in own]
    lines.append(f"/{account}{path}")
    lines += [f"{name.lower()}:{value}" for name, value in sorted(query.items())]
    return "\n".join(lines)


def _service_order(name: str) -> tuple[str, str]:
    """Return the service's sort key of a header: it overlooks hyphens at first and puts an underscore before digits."""
    return name.replace("-", "").replace("_", " "), name


# Shared access signatures


def _check_sas(request: Request, query: Mapping[str, str], key: bytes) -> None:
    if query.get("sv", "") < OLDEST_VERSION:
        raise _refused(f"Shared access signatures older than version {OLDEST_VERSION} are not read here.")
    if "si" in query or "skoid" in query:
        raise _refused("Stored access policies and user delegation keys are not known here.")
    _, container, blob = (*request.scope["path"].strip("/").split("/", 2), "", "")[:3]
    text = _account_string(query) if "ss" in query else _service_string(query, container, blob)
    if not hmac.compare_digest(_sign(key, text).encode(), query["sig"].encode()):
        raise _refused("The shared access signature does not fit the request.")
    _check_times(query)
    if request.url.scheme not in query.get("spr", "https,http").split(","):
        raise _refused("The shared access signature is not for plain http.")
    if "sip" in query:
        raise _refused("Shared access signatures bound to an IP address are not read here.")
    _check_scope(query, container, blob)
    needed = _needed_permissions(request, query)
    if not set(query.get("sp", "")) & set(needed):
        raise WireError(403, "AuthorizationPermissionMismatch", f"The shared access signature lacks '{needed[0]}'.")


def _account_string(query: Mapping[str, str]) -> str:
    names = ("sp", "ss", "srt", "st", "se", "sip", "spr", "sv", "ses")
    return "\n".join([ACCOUNT, *(query.get(name, "") for name in names), ""])


def _service_string(query: Mapping[str, str], container: str, blob: str) -> str:
    resource = f"/blob/{ACCOUNT}/{container}" + (f"/{blob}" if query.get("sr") == "b" else "")
    before = [query.get(name, "") for name in ("sp", "st", "se")]
    after = ("si", "sip", "spr", "sv", "sr", "snapshot", "ses", "rscc", "rscd", "rsce", "rscl", "rsct")
    return "\n".join([*before, resource, *(query.get(name, "") for name in after)])


def _check_times(query: Mapping[str, str]) -> None:
    now = datetime.now(UTC)
    try:
        starts = datetime.fromisoformat(query["st"]) if query.get("st") else None
        ends = datetime.fromisoformat(query.get("se", ""))
    except ValueError as error:
        raise _refused("The times of the shared access signature are not readable.") from error
    if (starts is not None and _as_utc(starts) > now + CLOCK_SKEW) or _as_utc(ends) < now:
        raise _refused("The shared access signature has expired or is not valid yet.")


def _as_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _check_scope(query: Mapping[str, str], container: str, blob: str) -> None:
    if "ss" in query:
        level = "o" if blob else "c" if container else "s"
        if "b" not in query["ss"] or level not in query.get("srt", ""):
            raise WireError(
                403, "AuthorizationResourceTypeMismatch", "The shared access signature is for other resources."
            )
    elif query.get("sr") not in ("c", "b") or (query["sr"] == "b" and not blob):
        raise WireError(403, "AuthorizationResourceTypeMismatch", "The shared access signature is for other resources.")


def _needed_permissions(request: Request, query: Mapping[str, str]) -> str:
    """Return the permissions of which one is needed."""
    if request.method in ("GET", "HEAD"):
        return "l" if query.get("comp") == "list" else "r"
    if request.method == "DELETE":
        return "d"
    return "w" if query.get("comp") == "metadata" else "wc"

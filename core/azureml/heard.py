"""What an answer says beside its content: the service's time, and the ids by which its support finds the request.

Heard of every request a thread sends inside `hearing()`: the SDK gives neither to who calls it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import requests

_thread = threading.local()


@dataclass(frozen=True)
class Heard:
    """One answer of the service."""

    method: str
    status: int
    at: str
    """The service's time, ISO in UTC; this machine's where the answer has none."""
    request_id: str = ""
    correlation_id: str = ""


@contextmanager
def hearing() -> Iterator[list[Heard]]:
    """Give a list that takes what this thread's requests are answered during the block."""
    outer, _thread.kept = getattr(_thread, "kept", None), list[Heard]()
    try:
        yield _thread.kept
    finally:
        _thread.kept = outer


def hear(method: str, status: int, headers: Mapping[str, str]) -> None:
    """Take down an answer, where this thread listens."""
    kept = getattr(_thread, "kept", None)
    if kept is not None:
        ids = (headers.get(f"x-ms-{name}request-id") or "" for name in ("", "correlation-"))
        kept.append(Heard(method, status, time_of(headers).isoformat(timespec="seconds"), *ids))


def open_session(*, with_proxies: bool) -> requests.Session:
    """Return a session whose answers are heard. with_proxies: those that the environment names."""
    import requests

    def take(answer: requests.Response, **_: Any) -> None:
        hear(answer.request.method or "", answer.status_code, answer.headers)

    session = requests.Session()
    session.trust_env = with_proxies
    session.hooks["response"].append(take)
    return session


def time_of(headers: Mapping[str, str]) -> datetime:
    """Return the service's time; this machine's only where an answer has none."""
    try:
        return parsedate_to_datetime(headers["Date"]).astimezone(UTC)
    except (KeyError, ValueError):
        return datetime.now(UTC)

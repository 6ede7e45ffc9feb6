"""Rules for answers: what becomes of the next requests that match, before anybody else is asked about them."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

HANG_UP = -1


@dataclass(frozen=True)
class Answer:
    """What is sent back."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False
    """Whether the connection ends in the middle of the body."""

    @classmethod
    def of(cls, content: Any, status: int = 200, **headers: str) -> Answer:
        """Return an answer in JSON."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(status, json.dumps(content).encode(), {"Content-Type": "application/json", **named})

    @classmethod
    def error(cls, status: int, code: str, message: str, **headers: str) -> Answer:
        """Return an error in the envelope of the resource manager."""
        return cls.of({"error": {"code": code, "message": message}}, status, **headers)


@dataclass
class Rule:
    """What happens to the next `times` requests whose "GET https://host/path" holds the pattern.

    status: 0 for a delay alone, after which the request goes its way; HANG_UP for no answer.
    """

    pattern: str
    status: int = 0
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    times: int = 1
    every: int = 1
    """Of the requests that match, only each so manieth."""
    cut: bool = False
    """Whether the connection ends in the middle of the body."""
    unless: str = ""
    """What the body of a request holds that goes its way all the same."""
    seen: int = 0

    def fits(self, request: str, body: str) -> bool:
        """Tell whether this is one of those requests. request: "GET https://host/path"."""
        passes = self.unless and re.search(self.unless, body)
        return bool(self.times and not passes and re.search(self.pattern, request))


@dataclass(frozen=True)
class Asked:
    """A request and what it was answered with. ruled: whether by a rule. authorization: the header."""

    method: str
    url: str
    status: int
    ruled: bool = False
    at: float = field(default_factory=time.monotonic)
    authorization: str = ""

    def __str__(self) -> str:
        return f"{self.status}{' by a rule' if self.ruled else ''} {self.method} {self.url}"


class Rules:
    """The rules that stand, and the requests that came; for many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._asked: list[Asked] = []
        self._in_flight = self.peak = 0
        self.absent_ahead_s = 0.0
        """How far the Date of an answer is ahead that says that something is not there."""

    def add(self, pattern: str, status: int = 0, **choices: Any) -> None:
        """Let the next requests that match be answered so: see Rule."""
        with self._lock:
            self._rules.append(Rule(pattern, status, **choices))

    def clear(self) -> None:
        """Forget all rules."""
        with self._lock:
            self._rules.clear()
        self.absent_ahead_s = 0.0

    def date(self, status: int) -> str:
        """Return the Date of an answer."""
        ahead_s = self.absent_ahead_s if status == 404 else 0.0
        return format_datetime(datetime.now(UTC) + timedelta(seconds=ahead_s), usegmt=True)

    def take(self, method: str, url: str, body: str = "") -> Answer | None:
        """Return what a rule answers a request, after its delay; None where it goes its way."""
        with self._lock:
            rule = next((rule for rule in self._rules if rule.fits(f"{method} {url}", body)), None)
            if rule is None:
                return None
            rule.seen += 1
            if rule.seen % rule.every:
                return None
            rule.times -= 1
        time.sleep(rule.delay_s)
        headers = {"Content-Type": "application/json", **rule.headers}
        return Answer(rule.status, rule.body.encode(), headers, rule.cut) if rule.status else None

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """Count a request for the block; `peak` says how many there were at once since it was set to 0."""
        with self._lock:
            self._in_flight += 1
            self.peak = max(self.peak, self._in_flight)
        try:
            yield
        finally:
            with self._lock:
                self._in_flight -= 1

    def note(self, asked: Asked) -> None:
        """Remember a request."""
        with self._lock:
            self._asked.append(asked)

    def asked(self, pattern: str = "", since: int = 0) -> list[Asked]:
        """Return the requests that match, but for the first `since` of all."""
        with self._lock:
            return [each for each in self._asked[since:] if re.search(pattern, f"{each.method} {each.url}")]

    def __len__(self) -> int:
        """Return how many requests came."""
        with self._lock:
            return len(self._asked)

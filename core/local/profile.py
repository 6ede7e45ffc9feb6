"""How a server behaves: as suits this machine, or for tests as Azure does (`serve --profile azure`).

As Azure: sizes and quota are a region's, the registry holds Azure's models in both forms they were published in,
what does not exist is a 404 without a body, lists lag behind, tokens age, provisioning takes its time, and a run's
measures lie with the step that trains alone. Time is a clock that a test can put forward.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from core.local.machine import Machine, Size

_DATA = Path(__file__).with_name("azure_profile.json")
FILLERS = 3000
_MAKERS = ("bert", "distilbert", "roberta", "t5", "resnet", "vit", "whisper", "deberta", "electra", "mt5")
_USES = ("fill-mask", "text-classification", "translation", "image-classification", "automatic-speech-recognition")


class ServerEnds(Exception):
    """Raised when the server ends during a wait; the next server carries on."""


class Clock:
    """The time of a profile: the real time, which a test can put forward."""

    def __init__(self) -> None:
        self._jumps: list[tuple[float, float]] = []

    def advance(self, seconds: float) -> None:
        """Put the clock forward."""
        self._jumps.append((time.time(), seconds))

    def age_of(self, moment: float) -> float:
        """Return how long ago a real moment (seconds since 1970) was, jumps since then included."""
        return time.time() - moment + sum(seconds for at, seconds in self._jumps if at >= moment)


@dataclass(frozen=True)
class Profile:
    """How a server behaves."""

    name: str = "local"
    provisioning_s: dict[str, float] = field(default_factory=dict)
    """How long a compute, a node or a deployment takes at least."""
    list_lag_s: float = 0.0
    """How long a list shows what was so before."""
    token_life_s: float = 0.0
    """How long a token is good, 0 for as long as it says itself."""
    empty_not_found: bool = False
    """Whether a 404 has no body."""
    clock: Clock = field(default_factory=Clock, repr=False)
    _lists: dict[str, tuple[float, dict[str, Any]]] = field(default_factory=dict, repr=False)
    _stopping: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def is_azure(self) -> bool:
        """Tell whether the server behaves as Azure does."""
        return self.name == "azure"

    def is_due(self, what: str, since: str) -> bool:
        """Tell whether what was begun at `since` (ISO 8601) may be ready."""
        wanted = self.provisioning_s.get(what, 0.0)
        return not wanted or self.clock.age_of(datetime.fromisoformat(since).timestamp()) >= wanted

    def wait(self, what: str, since: str) -> None:
        """Wait until it is due; raises ServerEnds where the server ends first."""
        while not self.is_due(what, since):
            if self._stopping.wait(0.05):
                raise ServerEnds

    def stop(self) -> None:
        """End all waits."""
        self._stopping.set()

    def settle(self, address: str, answer: dict[str, Any]) -> dict[str, Any]:
        """Return a list as it was a while ago: what was just made is not in it yet, what was deleted still is."""
        if "value" not in answer or "timespan" in answer:  # no list, or one of metrics
            return answer
        at, shown = self._lists.get(address, (0.0, answer))
        if at and self.clock.age_of(at) < self.list_lag_s:
            return shown
        self._lists[address] = (time.time(), answer)
        return answer

    def is_expired(self, issued_at: float) -> bool:
        """Tell whether a token issued then is too old by this clock."""
        # A token says its second only: one that was made in the second of a jump counts as made after it.
        return bool(self.token_life_s) and self.clock.age_of(issued_at + 1) > self.token_life_s


def make_profile(name: str) -> Profile:
    """Return a profile by its name; raises ValueError."""
    if name == "local":
        return Profile()
    if name == "azure":
        return Profile(
            name, {"compute": 240.0, "node": 180.0, "deployment": 480.0}, 8.0, token_life_s=3600, empty_not_found=True
        )
    raise ValueError(name)


@dataclass(frozen=True)
class RegionMachine(Machine):
    """This machine under a region's sizes and quota, each family with one of its own."""

    @cached_property
    def sizes(self) -> tuple[Size, ...]:
        """Return the sizes of the region."""
        return tuple(Size(**fields) for fields in _data()["sizes"])

    def quota_of(self, family: str) -> int:
        """Return the quota of a family."""
        return int(_data()["quota_cores"].get(family, 0))

    def quota_pool(self, family: str) -> str:
        """Return the pool that the quota of a family is drawn from: its own."""
        return family


def list_published() -> Iterator[dict[str, Any]]:
    """Yield the models of the registry: each as it was published before the tags moved, then after."""
    for model in _data()["models"]:
        common = {"name": model["name"], "archived": model["archived"]}
        yield common | {"version": model["version"], "tags": model["tags"], "properties": model["properties"]}
        newer = str(int(model["version"]) + 1)
        yield common | {
            "version": newer,
            "tags": model["head_tags"],
            "properties": {},
            "system_metadata": model["system_metadata"],
        }


@cache
def _data() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(_DATA.read_text(encoding="utf-8"))
    return data

"""What an operation is asked to do: one frozen dataclass for each kind, its arguments as fields, with its steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Self, TypeVar

from core.stored import parse_fields

DOUBLE_CLICK_S = 10.0  # for what must not be made twice
KINDS: dict[str, type[Change]] = {}

Thing = tuple[str, str]  # "endpoint" or "compute", and its name in small letters, as Azure compares names
W = TypeVar("W")


@dataclass(frozen=True)
class Done:
    """The step is so: go on with the next one."""

    detail: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Skip:
    """The step is not needed, for the reason in `detail`."""

    detail: str = ""


@dataclass(frozen=True)
class Wait:
    """The step goes on by itself: look again in `seconds`."""

    detail: str = ""
    seconds: float = 1.0
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stop:
    """The operation ends here without an error; the steps that are left are skipped."""

    detail: str = ""
    cancelled: bool = False


Outcome = Done | Skip | Wait | Stop


@dataclass(frozen=True)
class StepSpec(Generic[W]):
    """One step of a kind. W: the Work of that kind."""

    name: str
    """As the ledger keeps it; never changed."""
    title: str
    run: Callable[[W], Outcome]
    patience_s: float = math.inf
    """How long it may wait in all before it ends in words."""
    alone: str = ""
    """What only one operation at a time does, the oldest first: "data 3f2a…"."""
    watches: bool = False
    """Whether it watches what goes on by itself, so that a new process says what was missed."""


@dataclass(frozen=True)
class Change:
    """What one operation is asked to do. Its fields are what the ledger keeps as arguments, `subject` beside them."""

    stored_as: ClassVar[str]
    """The name of the kind in the ledger; never changed."""
    words: ClassVar[str] = "{}"
    """Its title, {} for the name of what it is about."""
    writes_a: ClassVar[str] = ""
    """What it makes or changes: "endpoint", "compute" or nothing."""
    cancellable: ClassVar[bool] = True
    again_after_s: ClassVar[float] = 0.0
    """For how long after its start the same change, once done, is not begun anew."""
    retry_after_s: ClassVar[float] = 0.0
    """For how long after a failure the same change is not begun anew."""

    subject: str
    """The name of the run, endpoint or compute that it is about, chosen before anything is sent."""

    def __init_subclass__(cls, stored_as: str) -> None:
        cls.stored_as = stored_as
        KINDS[stored_as] = cls

    @property
    def label(self) -> str:
        """The name shown for what it is about."""
        return self.subject

    @property
    def description(self) -> str:
        """What it does, in words: "Deploy smollm2-support-3f2"."""
        return self.words.format(self.label)

    @property
    def key(self) -> str:
        """Two changes of one key are the same wish: while one is under way, it is not begun a second time."""
        return f"{self.stored_as}:{self._key}"

    @property
    def _key(self) -> str:
        return self.subject

    @property
    def writes(self) -> Thing | None:
        """The endpoint or compute that it makes or changes."""
        return thing(self.writes_a, self.subject) if self.writes_a else None

    @property
    def deletes(self) -> tuple[Thing, ...]:
        """What it deletes."""
        return ()

    @property
    def steps(self) -> tuple[StepSpec[Any], ...]:
        """Its steps in their order."""
        return self._list_steps()

    def _list_steps(self) -> tuple[StepSpec[Any], ...]:
        return ()

    def find_step(self, name: str) -> StepSpec[Any]:
        """Return the step of this name; raises KeyError."""
        return {step.name: step for step in self.steps}[name]

    def renew(self) -> Change:
        """Return the change that makes anew what this one made and somebody deleted."""
        return self

    @classmethod
    def from_stored(cls, subject: str, stored: Mapping[str, Any]) -> Self:
        """Return the change from its arguments as the ledger keeps them."""
        return parse_fields(cls, stored, subject=subject)


@dataclass(frozen=True)
class Unreadable(Change, stored_as=""):
    """A change whose row of the ledger makes no sense."""

    kind: str = ""


def thing(kind: str, name: str) -> Thing:
    """Return an endpoint or a compute as changes are compared by."""
    return kind, name.lower()

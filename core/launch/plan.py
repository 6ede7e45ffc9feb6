"""What a launch would send, with its checks and its estimate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from core.catalog.base_models import BaseModel
from core.catalog.compute import Compute
from core.catalog.prices import CostRange
from core.dataset import ChatDataset
from core.launch.drafts import Draft
from core.recipe import Recipe, Value
from core.runs.jobs import EXPERIMENT_PREFIX


class CheckState(StrEnum):
    """What a check came to."""

    OK = "ok"
    OPEN = "open"
    """Not finished: nothing is promised yet."""
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class Fix:
    """Settings that make a check pass, and the button's words. None takes the operator's own value back."""

    label: str
    settings: Mapping[str, Value | None]


@dataclass(frozen=True)
class Check:
    """One line of what was checked before a launch."""

    title: str
    state: CheckState
    detail: str = ""
    hint: str = ""
    fix: Fix | None = None
    confirm: bool = False
    """Whether a start asks once more, wherever it runs."""
    link: str = ""
    """Where the hint leads to, an address of https."""


# A unit, its seconds, and from how many seconds on it is used.
_UNITS = (("d", 86400.0, 172800.0), ("h", 3600.0, 5400.0), ("min", 60.0, -1.0))
LONG_S = 2 * 3600.0


def range_words(low_s: float, high_s: float) -> str:
    """Return "2 to 3 min", "40 to 50 min", "about 3 h", "1 to 2 d"."""
    unit, size = next((unit, size) for unit, size, least in _UNITS if high_s > least)
    low, high = max(1, int(low_s / size)), max(1, -int(-high_s // size))
    return f"about {low} {unit}" if low == high else f"{low} to {high} {unit}"


@dataclass(frozen=True)
class EstimateLine:
    """One part of an estimate that bills: seconds of so many nodes, and what they cost."""

    title: str
    low_s: float
    high_s: float
    cost: CostRange
    nodes: int = 1

    @property
    def time_words(self) -> str:
        """Return "2 to 10 min", "2 to 10 min × 4 nodes"."""
        return range_words(self.low_s, self.high_s) + (f" × {self.nodes} nodes" if self.nodes > 1 else "")


@dataclass(frozen=True)
class Estimate:
    """A range of time and cost and what it stands on. The time is that from the first step to the last."""

    low_s: float
    high_s: float
    cost: CostRange
    basis: str = ""
    record: str = ""
    """How good earlier estimates were, a sentence; "" where none is known."""
    lines: tuple[EstimateLine, ...] = ()
    """What the cost is made of, where it bills: beside the time also what the nodes take to start and idle after it."""
    peak: float | None = None
    """Tokens per second at the whole speed of the GPUs, None where they or the model's size are not known."""

    @property
    def time_words(self) -> str:
        """ "2 to 3 min", "40 to 50 min", "2 to 3 h", "1 to 2 d"."""
        return range_words(self.low_s, self.high_s)

    @property
    def is_long(self) -> bool:
        """Whether it may take so long that a part is worth trying first."""
        return self.high_s > LONG_S

    @property
    def cost_words(self) -> str:
        """ "$0.00", "$3 to $5" or "price unknown"."""
        return self.cost.words


@dataclass(frozen=True)
class LaunchPlan:
    """What a start would send, with its checks. The object behind the Launch page and the launch operation."""

    draft: Draft
    model: BaseModel
    compute: Compute
    dataset: ChatDataset
    recipe: Recipe
    gpus: int
    total_batch: int
    total_steps: int
    display_name: str
    rows: int = 0
    """Rows that are trained on."""
    row_tokens: float = 0.0
    """Tokens of the middle row, each token counted alike."""
    work_tokens: float = 0.0
    """Tokens that it goes through, those of a validation for as much as they take."""
    checks: tuple[Check, ...] = ()
    estimate: Estimate | None = None
    script: str = field(default="", repr=False)

    @property
    def experiment(self) -> str:
        """The experiment that its runs are filed under."""
        return f"{EXPERIMENT_PREFIX}{self.model.name.replace('/', '-')}"

    @property
    def ready(self) -> bool:
        """Whether no check has failed."""
        return not self.failures

    @property
    def warnings(self) -> tuple[Check, ...]:
        """Checks an operator must look at."""
        return tuple(check for check in self.checks if check.state is CheckState.WARNING)

    @property
    def confirmations(self) -> tuple[Check, ...]:
        """Warnings that a start asks about wherever it runs."""
        return tuple(check for check in self.warnings if check.confirm)

    @property
    def failures(self) -> tuple[Check, ...]:
        """Checks that keep the run from being started."""
        return tuple(check for check in self.checks if check.state is CheckState.FAILED)

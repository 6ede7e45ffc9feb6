"""A compute of the local workspace: a cluster whose nodes are shares of this machine."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from core.local.machine import Machine, Size
from core.local.provisioned import Provisioned
from core.local.wire import answers

DEFAULT_IDLE_TIME = "PT2M"
LOW_PRIORITY = "low priority"  # the pool, as it is named among the families


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How far a compute scales."""

    min_nodes: int = 0
    """Nodes that are kept when there is nothing to do."""
    max_nodes: int = 1
    idle_time: str = DEFAULT_IDLE_TIME
    """How long a node waits for the next job, as an ISO 8601 duration."""


@dataclass(frozen=True, kw_only=True)
class Compute(Scale, Provisioned):
    """A compute, as the store keeps it."""

    KIND = "compute"
    size: str
    priority: str = "Dedicated"
    description: str | None = None
    errors: list[dict[str, str]] = field(default_factory=list)
    """Why it failed or has no node now: `code` and `message` of each."""
    whole_machine: bool = False
    """Whether its size is to follow this machine's, as that of the compute made with the home does."""

    @property
    def arm_id(self) -> str:
        """Return its ARM id."""
        return answers.arm_id("computes", self.name)

    @property
    def low_priority(self) -> bool:
        """Tell whether its nodes are those that may be taken away; the SDK writes "Lowpriority"."""
        return self.priority.lower() == "lowpriority"

    def quota_family(self, size: Size) -> str:
        """Return the family whose quota its nodes are drawn from; those of low priority have one for all."""
        return LOW_PRIORITY if self.low_priority else size.family

    def scaled(self, scale: Scale) -> Compute:
        """Return this compute with another scale."""
        return replace(self, min_nodes=scale.min_nodes, max_nodes=scale.max_nodes, idle_time=scale.idle_time)

    def node_limit(self, machine: Machine) -> int:
        """Return how many of its nodes fit this machine at once, 0 where its size is not one of this machine's."""
        size = machine.find_size(self.size)
        return 0 if size is None else max(1, min(self.max_nodes, machine.cores // size.cores))

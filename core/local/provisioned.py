"""What computes, endpoints and deployments have in common: a provisioning state, and operations that change it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, ClassVar, Self

from core.local.records import Record
from core.local.store import Store
from core.local.wire import answers
from core.local.wire.errors import WireError


class ProvisioningState(StrEnum):
    """How far the service is with what was last asked of an endpoint, a deployment or a compute."""

    CREATING = "Creating"
    UPDATING = "Updating"
    DELETING = "Deleting"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do about it, well or not."""
        return self in (ProvisioningState.SUCCEEDED, ProvisioningState.FAILED)

    @property
    def ready(self) -> bool:
        """Whether it is there and can be used."""
        return self is ProvisioningState.SUCCEEDED

    @property
    def failed(self) -> bool:
        """Whether it could not be made."""
        return self is ProvisioningState.FAILED

    @property
    def deleting(self) -> bool:
        """Whether it is being deleted."""
        return self is ProvisioningState.DELETING


@dataclass(frozen=True, kw_only=True)
class Provisioned(Record, ABC):
    """An Azure resource that long-running operations make, change and delete."""

    PARSERS: ClassVar[Mapping[str, Callable[[Any], Any]]] = {"state": ProvisioningState}

    state: ProvisioningState = ProvisioningState.CREATING
    tags: dict[str, str] = field(default_factory=dict)
    operation: str = ""
    """The latest operation on it."""

    @property
    @abstractmethod
    def arm_id(self) -> str:
        """Return its ARM id."""

    def check_not_deleting(self) -> None:
        """Refuse a change of what is being deleted; raises WireError 409."""
        if self.state.deleting:
            raise WireError(409, "Conflict", f"The {self.KIND} '{self.name}' is being deleted.")

    def start_operation(self, store: Store) -> Self:
        """Start an operation that makes or changes it; return it with that operation, to be stored."""
        return replace(self, operation=answers.start_operation(store, self.arm_id))

    def begin_deletion(self, store: Store) -> str:
        """Record that it is to go; return the operation that ends when it has gone."""
        started = answers.start_operation(store, self.arm_id, deletes=True)

        def mark(current: Self) -> Self | None:
            return None if current.state.deleting else current.deleting(started)

        return self.update(store, self.key, mark).operation

    def deleting(self, operation: str) -> Self:
        """Return it as it is while an operation deletes it."""
        return replace(self, state=ProvisioningState.DELETING, operation=operation)

    @classmethod
    def add_tags(cls, store: Store, key: str, tags: dict[str, str]) -> Self:
        """Store further tags; raises WireError 404."""
        return cls.update(store, key, lambda current: replace(current, tags=current.tags | tags))

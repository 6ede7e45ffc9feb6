"""A long-running operation on a resource, as the store keeps it and clients poll it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import ClassVar

from core.local.records import Record
from core.local.wire.errors import WireError

SUPERSEDED = "OperationCanceled"  # Azure's code for what another operation took the place of


class OperationStatus(StrEnum):
    """How far an operation is."""

    IN_PROGRESS = "InProgress"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELED = "Canceled"

    @property
    def finished(self) -> bool:
        """Whether it has come to its end."""
        return self is not OperationStatus.IN_PROGRESS


@dataclass(frozen=True, kw_only=True)
class Operation(Record):
    """An operation; its name is its id."""

    KIND = "operation"
    PARSERS: ClassVar[Mapping[str, type]] = {"status": OperationStatus}

    name: str = ""
    target: str
    """The ARM id of the resource that it is about."""
    deletes: bool = False
    status: OperationStatus = OperationStatus.IN_PROGRESS
    error: dict[str, str] | None = None

    @property
    def percent_complete(self) -> float:
        """How much is done, 0 to 100."""
        return 100.0 if self.status is OperationStatus.SUCCEEDED else 0.0

    def ended(self, error: WireError | None) -> Operation | None:
        """Return it as it ends, canceled where the error says so; None where it has ended before."""
        if self.status.finished:
            return None
        if error is None:
            return replace(self, status=OperationStatus.SUCCEEDED)
        status = OperationStatus.CANCELED if error.code == SUPERSEDED else OperationStatus.FAILED
        return replace(self, status=status, error={"code": error.code, "message": error.message})

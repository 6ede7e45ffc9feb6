"""Checkpoints of a run, as the local workspace tells them; Azure's component tells nothing of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint. Losses are nats per token, None where they were not measured."""

    step: int
    """Optimiser steps taken."""
    epoch: float | None = None
    loss: float | None = None
    """The training loss of its last step."""
    eval_loss: float | None = None
    size_bytes: int = 0
    goes_on: bool = False
    """Whether it holds what it takes to go on: optimiser, schedule, random numbers."""

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"checkpoint-{self.step}"


def parse_checkpoints(text: str) -> tuple[Checkpoint, ...]:
    """Return the checkpoints of a property, oldest first."""
    known = {field.name for field in fields(Checkpoint)}
    found: list[dict[str, Any]] = json.loads(text or "[]")
    return tuple(Checkpoint(**{name: value for name, value in each.items() if name in known}) for each in found)


def find_best(checkpoints: Sequence[Checkpoint]) -> Checkpoint | None:
    """Return the one with the lowest validation loss, None where nothing was evaluated."""
    measured = {each: each.eval_loss for each in checkpoints if each.eval_loss is not None}
    return min(measured, key=lambda each: measured[each], default=None)

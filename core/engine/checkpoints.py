"""Checkpoints of a run: what was learned, and in the newest what it takes to go on. Written whole or not at all."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.engine.disk import link_tree, place_tree

if TYPE_CHECKING:
    from core.engine.trainable import Trainable

STATE_FILE = "training_state.pt"
NOTE_FILE = "note.json"


@dataclass(frozen=True)
class Note:
    """What is known of a checkpoint beside its weights."""

    step: int
    """Optimiser steps taken."""
    eval_loss: float | None
    batch_size: int
    """The rows per step that its steps are counted in."""
    epoch: float | None = None
    loss: float | None = None
    """The training loss of its last step."""


class Checkpoints:
    """The folder of checkpoints of one run. limit: how many to keep, -1 for all; best and newest are always kept."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit

    def list(self) -> list[Path]:
        """Return the whole ones, oldest first."""
        found = [each for each in self.folder.glob("checkpoint-*") if (each / NOTE_FILE).is_file()]
        return sorted(found, key=lambda each: int(each.name.removeprefix("checkpoint-")))

    def find_newest(self) -> Path | None:
        """Return the one a run can go on from."""
        return next((each for each in reversed(self.list()) if (each / STATE_FILE).is_file()), None)

    def clear(self) -> None:
        """Delete all, at the start of a run that does not go on."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def adopt(self, source: Path) -> None:
        """Begin with the checkpoint of another run, in hard links; raises FileNotFoundError where it is gone."""
        link_tree(source, self.folder / source.name, self.folder / f".{source.name}.adopting")

    def drop_unfinished(self) -> None:
        """Delete what an attempt was writing when it died."""
        for left in self.folder.glob(".checkpoint-*"):
            shutil.rmtree(left)

    def save(self, trainable: Trainable, state: dict[str, Any], note: Note) -> Path:
        """Write checkpoint-<step>, then drop what the newest no longer needs."""
        import torch

        target = self.folder / f"checkpoint-{note.step}"
        temporary = self.folder / f".checkpoint-{note.step}.writing"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        trainable.write(temporary)
        torch.save(state, temporary / STATE_FILE)
        (temporary / NOTE_FILE).write_text(json.dumps(asdict(note)), encoding="utf-8")
        place_tree(temporary, target)
        for older in self.list()[:-1]:
            (older / STATE_FILE).unlink(missing_ok=True)
        self._prune()
        return target

    def find_batch_size(self) -> int | None:
        """Return the rows per step that the newest counts its steps in: fewer than asked for where memory was short."""
        newest = self.find_newest()
        return read_note(newest).batch_size if newest else None

    def find_best(self) -> Path | None:
        """Return the one with the lowest validation loss, or None where nothing was evaluated."""
        losses = {each: loss for each in self.list() if (loss := read_note(each).eval_loss) is not None}
        return min(losses, key=lambda each: losses[each], default=None)

    def finish(self, budget_bytes: int) -> None:
        """After success keep what fits into the budget. What goes first: old ones, what it takes to go on, the newest.

        A limit of one leaves the best alone; until the end the newest is kept as well, to go on from.
        """
        best = self.find_best()
        for each in self.list():
            if self.limit == 1 and best not in (each, None):
                shutil.rmtree(each)
        *older, newest = self.list() or [self.folder]
        for each in [*older, newest / STATE_FILE, newest, self.folder]:
            if each == best or self._bytes() <= budget_bytes:
                continue
            if each.is_dir():
                shutil.rmtree(each)
            else:
                each.unlink(missing_ok=True)

    def _prune(self) -> None:
        if self.limit < 1:
            return
        best, everything = self.find_best(), self.list()
        spare = [each for each in everything[:-1] if each != best]
        for each in spare[: max(0, len(everything) - self.limit)]:
            shutil.rmtree(each)

    def _bytes(self) -> int:
        return sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())


def read_note(checkpoint: Path) -> Note:
    """Return what is known of a whole checkpoint."""
    return Note(**json.loads((checkpoint / NOTE_FILE).read_text(encoding="utf-8")))

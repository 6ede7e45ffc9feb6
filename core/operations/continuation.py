"""Go on from the last checkpoint of a run of this machine: to the end that was planned, or for more epochs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from core import dataset as datasets
from core.azureml import tags
from core.errors import BadInput, NotFound
from core.operations.launch import Launch
from core.operations.ledger import Ledger
from core.operations.records import Operation
from core.recipe import Value, list_changed
from core.runs.checkpoints import Checkpoint
from core.runs.failures import DIVERGED
from core.runs.states import Run
from core.runs.titles import LONGEST_TITLE, new_run_name, new_title


def start_continuation(connection: str, run: Run, epochs: int = 0) -> Operation:
    """Record a new run that goes on from the last checkpoint of one that has ended, with the same settings and data.

    epochs: how many more than it took; 0: to the end that it was to have. Raises BadInput where it cannot go on.
    """
    checkpoint = find_last(run)
    if checkpoint is None:
        raise BadInput(explain_no_continuation(run), "Start it again from the beginning.")
    if datasets.find_dataset(run.tags.get(tags.DATASET_KEY, "")) is None:
        raise NotFound(
            f"The data of '{run.title}' is no longer in this home.", "Choose the data again, and start anew."
        )
    total, ends = _find_end(run, checkpoint, epochs)
    continues = f"{run.name}/{checkpoint.name}"
    ledger = Ledger()
    before = [each for each in ledger.list_operations(connection, kind=Launch.stored_as) if each.finished]
    again = sum(isinstance(each.change, Launch) and each.change.continues == continues for each in before)
    seed = hashlib.sha256(f"{continues} {total} {again}".encode()).hexdigest()
    change = Launch(
        new_run_name(new_title(seed), seed),
        title=f"{run.title[: LONGEST_TITLE - 9]} {f'+{epochs}' if epochs else 'resumed'}",
        display_name=run.display_name,
        experiment=run.experiment,
        model=run.model,
        model_version=run.model_version,
        model_id=run.model_id,
        compute=run.compute,
        gpus=run.gpus,
        dataset=run.dataset,
        dataset_key=run.tags[tags.DATASET_KEY],
        rows=int(run.tags.get(tags.ROWS) or 0),
        total_steps=total,
        parameters={**list_changed(run.parameters), **ends, "resume_from_checkpoint": "true"},
        continues=continues,
    )
    return ledger.start(connection, change)


def find_last(run: Run) -> Checkpoint | None:
    """Return the checkpoint that a run which ended can be gone on from, None where it cannot."""
    can = run.finished and not (run.error and run.error.cause == DIVERGED)
    return next((each for each in reversed(run.checkpoints) if can and each.goes_on and each.epoch), None)


def explain_no_continuation(run: Run) -> str:
    """Return why a run of this machine that ended cannot be gone on from, as a sentence."""
    if run.error and run.error.cause == DIVERGED:
        return "Training diverged: gone on from a checkpoint, it would diverge again."
    if run.parameters.get("evaluation_strategy") == "disable":
        return "It wrote no checkpoint: one is written at each evaluation, and it had none."
    if not run.completed and not run.checkpoints:
        return "It has no checkpoint: it ended before its first evaluation, or they were deleted."
    if run.parameters.get("apply_lora") != "true":
        return "A completed full training keeps no checkpoint: one takes several times the model's size."
    if not run.checkpoints:
        return "Its checkpoints were deleted."
    if run.parameters.get("save_total_limit") == 1:
        return "Only the best checkpoint was kept (Checkpoints kept is 1), and it is not the last."
    return "What it takes to go on is more than half the model's size, and was deleted at its end."


def _find_end(run: Run, checkpoint: Checkpoint, epochs: int) -> tuple[int, Mapping[str, Value]]:
    """Return the steps in all, and the settings that make it so many."""
    planned = run.progress.total_steps if run.progress else None
    if not epochs:
        return planned or int(run.tags.get(tags.STEPS) or 0), {}
    per_epoch = max(1, round(checkpoint.step / (checkpoint.epoch or 1.0)))
    if int(run.parameters.get("max_steps", -1)) > 0:
        return (total := checkpoint.step + epochs * per_epoch), {"max_steps": total}
    in_all = round(checkpoint.step / per_epoch) + epochs
    return in_all * per_epoch, {"num_train_epochs": in_all}

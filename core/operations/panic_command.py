"""`panic`: print what would end, then end it: without a dashboard, and where the home's ledger cannot be written."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from core import home as homes
from core.azureml.connection import connect
from core.azureml.settings import Settings, save_settings
from core.database import Database
from core.errors import TunedeckError
from core.home import Home, write_atomically
from core.operations.ledger import Ledger
from core.operations.panic import PanicPlan, list_parts, plan_panic, start_panic
from core.operations.records import Operation, OperationState
from core.operations.runner import start_runner
from core.words import visible

FAILED = 1
_LOOK_S = 0.3


def panic(settings: Settings, yes: str | None, *, everyone: bool, assets: bool) -> int:
    """Print the plan; end everything of it where its workspace's name is given. Return the exit status.

    FAILED too where something would end and the name was not given. Raises TunedeckError where nothing could be begun.
    """
    ledger, aside = _open_ledger(settings)
    conn = connect(settings, home=ledger.home)
    plan = plan_panic(conn, everyone=everyone, assets=assets)
    _print_plan(plan)
    if yes is None:
        if plan.keys:
            print(f"Nothing was deleted. To delete all of it, say so: --yes {plan.workspace}", file=sys.stderr)
        return FAILED if plan.keys or plan.problems else 0
    operation = start_panic(ledger, conn, yes, everyone=everyone, assets=assets)
    start_runner(ledger.home)
    return _follow(ledger, operation, aside)


def _open_ledger(settings: Settings) -> tuple[Ledger, Path | None]:
    """Return this home's ledger, and None; another in a new folder, and the folder, where it cannot be written."""
    home = homes.current()
    try:
        ledger = Ledger(home.create())
        with Database.at(home.ledger_db).write():
            pass
        save_settings(settings)  # an operation is carried out by the workspace's name
        return ledger, None
    except (TunedeckError, OSError) as error:
        why = error.message if isinstance(error, TunedeckError) else f"{home.path}: {error.strerror}."
    aside = Home(Path(tempfile.mkdtemp(prefix="tunedeck-panic-"))).create()
    for name in ("secret", "address.json"):  # what signs in to the local workspace of the home
        with suppress(OSError):
            shutil.copy(home.path / name, aside.path / name)
    os.environ["TUNEDECK_HOME"] = str(aside.path)  # this process does nothing else
    save_settings(settings)
    print(f"{why} It goes on without it, in {aside.path}; what this home has under way is not ended.", file=sys.stderr)
    return Ledger(aside), aside.path


def _print_plan(plan: PanicPlan) -> None:
    if not plan.keys:
        print(f"{plan.workspace}: nothing of yours bills here.")
    for line in plan.lines:
        print(visible(line))
    for line in plan.stays:
        print(visible(f"Stays: {line}"))
    for problem in plan.problems:
        print(visible(problem), file=sys.stderr)
    sys.stdout.flush()


def _follow(ledger: Ledger, operation: Operation, aside: Path | None) -> int:
    """Say of each part how it ended, until all has; FAILED where a part failed, or waits for a sign-in."""
    said: set[str] = set()
    while True:
        operation = ledger.get(operation.id)
        parts = list_parts(ledger, operation)
        for part in parts:
            if part.finished and part.id not in said:
                said.add(part.id)
                print(visible(_describe(ledger, part, aside)), flush=True)
        waiting = [each for each in (operation, *parts) if each.state is OperationState.WAITING]
        if waiting or operation.finished:
            break
        time.sleep(_LOOK_S)
    last = waiting[0].note if waiting else operation.error.message if operation.error else operation.steps[-1].detail
    print(visible(last), file=sys.stdout if operation.state is OperationState.DONE else sys.stderr)
    return 0 if operation.state is OperationState.DONE else FAILED


def _describe(ledger: Ledger, part: Operation, aside: Path | None) -> str:
    if part.error:
        return f"{part.title}: {part.error.message} {part.error.hint}"
    if not (receipt := ledger.find_receipt(part.id)):
        return f"{part.title}: {next((step.detail for step in reversed(part.steps) if step.detail), part.state)}"
    kept = ""
    if aside:
        write_atomically(aside / f"{receipt.id}.json", receipt.to_json())
        kept = f", kept as {aside / f'{receipt.id}.json'}"
    return f"{part.title}: receipt {receipt.id}{kept}"

"""The kinds of operation and their steps, and what falls due by itself. One table."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from core.azureml import tags
from core.operations import deploy, launch, manage, remove
from core.operations.ledger import Ledger
from core.operations.turns import REMOVE
from core.operations.work import StepSpec, words

EXPIRE_AGAIN_S = 900.0  # after a deletion that failed

STEPS: Mapping[str, tuple[StepSpec, ...]] = {
    "launch": launch.STEPS,
    "deploy": deploy.STEPS,
    "create_compute": manage.CREATE_COMPUTE,
    "cancel": manage.CANCEL,
    "traffic": manage.TRAFFIC,
    "delete_at": manage.SET_DELETE_AT,
    "teardown": (),
    "expire": (StepSpec("check", "Read its delete-at", remove.check_expiry),),
}


def find_step(kind: str, name: str) -> StepSpec:
    """Return the step of a kind; those of a teardown are named after its items."""
    for step in STEPS[kind]:
        if step.name == name:
            return step
    if kind in ("teardown", "expire"):
        return remove.find_remove_step(name)
    raise KeyError(f"{kind} has no step '{name}'")


def list_remove_steps(keys: list[str], verbs: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the steps that remove these items, and the receipt."""
    return [*((f"{REMOVE}{key}", verbs[key]) for key in keys), ("receipt", "Receipt")]


def start_expired(ledger: Ledger) -> None:
    """Record the deletion of everything made here whose time is over."""
    now = datetime.now(UTC)
    for connection, kind, name, delete_at in ledger.list_timers():
        at = tags.parse_time(delete_at)
        if at is None or at > now:
            continue
        key = f"{kind}:{name}"
        item = {"key": key, "kind": kind, "name": name, "version": "", "what": "delete", "files": False}
        steps = [*words(STEPS["expire"]), *list_remove_steps([key], {key: f"Delete {kind} {name}"})]
        arguments = {"items": [item]}
        ledger.start("expire", connection, name, steps, arguments, f"expire:{key}", retry_after_s=EXPIRE_AGAIN_S)

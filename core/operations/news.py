"""What of operations and sweeps an operator is told of: each as an alert with its own sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from core.alerts.events import Alert
from core.operations.records import Operation, OperationState
from core.runs.states import Run
from core.teardown.caps import Capped
from core.teardown.due import Timed, Verdict
from core.teardown.inventory import Inventory
from core.words import duration, plural

SOON = timedelta(hours=1)
NO_END_AFTER = timedelta(hours=1)

# Kinds of operations, with the event of each that did what it is for, and of each that failed.
_DONE: Mapping[str, tuple[str, str]] = {
    "deploy": ("deployment_live", "{} is live."),
    "expire": ("deleted", "{} was deleted: its time was over."),
    "idle_deletion": ("idle_ended", "{} was deleted: it was idle."),
    "scale_to_zero": ("idle_ended", "{} keeps no node any more: it was idle."),
}
_FAILED: Mapping[str, tuple[str, str]] = {
    "launch": ("run_failed", "{} did not get to its end."),
    "deploy": ("deployment_failed", "{} is not live. What was made of it bills until it is deleted."),
    **dict.fromkeys(
        ("teardown", "panic", "expire", "idle_deletion", "endpoint_at_cap"),
        ("deletion_failed", "{} was not deleted, so it may bill on."),
    ),
    "run_at_cap": ("deletion_failed", "{} was not cancelled, so it may bill on."),
    "scale_to_zero": ("deletion_failed", "{} keeps its nodes, so it bills on."),
}


def find_alert(operation: Operation) -> Alert | None:
    """Return what is told of the end of an operation; None for nothing, as where it changed nothing."""
    kind, failed = operation.kind, operation.state is OperationState.FAILED
    event, words = (_FAILED if failed else _DONE).get(kind, ("", ""))
    if not event or (not failed and not _did_it(operation)):
        return None
    said = operation.change.label
    why = f" {operation.error.message}" if failed and operation.error else ""
    thing, key = operation.subject, run_key(operation.subject) if kind == "launch" else operation.id
    if group := getattr(operation.change, "group", ""):  # one message for all that do not start
        thing, key = group, f"{group} failed"
    return Alert(operation.connection, event, thing, words.format(said) + why, key)


def _did_it(operation: Operation) -> bool:
    if operation.state is not OperationState.DONE:
        return False
    if operation.kind in ("expire", "idle_deletion"):
        return bool(operation.facts.get("gone"))
    return operation.kind != "scale_to_zero" or getattr(operation.change, "chosen", False)


def run_key(run: str) -> str:
    """Return the key of a run's end: it ends once, also where its launch fails afterwards."""
    return f"run {run}"


def tell_run(connection: str, run: Run, *, cancelled_here: bool) -> Alert | None:
    """Return what is told of a run that has ended; None for one that was cancelled from here."""
    took = f" after {duration(run.seconds)}" if run.seconds is not None else ""
    if run.completed:
        event, said = "run_completed", f"{run.title} completed{took}."
    elif run.state.failed:
        event, said = "run_failed", f"{run.title} failed{took}. {run.error.cause if run.error else ''}".strip()
    elif cancelled_here:
        return None
    else:
        event, said = "run_cancelled", f"{run.title} was cancelled{took}, and not from here."
    return Alert(connection, event, run.name, said, run_key(run.name))


def tell_group(connection: str, group: str, ends: Sequence[str]) -> Alert | None:
    """Return what is told of a group of runs by the words of their states; None while one goes on ("")."""
    counts = Counter(ends)
    event = "run_failed" if counts["failed"] else "run_completed" if counts["completed"] else ""
    said = ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
    return (
        Alert(connection, event, group, f"{group}, {plural(len(ends), 'run')}: {said}.")
        if event and all(ends)
        else None
    )


def tell_soon(connection: str, timed: Timed) -> Alert | None:
    """Return what is told of something that will be deleted within the hour."""
    at = timed.delete_at
    if timed.verdict is not Verdict.LATER or at is None or at - timed.now > SOON:
        return None
    said = f"The {timed.kind} {timed.name} is deleted at {at:%H:%M} UTC unless its delete-at is moved."
    return Alert(connection, "deleted_soon", timed.name, said, f"{timed.kind} {timed.name} {at.isoformat()}")


def tell_cap(connection: str, capped: Capped) -> Alert | None:
    """Return what is told of a run or an endpoint that came to its cap."""
    if not capped.reached.reached or capped.cap is None:
        return None
    key = f"{capped.kind} {capped.name} {capped.cap.tag}"
    return Alert(connection, "cap_reached", capped.name, f"{capped.name}: {capped.words}", key)


def tell_no_ends(connection: str, found: Inventory, now: datetime) -> Iterator[Alert]:
    """Yield what is told of the operator's own things that bill for long, and that nothing ends and no run needs."""
    for item in found.billing:
        long = item.since is not None and now - item.since >= NO_END_AFTER
        if item.kind == "run" or not item.mine or item.delete_at or item.per_hour == 0.0 or not long:
            continue
        if not found.list_jobs_on(item):
            said = f"{item.name} bills ({item.hourly_words}) and has no end. It came to {item.cost.words} until now."
            yield Alert(connection, "no_end", item.name, said, f"{item.key} {item.since}")


def tell_no_sweep(connection: str, since: str, message: str) -> Alert:
    """Return what is told of a workspace that cannot be swept. since: of this time it is told once."""
    said = f"What is due, idle or at its cap is not ended: {message}"
    return Alert(connection, "sweep_failed", connection, said, since)

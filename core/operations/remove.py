"""The steps of a teardown: delete each thing, see twice that it is gone, write the receipt. Expiry is one item's."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from core import tags
from core.compute import get_compute
from core.datastore import delete_below, path_of
from core.endpoints import begin_endpoint_deletion, find_endpoint, goes_on
from core.errors import Conflict, NotFound, TunedeckError
from core.inventory import list_inventory
from core.operations.work import Done, Outcome, StepSpec, Stop, Wait, Work
from core.polling import check_write, start_write
from core.registered_models import archive_model, find_registered_model, list_registered_models
from core.teardown import Gone, Receipt, summarise

PREFIX = "remove "  # a teardown's steps are named after its items
BETWEEN_CHECKS_S = 1.0
ASK_AGAIN_S = 60.0  # a deletion that is not under way after that has failed, and nobody was there to hear why
DELETING = "Deleting"


def find_remove_step(name: str) -> StepSpec:
    """Return the step that removes one item, or the last one."""
    if name == "receipt":
        return StepSpec("receipt", "Receipt", _write_receipt)
    return StepSpec(name, name, _remove)


def _remove(work: Work) -> Outcome:
    """Ask for the end of one item, then look until it was absent twice."""
    step = work.operation.step
    key = step.name.removeprefix(PREFIX) if step else ""
    item = next(one for one in work.arguments["items"] if one["key"] == key)
    checks: list[str] = list(work.facts.get(f"absent {key}", []))
    state = _find_state(work, item)
    if state is not None:
        if error := check_write(work.conn, f"{item['kind']} '{item['name']}'"):
            work.record(**{f"asked {key}": 0.0})  # a retry asks anew
            raise error
        _ask(work, item, state)
        _ask_for_the_rest(work)
        return Wait("Archiving" if item["kind"] == "model" else "Deleting, usually 1 to 5 min", 1.0)
    checks.append(datetime.now(UTC).isoformat(timespec="seconds"))
    work.record(**{f"absent {key}": checks})
    if len(checks) < 2:
        return Wait("Gone; looking once more", BETWEEN_CHECKS_S)
    freed = _delete_files(work, item)
    gone = Gone(item["kind"], item["name"], item["version"], item["what"], checks[-1], tuple(checks[-2:]), freed)
    work.ledger.set_timer(work.operation.connection, item["kind"], item["name"], "")
    known = [one for one in work.facts.get("gone", []) if one["key"] != key]
    word = "Archived" if item["kind"] == "model" else "Gone"
    return Done(f"{word} {checks[-1][11:19]} UTC, checked twice", {"gone": [*known, {"key": key, **vars(gone)}]})


def _find_state(work: Work, item: dict[str, Any]) -> str | None:
    """Return the state of an item that is there, None once it is gone."""
    name, version = item["name"], item["version"]
    if item["kind"] == "endpoint":
        endpoint = find_endpoint(work.conn, name)
        return endpoint.state if endpoint else None
    if item["kind"] == "model":
        listed = list_registered_models(work.conn, name)
        return "Listed" if any(model.version == version for model in listed) else None
    try:
        return get_compute(work.conn, name).state
    except NotFound:
        return None


def _ask(work: Work, item: dict[str, Any], state: str = "") -> None:
    """Ask for the end of an item; again only while nothing comes of it. Archiving twice does no harm."""
    asked_at = float(work.facts.get(f"asked {item['key']}") or 0.0)
    if item["kind"] != "model" and (state == DELETING or time.time() - asked_at < ASK_AGAIN_S):
        return
    try:
        _ASK[item["kind"]](work, item)
    except Conflict:
        if not goes_on(state):
            raise
        return  # another change has to end first
    work.record(**{f"asked {item['key']}": time.time()})


def _ask_for_the_rest(work: Work) -> None:
    """Ask for the other endpoints and computes too: each takes minutes, and they need not wait for each other."""
    for item in work.arguments["items"]:
        if item["kind"] == "model" or work.facts.get(f"asked {item['key']}"):
            continue
        try:
            _ask(work, item)
        except TunedeckError:
            continue  # its own step asks again, and tells


def _ask_endpoint(work: Work, item: dict[str, Any]) -> None:
    try:
        begin_endpoint_deletion(work.conn, item["name"])
    except NotFound:
        return  # another hand was faster


def _ask_compute(work: Work, item: dict[str, Any]) -> None:
    begin = work.conn.workspace.compute.begin_delete
    try:
        start_write(work.conn, "delete", f"compute '{item['name']}'", begin, item["name"])
    except NotFound:
        return


def _ask_model(work: Work, item: dict[str, Any]) -> None:
    model = find_registered_model(work.conn, item["name"], item["version"])
    if model is not None and item["files"]:
        work.record(**{f"files {item['key']}": path_of(work.conn, model.path) or ""})
    archive_model(work.conn, item["name"], item["version"])


_ASK: dict[str, Callable[[Work, dict[str, Any]], None]] = {
    "endpoint": _ask_endpoint,
    "compute": _ask_compute,
    "model": _ask_model,
}


def _delete_files(work: Work, item: dict[str, Any]) -> int | None:
    """Delete an archived model's files, unless another version that is still listed stands on the same ones."""
    path = work.facts.get(f"files {item['key']}", "")
    if not path or any(path_of(work.conn, one.path) == path for one in list_registered_models(work.conn)):
        return None
    return delete_below(work.conn, path if path.endswith("/") else f"{path}/")


def _write_receipt(work: Work) -> Outcome:
    inventory = list_inventory(work.conn)
    gone = [{name: value for name, value in one.items() if name != "key"} for one in work.facts.get("gone", [])]
    receipt = Receipt(
        id="",
        connection=work.operation.connection,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        removed=tuple(Gone(**{**one, "checks": tuple(one["checks"])}) for one in gone),
        kept=tuple(summarise(item) for item in inventory.items),
        per_hour_before=float(work.arguments.get("per_hour", 0.0)),
        per_hour_after=inventory.per_hour if not inventory.unknown else None,
        notes=inventory.problems,
        operation=work.operation.id,
        currency=str(work.arguments.get("currency") or inventory.currency),
    )
    numbered = work.ledger.add_receipt(receipt, work.fence)
    return Done(numbered.id, {"receipt": numbered.id})


def check_expiry(work: Work) -> Outcome:
    """Hold the time on the resource against ours: somebody may have given it longer, or taken it away."""
    item, conn = work.arguments["items"][0], work.conn  # a workspace that is no longer known here says nothing of it
    try:
        found = find_endpoint(conn, item["name"]) if item["kind"] == "endpoint" else get_compute(conn, item["name"])
    except NotFound:
        found = None
    if found is None:
        work.ledger.set_timer(work.operation.connection, item["kind"], item["name"], "")
        return Stop("It is gone already.")
    told = found.tags.get(tags.DELETE_AT, "")
    at = tags.parse_time(told)
    if not tags.is_ours(found.tags) or at is None or at > datetime.now(UTC):
        work.ledger.set_timer(
            work.operation.connection, item["kind"], item["name"], told if tags.is_ours(found.tags) else ""
        )
        return Stop("Its delete-at was changed; it stays.")
    return Done(told)

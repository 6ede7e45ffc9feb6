"""The steps of a teardown: end what makes a thing, delete it, see that it stays gone, write the receipt.

Expiry is a teardown of one item.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from core.azureml import tags
from core.azureml.datastore import delete_below, path_of
from core.azureml.polling import check_write, start_write
from core.catalog.compute import get_compute
from core.errors import Conflict, NotFound, ServiceFailed, TunedeckError, Unreachable
from core.operations import turns
from core.operations.records import Operation
from core.operations.turns import REMOVE
from core.operations.work import GONE_LOOKS, LOOK_S, SETTLE_LOOKS, Done, Outcome, StepSpec, Stop, Wait, Work
from core.serving.endpoints import DELETING, begin_endpoint_deletion, find_endpoint, goes_on
from core.serving.registered_models import archive_model, find_registered_model, list_registered_models
from core.teardown.inventory import list_inventory
from core.teardown.plan import Gone, Receipt, summarise

ASK_AGAIN_LOOKS = 60  # a deletion that is not under way after that has failed, and nobody was there to hear why


def find_remove_step(name: str) -> StepSpec:
    """Return the step that removes one item, or the last one."""
    if name == "receipt":
        return StepSpec("receipt", "Receipt", _write_receipt)
    return StepSpec(name, name, _remove, patience_s=7200.0)


def _remove(work: Work) -> Outcome:
    """End what still makes or changes one item, ask for its end, then look until it was absent often enough."""
    step = work.operation.step
    key = step.name.removeprefix(REMOVE) if step else ""
    item = next(each for each in work.arguments["items"] if each["key"] == key)
    writers = _end_writers(work)
    if writers[key]:
        return Wait(f"Ending first: {', '.join(writer.title for writer in writers[key])}", 0.3)
    state = _find_state(work, item)
    if state is not None:
        if error := check_write(work.conn, f"{item['kind']} '{item['name']}'"):
            work.record(**{f"asked {key}": 0})  # a retry asks anew
            raise error
        # What is still being made may have a write on its way.
        late = bool(work.facts.get(f"late {key}")) or goes_on(state)
        work.record(**{f"absent {key}": [], f"late {key}": late})
        _ask(work, item, state)
        _ask_for_the_rest(work, writers)
        return Wait("Archiving" if item["kind"] == "model" else "Deleting, usually 1 to 5 min", LOOK_S)
    checks = [*work.facts.get(f"absent {key}", []), datetime.now(UTC).isoformat(timespec="seconds")]
    work.record(**{f"absent {key}": checks})
    if len(checks) < (SETTLE_LOOKS if work.facts.get(f"late {key}") else GONE_LOOKS):
        return Wait("Gone; looking once more", LOOK_S)
    work.ledger.set_timer(work.operation.connection, item["kind"], item["name"], "")
    return _claim(work, item, checks)


def _end_writers(work: Work) -> dict[str, list[Operation]]:
    """Have all operations ended that would make an item anew; each first waits for what it has on its way.

    Return those that still go on, by the item's key.
    """
    found = {
        item["key"]: turns.list_older_writers(work.ledger, work.operation, item["kind"], item["name"])
        for item in work.arguments["items"]
    }
    new = [writer for writers in found.values() for writer in writers if not writer.cancel_wanted]
    if new:
        late = {f"late {key}": True for key, writers in found.items() if writers}
        work.record(ended=[*work.facts.get("ended", []), *(writer.title for writer in new)], **late)
    for writer in new:
        work.ledger.want_cancel(writer.id)
    return found


def _claim(work: Work, item: dict[str, Any], checks: list[str]) -> Done:
    """Say that an item is gone, and put it on the receipt only where this teardown removed it."""
    key = item["key"]
    word = "Archived" if item["kind"] == "model" else "Gone"
    if not work.facts.get(f"asked {key}"):
        return Done(f"{word} already", {"others": [*work.facts.get("others", []), f"{item['kind']} '{item['name']}'"]})
    freed = _delete_files(work, item)
    gone = Gone(item["kind"], item["name"], item["version"], item["what"], checks[-1], tuple(checks[-2:]), freed)
    known = [each for each in work.facts.get("gone", []) if each["key"] != key]
    detail = f"{word} {checks[-1][11:19]} UTC, checked {'twice' if len(checks) == 2 else f'{len(checks)} times'}"
    return Done(detail, {"gone": [*known, {"key": key, **vars(gone)}]})


def _find_state(work: Work, item: dict[str, Any]) -> str | None:
    """Return the state of an item that is there, None once it is gone."""
    name, version = item["name"], item["version"]
    if item["kind"] == "model":
        listed = list_registered_models(work.conn, name)
        return "Listed" if any(model.version == version for model in listed) else None
    try:
        found = find_endpoint(work.conn, name) if item["kind"] == "endpoint" else get_compute(work.conn, name)
    except NotFound:
        found = None
    return found.state if found is not None and _is_the_same(work, item, found.tags) else None


def _is_the_same(work: Work, item: dict[str, Any], told: Mapping[str, str]) -> bool:
    """Tell an item from one that another operation made under its name since; that one is not touched."""
    key, maker = f"maker {item['key']}", told.get(tags.OPERATION, "")
    if key not in work.facts:
        work.record(**{key: maker})
    return bool(work.facts[key] == maker)


def _ask(work: Work, item: dict[str, Any], state: str = "") -> None:
    """Ask for the end of an item; again only while nothing comes of it. Archiving twice does no harm.

    That it is asked for is recorded before, so that a process that dies at that moment knows the deletion for its own.
    """
    key = f"asked {item['key']}"
    looks = int(work.facts.get(key) or 0)
    if item["kind"] != "model" and (state == DELETING or 0 < looks < ASK_AGAIN_LOOKS):
        if looks:
            work.record(**{key: looks + 1})
        return
    work.record(**{key: 1})
    try:
        _ASK[item["kind"]](work, item)
    except (Unreachable, ServiceFailed):  # it may have arrived
        work.record(**{key: ASK_AGAIN_LOOKS})
        raise
    except TunedeckError as error:  # another hand was faster, another change has to end first, or it was refused
        work.record(**{key: min(looks, 1)})
        if isinstance(error, NotFound):
            return
        if not (isinstance(error, Conflict) and goes_on(state)):
            raise


def _ask_for_the_rest(work: Work, writers: Mapping[str, list[Operation]]) -> None:
    """Ask for the other endpoints and computes too: each takes minutes, and they need not wait for each other."""
    for item in work.arguments["items"]:
        if item["kind"] == "model" or work.facts.get(f"asked {item['key']}"):
            continue
        if writers[item["key"]]:
            continue  # its own step waits for them
        try:
            if (state := _find_state(work, item)) is not None:
                _ask(work, item, state)
        except TunedeckError:
            continue  # its own step asks again, and tells


def _ask_endpoint(work: Work, item: dict[str, Any]) -> None:
    begin_endpoint_deletion(work.conn, item["name"])


def _ask_compute(work: Work, item: dict[str, Any]) -> None:
    begin = work.conn.workspace.compute.begin_delete
    start_write(work.conn, "delete", f"compute '{item['name']}'", begin, item["name"])


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
        notes=(*_describe_the_rest(work), *inventory.problems),
        operation=work.operation.id,
        currency=str(work.arguments.get("currency") or inventory.currency),
    )
    numbered = work.ledger.add_receipt(receipt, work.fence)
    return Done(numbered.id, {"receipt": numbered.id})


def _describe_the_rest(work: Work) -> list[str]:
    """Return what a receipt says of what it does not claim, and of what was ended first."""
    others = [
        f"{what[0].upper()}{what[1:]} was not there any more; this deletion did not remove it."
        for what in work.facts.get("others", [])
    ]
    return [*(f"Ended first: {title}." for title in work.facts.get("ended", [])), *others]


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

"""Delete things: end what makes them, ask for their end, see that each stays gone, write the receipt."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from core import words
from core.azureml import tags
from core.azureml.datastore import delete_below, path_of, sum_bytes
from core.azureml.heard import Heard, hearing
from core.azureml.polling import check_write
from core.errors import BadInput, Conflict, NotFound, ServiceFailed, TunedeckError, Unreachable
from core.operations import targets, turns
from core.operations.change import Change, Done, Outcome, StepSpec, Thing, Wait
from core.operations.ledger import Ledger
from core.operations.records import Operation
from core.operations.targets import Target
from core.operations.work import GONE_LOOKS, LOOK_S, SETTLE_LOOKS, Work
from core.runs.jobs import list_active_jobs
from core.serving.endpoints import ProvisioningState
from core.serving.registered_models import list_registered_models
from core.stored import parse_fields
from core.teardown.inventory import Inventory, list_billing, list_inventory, read_one
from core.teardown.plan import Action, TeardownPlan, compare, describe
from core.teardown.receipts import Gone, Ran, Receipt, describe_ran, summarise

_NOTHING_THERE = 204  # what the service answers a DELETE of what is gone; one that it begins is 202
ASK_AGAIN_LOOKS = 60  # a deletion that is not under way after that has failed, and nobody was there to hear why


@dataclass(frozen=True)
class Teardown(Change, stored_as="teardown"):
    """What an operator deletes at once. `subject` is the one thing's name, or "3 resources"."""

    words = "Delete {}"
    items: tuple[Target, ...] = ()
    per_hour: float = 0.0
    """What the workspace billed before."""
    currency: str = ""

    @property
    def _key(self) -> str:
        return ",".join(sorted(item.key for item in self.items))

    @property
    def deletes(self) -> tuple[Thing, ...]:
        """All its things."""
        return tuple(item.thing for item in self.items)

    def check_wanted(self, work: Work[Any], target: Target) -> None:
        """Look once more, just before the end of a thing is asked for; raise where that is not wanted any more."""

    def _list_steps(self) -> tuple[StepSpec[Work[Teardown]], ...]:
        look = StepSpec("look", "See whether it changed since it was chosen", look_again)
        first = (look,) if any(item.seen for item in self.items) else ()
        return *first, *map(_make_step, self.items), StepSpec("receipt", "Receipt", _write_receipt)


def start_teardown(plan: TeardownPlan, typed: str = "", accepted: Collection[str] = ()) -> Operation:
    """Record a teardown. typed: what the operator typed. accepted: the sentences on another's things that were ticked.

    Raises BadInput (nothing is deleted) unless these are the plan's `confirm` and all of its `others`. The receipt's id
    is in `operation.facts["receipt"]` when it is done.
    """
    if missing := [sentence for sentence in plan.others if sentence not in accepted]:
        raise BadInput(f"Not ticked: {missing[0]}. Nothing was deleted.", "Tick each thing of another's that is to go.")
    if plan.confirm and typed.strip() != plan.confirm:
        raise BadInput("The name does not match. Nothing was deleted.", f"Type {plan.confirm}.")
    if not plan.actions:
        raise Conflict("Nothing was chosen.", "Tick what is to be deleted.")
    things = tuple(map(to_target, plan.actions))
    subject = things[0].name if len(things) == 1 else f"{len(things)} resources"
    return Ledger().start(plan.connection, Teardown(subject, things, plan.per_hour_before, plan.currency))


def to_target(action: Action) -> Target:
    """Return what a planned action is about."""
    item = action.item
    return Target(item.kind, item.name, item.version, action.what, action.deletes_files, action.seen)


def look_again(work: Work[Any], only: Collection[Target] = ()) -> Outcome:
    """Hold what is to go against what it was when it was chosen; raises Conflict where that changed.

    What is gone has not changed: its own step says so. only: not all of the things.
    """
    asked = [target for target in only or work.change.items if target.seen]
    jobs = list_active_jobs(work.conn) if any(target.kind == "compute" for target in asked) else ()
    for target in asked:
        inventory = read_one(work.conn, target.kind, target.name)
        item = inventory.find(target.key)
        if item and (changes := compare(target.seen, describe(item, inventory, jobs))):
            work.record(changed=True)
            what = f"{item.label[0].upper()}{item.label[1:]}"
            raise Conflict(f"{what} changed since you looked: {'; '.join(changes)}.", "Look again.")
    work.record(looked_by=work.fence)
    return Done("It did not" if asked else "")


def _make_step(target: Target) -> StepSpec[Work[Teardown]]:
    return StepSpec(
        f"remove {target.key}",
        target.title,
        partial(_delete, target=target),
        patience_s=7200.0,
        alone=f"delete {target.key}",
    )


def _delete(work: Work[Teardown], target: Target) -> Outcome:
    """End what still makes or changes a thing, ask for its end, then look until it was absent often enough."""
    deletion = Deletion(work, target)
    writers = _end_writers(work)
    if writers[target]:
        return Wait(f"Ending first: {', '.join(writer.title for writer in writers[target])}", 0.3)
    state = deletion.find_state()
    if state is not None:
        if error := check_write(work.conn, target.words):
            deletion.record(asked=0)  # a retry asks anew
            raise error
        looks = int(deletion.get("looked", 0))
        if target.kind == "run" and looks < SETTLE_LOOKS and not work.conn.cloud.is_local:
            deletion.record(looked=looks + 1)
            return Wait("Looking whether a model is registered from it: lists are some seconds behind", LOOK_S)
        # What is still being made may have a write on its way.
        deletion.record(absent=[], late=bool(deletion.get("late")) or state.goes_on)
        deletion.unclaim()
        _describe_billing(work)
        deletion.ask(state)
        _ask_for_the_rest(work, writers)
        return Wait("Deleting, usually 1 to 5 min" if target.provisioned else "Looking whether it went", LOOK_S)
    checks = deletion.note_absence()
    at_once = work.conn.cloud.absence_s and deletion.get("asked")  # the receipt's step looks again, later than these
    if not at_once and len(checks) < (SETTLE_LOOKS if deletion.get("late") else GONE_LOOKS):
        return Wait("Gone; looking once more", LOOK_S)
    return deletion.claim(checks)


def _end_writers(work: Work[Teardown]) -> dict[Target, list[Operation]]:
    """Have all operations ended that would make a thing anew; each first waits for what it has on its way.

    Return those that still go on.
    """
    writers = {
        target: turns.list_older_writers(work.ledger, work.operation, target.thing) for target in work.change.items
    }
    new = [writer for found in writers.values() for writer in found if not writer.cancel_wanted]
    if new:
        late = {f"late {target.key}": True for target, found in writers.items() if found}
        work.record(ended=[*work.facts.get("ended", []), *(writer.title for writer in new)], **late)
    for writer in new:
        work.ledger.want_cancel(writer.id)
    return writers


def _ask_for_the_rest(work: Work[Teardown], writers: Mapping[Target, list[Operation]]) -> None:
    """Ask for the other endpoints and computes too: each takes minutes, and they need not wait for each other."""
    for target in work.change.items:
        deletion = Deletion(work, target)
        if not target.provisioned or deletion.get("asked") or writers[target] or deletion.waits_for_another():
            continue  # its own step waits for its writers, and for its turn
        try:
            if (state := deletion.find_state()) is not None:
                deletion.ask(state)
        except TunedeckError:
            continue  # its own step asks again, and says why


class Deletion:
    """How far a teardown is with one of its things; what it knows is kept among the operation's facts.

    asked: how often was looked since its end was asked for, 0 before. absent: when it was absent, without a break until
    now, as the workspace's clock goes; looks: what the first and the last of these looks were answered. late: whether a
    write may be on its way. maker: the operation whose thing is deleted. ran: what it billed before. files: where they
    lie. refused: why it was archived and not deleted. freed: bytes that went with it. stays: what did not, in words.
    heard: what those requests were answered that asked for its end.
    """

    def __init__(self, work: Work[Teardown], target: Target) -> None:
        self._work = work
        self._target = target
        self._look: Heard | None = None

    def get(self, name: str, default: Any = None) -> Any:
        """Return a fact."""
        return self._work.facts.get(f"{name} {self._target.key}", default)

    def record(self, **facts: Any) -> None:
        """Write facts down."""
        self._work.record(**{f"{name} {self._target.key}": value for name, value in facts.items()})

    def waits_for_another(self) -> bool:
        """Tell whether an older teardown is deleting it."""
        step = self._work.operation.find_step(f"remove {self._target.key}")
        return step is not None and turns.find_older(self._work.ledger, self._work.operation, step) is not None

    def find_state(self) -> ProvisioningState | None:
        """Return the state of the thing while it is there, None once it is gone."""
        with hearing() as answers:
            found = targets.find(self._work.conn, self._target)
        self._look = answers[-1] if answers else None
        if found is None:
            return None
        if self.get("maker") is None:
            self.record(maker=found.maker)
        if self.get("maker") != found.maker:
            return None  # what another made under its name since is not touched
        return found.state

    def note_absence(self) -> list[str]:
        """Write down that the last look did not find it; return when it was absent, the first and the last time last.

        Where a minute has to lie between the two, no more than these are kept.
        """
        now = self._look.at if self._look else self._work.conn.now.isoformat(timespec="seconds")
        before = [at for at in self.get("absent", []) if at <= now]  # a clock that was set back begins anew
        checks = [*(before[:1] if self._work.conn.cloud.absence_s else before), now]
        looks = [*(self.get("looks", [])[:1] if before else []), *([asdict(self._look)] if self._look else [])]
        self.record(absent=checks, looks=looks)
        return checks

    def unclaim(self) -> None:
        """Take off the receipt what is there again."""
        gone = self._work.facts.get("gone", [])
        others = [each for each in gone if each["key"] != self._target.key]
        if len(others) < len(gone):
            self._work.record(gone=others)
            self.record(asked=0)  # its end is asked for anew

    def ask(self, state: ProvisioningState) -> None:
        """Ask for the end of the thing; again only while nothing comes of it. Archiving twice does no harm.

        That it is asked for is recorded before, so that a process that dies at that moment knows the deletion for its
        own.
        """
        looks = int(self.get("asked") or 0)
        if self._target.provisioned and (state is ProvisioningState.DELETING or 0 < looks < ASK_AGAIN_LOOKS):
            if looks:
                self.record(asked=looks + 1)
            return
        if not looks and self._work.facts.get("looked_by", self._work.fence) != self._work.fence:
            look_again(self._work, (self._target,))  # another process looked, which may be hours ago
        self.record(asked=1)
        try:
            self._work.change.check_wanted(self._work, self._target)
            with hearing() as answers:
                targets.send(self._work.conn, self._target, self.record)
            sent = [each for each in answers if each.method != "GET"]
            if self._target.provisioned and sent and all(each.status == _NOTHING_THERE for each in sent):
                self.record(asked=min(looks, 1))  # another hand was faster
                return
            self.record(heard=[asdict(each) for each in sent])
        except (Unreachable, ServiceFailed):  # it may have arrived
            self.record(asked=ASK_AGAIN_LOOKS)
            raise
        except TunedeckError as error:  # another hand was faster, another change has to end first, or it was refused
            self.record(asked=min(looks, 1))
            if isinstance(error, NotFound):
                return
            if not (isinstance(error, Conflict) and state.goes_on):
                raise

    def claim(self, checks: list[str]) -> Done:
        """Say that the thing is gone, and put it on the receipt only where this teardown deleted it."""
        target, facts = self._target, self._work.facts
        what = "archive" if self.get("refused") else target.what
        word = "Archived" if what == "archive" else "Gone"
        if not self.get("asked"):
            return Done(f"{word} already", {"others": [*facts.get("others", []), target.words]})
        if self._target.files and self.get("freed") is None:
            self.record(freed=self._delete_files())
        if what == "archive" and self.get("freed") is None and self.get("left") is None:
            self.record(**self._find_what_stays())
        if self.get("freed") is not None and self.get("left") is None:
            self.record(left=targets.list_recoverable(self._work.conn, target, self.get("files", "")))
        enough = _absent_s(checks) >= self._work.conn.cloud.absence_s
        ran = parse_fields(Ran, self.get("ran", {}))
        gone = Gone(
            target.kind,
            target.name,
            target.version,
            what,
            at=checks[0],
            checks=(checks[0], *checks[1:][-1:]) if enough else (checks[0],),
            bytes_freed=self.get("freed"),
            started=ran.started,
            cost=ran.cost_at(checks[0]),
            currency=ran.currency,
            left=tuple(self.get("left") or ()),
            requests=(*self.get("heard", []), *self.get("looks", [])[: 2 if enough else 1]),
        )
        others = [each for each in facts.get("gone", []) if each["key"] != target.key]
        times = {1: "", 2: ", checked twice"}.get(len(checks), f", checked {len(checks)} times")
        detail = f"{word} {checks[0][11:19]} UTC{times}"
        return Done(detail, {"gone": [*others, {"key": target.key, **asdict(gone)}]})

    def _find_what_stays(self) -> dict[str, Any]:
        """Return what the service did not delete: as the receipt lists it (`left`), and in words (`stays`)."""
        conn, path, target = self._work.conn, self.get("files", ""), self._target
        size = sum_bytes(conn, [path], []).get(path) if path else None
        refused = " and does not delete it" if self.get("refused") else ""
        stay = f"{words.size(size)} stay" if size is not None else "its files stay"
        where = f"at {path}" if path else "where they are"
        return {
            "left": [{"what": f"files {where}", "bytes": size, "until": ""}],
            "stays": f"The service archived {target.label}{refused}; {stay} {where}.",
        }

    def _delete_files(self) -> int | None:
        """Delete an archived model's files, unless another version that is still listed stands on the same ones.

        Return the bytes that went, None where none were to go.
        """
        path, conn = self.get("files", ""), self._work.conn
        if not path or any(path_of(conn, model.path) == path for model in list_registered_models(conn)):
            return None
        return delete_below(conn, path if path.endswith("/") else f"{path}/")


def _describe_billing(work: Work[Teardown]) -> None:
    """Write down once what the things billed, before the first of them goes; what cannot be read stays unknown."""
    if work.facts.get("described"):
        return
    try:
        inventory = list_billing(work.conn)
    except TunedeckError:
        inventory = Inventory()
    now = work.conn.now
    ran = {f"ran {target.key}": asdict(describe_ran(inventory.find(target.key), now)) for target in work.change.items}
    work.record(described=True, **ran)


def _write_receipt(work: Work[Teardown]) -> Outcome:
    """Write the receipt when everything was absent once, and complete it when it was so for long enough."""
    known = work.ledger.find_receipt(work.operation.id)
    waits = list(filter(None, (_confirm(work, target, known is None) for target in work.change.items)))
    known = known or _make_receipt(work)
    absent_s = timedelta(seconds=work.conn.cloud.absence_s)
    times = [at + absent_s for gone in work.operation.gone if (at := tags.parse_time(gone.at))]
    second = tags.format_time(max(times)) if waits and times else ""
    receipt = work.ledger.put_receipt(replace(known, gone=work.operation.gone, second_look_at=second), work.fence)
    if not waits:
        return Done(receipt.id, {"receipt": receipt.id})
    when = f"second look at {second[11:19]} UTC" if second else "it was there again"
    return Wait(f"{receipt.id}, not yet complete: {when}", min(waits), {"receipt": receipt.id})


def _confirm(work: Work[Teardown], target: Target, at_first: bool) -> float:
    """Look again at what this teardown deleted; return after how many seconds to do so once more, 0.0 for never.

    The pauses grow, so that what comes back is seen early and a minute takes few looks. at_first: write the receipt.
    """
    deletion, absent_s = Deletion(work, target), work.conn.cloud.absence_s
    if not absent_s or not deletion.get("asked") or _absent_s(deletion.get("absent", ())) >= absent_s:
        return 0.0
    outcome = None if at_first else _delete(work, target)
    if not isinstance(outcome, Done):
        return LOOK_S
    work.record(**outcome.facts)
    seen_s = _absent_s(deletion.get("absent", ()))
    return min(max(seen_s, LOOK_S), absent_s - seen_s) if seen_s < absent_s else 0.0


def _absent_s(checks: Sequence[str]) -> float:
    """Return for how long something was seen to be absent, in seconds as the workspace's clock goes."""
    times = [at for check in checks if (at := tags.parse_time(check))]
    return (times[-1] - times[0]).total_seconds() if times else 0.0


def _make_receipt(work: Work[Teardown]) -> Receipt:
    inventory = list_inventory(work.conn)
    return Receipt(
        id="",
        connection=work.operation.connection,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        gone=work.operation.gone,
        kept=tuple(summarise(item) for item in inventory.items),
        per_hour_before=work.change.per_hour,
        per_hour_after=inventory.per_hour if not inventory.unknown else None,
        notes=(*_describe_the_rest(work), *inventory.problems),
        operation=work.operation.id,
        currency=work.change.currency or inventory.currency,
        workspace=work.conn.workspace_path,
        resource_manager=work.conn.cloud.resource_manager,
    )


def _describe_the_rest(work: Work[Teardown]) -> list[str]:
    """Return what a receipt says of what it does not claim, and of what was ended first."""
    others = [
        f"{what[0].upper()}{what[1:]} was not there any more; this deletion did not remove it."
        for what in work.facts.get("others", [])
    ]
    stays = [sentence for item in work.change.items if (sentence := Deletion(work, item).get("stays"))]
    return [*(f"Ended first: {title}." for title in work.facts.get("ended", [])), *others, *stays]

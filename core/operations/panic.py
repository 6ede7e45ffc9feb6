"""Delete everything that bills and that one identity made through Tunedeck in a workspace; of others only where asked.

What makes things from this home is ended first, then jobs are cancelled and each thing is deleted by a teardown of its
own, so that one that fails holds up no other. Then it looks again, until nothing is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from core.azureml.connection import Connection
from core.azureml.owners import is_mine, read_names
from core.errors import BadInput, ServiceRefused
from core.operations.cancel import Cancel
from core.operations.change import Change, Done, Outcome, StepSpec, Stop, Wait
from core.operations.launch import Launch, was_sent
from core.operations.ledger import Ledger
from core.operations.records import Operation, OperationState
from core.operations.teardown import Teardown, to_target
from core.operations.work import LOOK_S, Work
from core.runs.jobs import ActiveJob, list_active_jobs
from core.teardown.inventory import Inventory, Item, list_billing, list_inventory, read_one
from core.teardown.plan import Surroundings, TeardownPlan, find_obstacle, make_plan, whose
from core.words import plural

BILL = ("deployment", "endpoint", "compute")
ASSETS = ("model", "data")
MOST_ROUNDS = 5  # what comes anew while things are deleted is deleted, too; but not for ever


@dataclass(frozen=True)
class PanicPlan:
    """What would end, and what stays."""

    workspace: str
    """The name to type."""
    jobs: tuple[ActiveJob, ...]
    things: TeardownPlan
    stays: tuple[str, ...]
    """What stays although it can bill, and why: a sentence each."""
    problems: tuple[str, ...] = ()
    """What could not be read, a sentence each."""

    @property
    def lines(self) -> tuple[str, ...]:
        """What would be done, a line each, in its order."""
        deleted = (f"{act.what.capitalize()} {act.item.label}. {act.consequence}" for act in self.things.actions)
        return *(f"Cancel run {job.title}." for job in self.jobs), *deleted

    @property
    def keys(self) -> tuple[str, ...]:
        """What would end, by its keys."""
        return *(f"job:{job.name}" for job in self.jobs), *(act.item.key for act in self.things.actions)


@dataclass(frozen=True)
class Panic(Change, stored_as="panic"):
    """The end of everything that bills. `subject` is the workspace."""

    everyone: bool = False
    """Whether what others made goes, too."""
    assets: bool = False
    """Whether models are archived and data deleted, too."""

    @property
    def description(self) -> str:
        """What it does, in words."""
        return f"Delete everything {'' if self.everyone else 'I made '}in {self.subject}"

    @property
    def _key(self) -> str:
        return f"{self.subject}:{self.everyone}:{self.assets}"

    def _list_steps(self) -> tuple[StepSpec[Work[Panic]], ...]:
        return (
            StepSpec("hold", "End what is being made", _end_making, patience_s=1800.0),
            StepSpec("end", "Delete everything that bills", _end_everything, patience_s=14400.0),
        )


@dataclass(frozen=True)
class PanicDeletion(Teardown, stored_as="panic_delete"):
    """The deletion of one thing of many."""

    everyone: bool = False

    def _list_steps(self) -> tuple[StepSpec[Work[Teardown]], ...]:
        return StepSpec("check", "See whose it is", _check_owner), *super()._list_steps()


def plan_panic(conn: Connection, *, everyone: bool = False, assets: bool = False) -> PanicPlan:
    """Say what would end. Models and data stay unless asked for: they do not bill by the hour."""
    inventory = list_inventory(conn, with_files=False) if assets else list_billing(conn)
    names, jobs = read_names(conn), tuple(list_active_jobs(conn))
    around, kinds = Surroundings(names.sure, jobs), (*BILL, *(ASSETS if assets else ()))
    picks = {item.key for item in inventory.items if item.kind in kinds and (everyone or item.mine)}
    things = make_plan(conn, inventory, picks, (), around)
    shared = () if everyone else tuple(action for action in things.actions if action.others)
    if shared:  # what another's part or job would end with; of an endpoint the own deployments still go
        things = make_plan(conn, inventory, picks - {action.item.key for action in shared}, (), around)
    mine = tuple(job for job in jobs if everyone or is_mine(names, job.owner, job.tags))
    going = {action.item.key for action in things.actions}
    stays = (
        *(f"{act.item.label}, with {', '.join(act.others)}" for act in shared if act.item.mine),
        *(_describe(item) for item in _list_left(inventory, going) if item.key not in {a.item.key for a in shared}),
        *(f"run {job.title}, {whose(job.owner)}" for job in jobs if job not in mine),
    )
    return PanicPlan(conn.settings.workspace_name, mine, things, stays, inventory.problems)


def start_panic(
    ledger: Ledger, conn: Connection, typed: str, *, everyone: bool = False, assets: bool = False
) -> Operation:
    """Record the end of everything; raises BadInput (nothing is deleted) unless the workspace's name was typed."""
    name = conn.settings.workspace_name
    if typed.strip() != name:
        raise BadInput("The name does not match. Nothing was deleted.", f"Type {name}, the workspace's name.")
    return ledger.start(conn.alias, Panic(name, everyone, assets))


def list_parts(ledger: Ledger, operation: Operation) -> list[Operation]:
    """Return the operations by which a panic ends things, in the order in which they were begun."""
    return [part for each in operation.facts.get("parts", {}).values() if (part := ledger.find(each))]


def _list_left(inventory: Inventory, going: set[str]) -> Iterator[Item]:
    for item in inventory.items:
        if item.kind in BILL and not {item.key, item.parent} & going:
            yield item


def _describe(item: Item) -> str:
    obstacle = find_obstacle(item) if item.mine else ""
    return f"{item.label}: {obstacle}" if obstacle else f"{item.label}, {whose(item.owner)}"


def _end_making(work: Work[Panic]) -> Outcome:
    """End what this home still makes; a run that was sent is cancelled like any other."""
    older = work.ledger.list_operations(work.operation.connection, active=True, limit=10_000)
    making = [
        each
        for each in older
        if each.number < work.operation.number
        and (not was_sent(each) if isinstance(each.change, Launch) else each.change.writes is not None)
    ]
    for each in making:
        if not each.cancel_wanted:
            work.ledger.want_cancel(each.id)
    return Wait(f"Ending first: {', '.join(each.title for each in making)}", 0.3) if making else Done()


def _end_everything(work: Work[Panic]) -> Outcome:
    """Begin what ends each thing, wait for it, and look again whether something is left."""
    if work.facts.get("gave_up"):  # a person's retry: what failed is begun anew
        work.record(parts={}, rounds=0, gave_up=False)
    change, rounds = work.change, int(work.facts.get("rounds", 0))
    known = {key: work.ledger.find(each) for key, each in work.facts.get("parts", {}).items()}
    if going := [part.title for part in known.values() if part and not part.finished]:
        return Wait(f"{plural(len(going), 'part')} to go: {', '.join(going)}", LOOK_S)
    plan = plan_panic(work.conn, everyone=change.everyone, assets=change.assets)
    failed = {key: part for key, part in known.items() if part and part.state is OperationState.FAILED}
    left = [key for key in plan.keys if key not in failed]
    if not left or rounds >= MOST_ROUNDS:
        first = next(iter(failed.values()), None)
        work.record(gave_up=bool(first or left or plan.problems))
        if first and first.error:
            what = f"{plural(len(failed), 'thing')} of {len(known)} could not be deleted. {first.error.message}"
            raise ServiceRefused(what, first.error.hint, first.error.detail)
        if left or plan.problems:
            what = f"{', '.join(left)} came again." if left else f"Not all could be read. {plan.problems[0]}"
            raise ServiceRefused(what, "Look at it in the workspace, then try again.")
        return Done("Nothing is left that bills" if change.everyone else "Nothing of yours is left that bills")
    runs = any(key.startswith("job:") for key in left)  # a compute is refused while a run on it has not ended
    ready = [key for key in left if not (runs and key.startswith("compute:"))]
    begun = {key: _begin(work, plan, key).id for key in ready}
    work.record(parts={**work.facts.get("parts", {}), **begun}, rounds=rounds + 1)
    return Wait(f"{plural(len(begun), 'part')} to go", LOOK_S)


def _begin(work: Work[Panic], plan: PanicPlan, key: str) -> Operation:
    """Record what ends one thing; what a process that died had begun is under way, and found again."""
    action = next((each for each in plan.things.actions if each.item.key == key), None)
    if action is None:
        return work.ledger.start(work.operation.connection, Cancel(key.removeprefix("job:")))
    target, before = replace(to_target(action), seen=()), plan.things
    deletion = PanicDeletion(
        action.item.name, (target,), before.per_hour_before, before.currency, everyone=work.change.everyone
    )
    return work.ledger.start(work.operation.connection, deletion)


def _check_owner(work: Work[Teardown]) -> Outcome:
    """Hold back where the name is another's by now."""
    (target,), everyone = work.change.items, isinstance(work.change, PanicDeletion) and work.change.everyone
    if everyone or target.kind not in BILL:
        return Done()
    item = read_one(work.conn, target.kind, target.name, read_names(work.conn)).find(target.key)
    return Stop(f"It is another's by now, and stays: {item.owner}.") if item and not item.mine else Done()

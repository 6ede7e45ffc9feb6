"""What is going on and what to do next: the views that stand on several nouns at once. Draws nothing."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from functools import partial

from core.azureml import tags
from core.azureml.abreast import abreast
from core.azureml.connection import Connection
from core.catalog.compute import get_compute
from core.errors import NotFound, TunedeckError
from core.launch.drafts import Draft
from core.operations import (
    Deploy,
    Launch,
    Ledger,
    Operation,
    OperationState,
    StepState,
    find_launch,
    list_group,
    was_sent,
)
from core.recipe import from_job_inputs
from core.runs.failures import RunError
from core.runs.index import RunList, list_runs
from core.runs.jobs import find_run, get_run, list_tagged
from core.runs.progress import make_stages
from core.runs.queue import Queue, find_queue
from core.runs.series import Series
from core.runs.stage_notes import explain_length, explain_wait, find_usual
from core.runs.states import ACTIVE_WORDS, QUEUED, JobState, Run, Stage
from core.runs.throughput import list_paces
from core.serving.endpoints import EndpointView
from core.teardown.inventory import Inventory
from core.words import duration, percent

_REATTACHED_FOR = timedelta(minutes=5)
_MOST_ACTIVE = 1000
_CLUSTER_KEPT_S = 15.0
_NAMED = 6


class NextStep(Enum):
    """What there may be to do next, what matters most first."""

    END_A_BILL = auto()
    LOOK_AT_FAILURE = auto()
    WATCH = auto()
    DEPLOY = auto()
    CHAT = auto()
    CHOOSE_MODEL = auto()
    CHOOSE_DATA = auto()
    LAUNCH = auto()
    BEGIN = auto()


@dataclass(frozen=True)
class NextAction:
    """The one thing to do next."""

    step: NextStep
    sentence: str
    """Why, with a full stop."""
    subject: str = ""
    """The inventory item's key, the run, the endpoint or the draft that it is about."""


@dataclass(frozen=True)
class StripView:
    """The three things of the status strip: billing, a run, an endpoint. Names are empty where there is nothing.

    active: something runs or bills, so the strip is worth reading again.
    """

    billing_words: str
    """ "$3.67/h + 1 unknown", "$3.67/h, 1 failed"."""
    billing_help: str
    """What bills, a line each."""
    run: str
    run_words: str
    endpoint: str
    endpoint_words: str
    active: bool


def read_run(conn: Connection, name: str) -> Run:
    """Return a run from the workspace or, before the workspace has it, from the ledger; raises NotFound."""
    # Before the workspace is asked: what was sent by now must be there.
    launch = find_launch(Ledger(), conn.alias, name)
    try:
        run = get_run(conn, name)
    except NotFound:
        if launch is None or was_sent(launch):
            raise
        return _recorded_run(launch)
    evaluation = run.stages[-1]
    if run.completed and not evaluation.state and not evaluation.missed:
        missed = replace(evaluation, missed=_explain_no_evaluation(launch))
        run = replace(run, stages=(*run.stages[:-1], missed))
    return _with_notes(conn, run, launch)


def _with_notes(conn: Connection, run: Run, launch: Operation | None) -> Run:
    """Say of the stages that go on why they wait, and whether they take longer than usual."""
    if not any(stage.running for stage in run.stages):
        return run
    paces, told = list_paces(conn.alias, run.model, run.compute), _range_told(launch)
    billed = conn.costs_money

    def say(stage: Stage) -> str:
        if not stage.running or (stage.name == QUEUED and not billed):
            return ""  # what stands before a run on this machine is said beside its progress
        why = _explain_wait(conn, run.compute) if billed and stage.state and stage.state.waits else ""
        long = explain_length(stage, find_usual(stage.name, paces, told, on_azure=billed))
        return " ".join(filter(None, (stage.note or why, long)))

    return replace(run, stages=tuple(replace(stage, note=say(stage)) for stage in run.stages))


def _explain_wait(conn: Connection, name: str) -> str:
    def ask() -> str:
        try:
            return explain_wait(get_compute(conn, name), name)
        except NotFound:
            return explain_wait(None, name)
        except TunedeckError:
            return ""  # a run is shown also where its compute cannot be read

    return conn.remember(f"why {name} waits", ask, _CLUSTER_KEPT_S) if name else ""


def read_runs(conn: Connection, *, archived: bool = False) -> RunList:
    """Return the runs, active ones first, that which trains at the top; archived: those that are, and no other.

    Those that only the ledger knows yet are among them, and progress where one runs.
    """
    if archived:
        return list_runs(conn, archived=True)
    ledger = Ledger()  # before the workspace is asked: what was sent by now must be there
    launches = ledger.list_operations(conn.alias, kind="launch", active=True, limit=_MOST_ACTIVE)
    failed = filter(_failed_lately, ledger.list_operations(conn.alias, kind="launch", limit=20))
    found = list_runs(conn)
    listed = {run.name for run in found}
    runs = abreast(conn, (partial(_with_progress, conn, run) for run in found[: found.active]))
    for launch in (*launches, *failed):
        if launch.subject not in listed:
            run = find_run(conn, launch.subject) if was_sent(launch) else _recorded_run(launch)
            if run is not None and not run.archived:
                listed.add(run.name)
                runs.append(run)
    ended = found[found.active :]
    for run in runs:
        if run.finished:
            insort(ended, run, key=lambda run: -_made(run))
    active = sorted((run for run in runs if not run.finished), key=lambda run: (run.rank, -_made(run)))
    found[:], found.active = [*active, *ended], len(active)
    return found


def _made(run: Run) -> float:
    return run.created_at.timestamp() if run.created_at else 0.0


def read_group(conn: Connection, group: str) -> list[Run]:
    """Return the runs of a group in the order they were started in, those that only the ledger knows yet among them."""
    launches = list_group(Ledger(), conn.alias, group)  # before the workspace is asked, as of all runs
    known = {run.name: run for run in list_runs(conn)}
    tagged = list_tagged(conn, tags.GROUP)
    runs = {run.name: known.get(run.name, run) for run in tagged if run.tags[tags.GROUP] == group}
    for launch in launches:
        if launch.subject not in runs and not was_sent(launch):
            runs[launch.subject] = _recorded_run(launch)
    ordered = sorted(runs.values(), key=lambda run: (len(run.name), run.name))
    return [_with_progress(conn, run) for run in ordered]


def find_current(runs: Sequence[Run]) -> Run | None:
    """Return the run that trains, else the one that is nearest to it; None where none is active."""
    return min((run for run in runs if not run.finished), key=lambda run: run.rank, default=None)


def find_queue_of(
    conn: Connection, runs: Sequence[Run], compute: str, nodes: int = 1, created: datetime | None = None
) -> Queue:
    """Return what stands before a run on a compute. created: of the run itself, None for one to come."""
    ledger, here = Ledger(), conn.cloud.is_local
    return find_queue(
        runs, compute, lambda run: _find_told(ledger, conn.alias, run), nodes=nodes, here=here, created=created
    )


def _find_told(ledger: Ledger, alias: str, run: Run) -> float | None:
    """Return how many seconds a run was said to take, the middle of the range; None where nobody said."""
    told = _range_told(find_launch(ledger, alias, run.name))
    return sum(told) / 2 if told else None


def _range_told(launch: Operation | None) -> tuple[float, float] | None:
    change = launch.change if launch is not None and isinstance(launch.change, Launch) else None
    if change is None or change.told_low_s is None or change.told_high_s is None:
        return None
    return change.told_low_s, change.told_high_s


def describe_active(runs: Sequence[Run], without: str = "") -> str:
    """Return "1 running, 36 queued", counted by the word of each run's state; `without` leaves one word out."""
    counts = Counter(run.state_word for run in runs if not run.finished)
    return ", ".join(f"{counts[word]} {word.lower()}" for word in ACTIVE_WORDS if counts[word] and word != without)


def next_action(
    runs: Sequence[Run],
    endpoints: Sequence[EndpointView],
    inventory: Inventory,
    draft: Draft | None,
    seen: Collection[str] = (),
) -> NextAction:
    """Return the first true line of the fixed list: bills without delete-at, failed run unseen, run in progress,
    finished run not deployed, live endpoint, draft unfinished, start new.
    """
    return (
        _end_a_bill(inventory)
        or _look_at_failure(runs, seen)
        or _watch_run(runs)
        or _deploy_run(runs, endpoints)
        or _chat_with(endpoints)
        or _continue_draft(draft)
        or NextAction(NextStep.BEGIN, "Nothing is going on.")
    )


def _end_a_bill(inventory: Inventory) -> NextAction | None:
    for item in inventory.billing:
        if item.delete_at is None and item.per_hour != 0.0:
            whole = inventory.find(item.parent) or item
            sentence = f"{whole.name} bills {whole.hourly_words} and has no end."
            return NextAction(NextStep.END_A_BILL, sentence, whole.key)
    return None


def _look_at_failure(runs: Sequence[Run], seen: Collection[str]) -> NextAction | None:
    for run in runs:
        if run.state_word == "Failed" and run.name not in seen:
            return NextAction(NextStep.LOOK_AT_FAILURE, f"{run.title} failed.", run.name)
    return None


def _watch_run(runs: Sequence[Run]) -> NextAction | None:
    run = find_current(runs)
    if run is None:
        return None
    return NextAction(NextStep.WATCH, f"Watch {run.title}. {describe_progress(run)}", run.name)


def _deploy_run(runs: Sequence[Run], endpoints: Sequence[EndpointView]) -> NextAction | None:
    served = {endpoint.run for endpoint in endpoints} | _list_deployed()
    run = next((run for run in runs if run.completed), None)
    if run is None or run.name in served:
        return None
    return NextAction(NextStep.DEPLOY, f"{run.title} is completed and not deployed.", run.name)


def _chat_with(endpoints: Sequence[EndpointView]) -> NextAction | None:
    live = next((endpoint for endpoint in endpoints if endpoint.live), None)
    return NextAction(NextStep.CHAT, f"{live.name} is live.", live.name) if live else None


def _continue_draft(draft: Draft | None) -> NextAction | None:
    if draft is None or draft.launched:
        return None
    if not draft.model or not draft.compute:
        return NextAction(NextStep.CHOOSE_MODEL, "Your set-up has no model and compute yet.", draft.id)
    if not draft.dataset:
        return NextAction(NextStep.CHOOSE_DATA, f"Your set-up of {draft.model} has no data yet.", draft.id)
    return NextAction(NextStep.LAUNCH, f"Your set-up of {draft.model} is ready to start.", draft.id)


def strip(
    runs: Sequence[Run],
    endpoints: Sequence[EndpointView],
    inventory: Inventory,
    open_run: Run | None = None,
) -> StripView:
    """Return what the status strip says: of the run that is open and goes on, else of the one that trains."""
    current = find_current(runs)
    shown = current if open_run is None or open_run.finished else open_run
    live = [endpoint for endpoint in endpoints if endpoint.live]
    billing = inventory.billing
    failed = [item for item in billing if item.state == "Failed"]
    return StripView(
        billing_words=f"{inventory.words}, {len(failed)} failed" if failed else inventory.words,
        billing_help="\n".join(f"{item.name}: {item.hourly_words}, {item.whose}" for item in billing[:_NAMED]),
        run=shown.name if shown else "",
        run_words=f"{shown.title} {describe_shortly(shown).lower()}" if shown else "No run",
        endpoint=live[0].name if live else "",
        endpoint_words=f"{len(live)} live" if live else "No endpoint",
        active=bool(current or billing),
    )


def describe_progress(run: Run) -> str:
    """Return "Step 62 of 100, about 41 s left." or the state's word."""
    progress = run.progress
    if progress is None or not progress.step:
        return f"{run.state_word}."
    of = f" of {progress.total_steps}" if progress.total_steps else ""
    left = f", about {duration(progress.eta_s)} left" if progress.eta_s is not None else ""
    return f"Step {progress.step}{of}{left}."


def describe_shortly(run: Run) -> str:
    """Return "62%" while a run trains, else the word of its state."""
    progress = run.progress
    if run.state is not JobState.RUNNING or progress is None or not progress.step or not progress.total_steps:
        return run.state_word
    return percent(min(progress.fraction, 0.99))


def mark_seen(run: str) -> None:
    """Remember that the operator has looked at a failed run; a second time costs no write."""
    if run not in list_seen():
        Ledger().mark_seen(run)


def list_seen() -> list[str]:
    """Return the failed runs the operator has looked at."""
    return Ledger().list_seen()


def find_next_deletion(inventory: Inventory, now: datetime | None = None) -> tuple[str, float] | None:
    """Return (name, seconds until then) of what is deleted next, or None."""
    due = [(item.delete_at, item.name) for item in inventory.items if item.delete_at and not item.parent]
    if not due:
        return None
    at, name = min(due)
    return name, (at - (now or datetime.now(UTC))).total_seconds()


def describe_reattachment(launch: Operation, loss: Series, now: datetime | None = None) -> str:
    """Return "Re-attached to brave-otter. You missed 38 s: loss 1.31 → 1.02." for some minutes after a new process of
    the dashboard has taken a run up, "" else.
    """
    gap = launch.facts.get("reattached") or {}
    at, since = tags.parse_time(gap.get("at")), tags.parse_time(gap.get("since"))
    if at is None or since is None or (now or datetime.now(UTC)) - at > _REATTACHED_FOR:
        return ""
    sentence = f"Re-attached to {launch.change.label}. You missed {duration((at - since).total_seconds())}"
    before, after = (
        bisect_right(loss.points, each.timestamp() * 1000, key=lambda point: point.at_ms) for each in (since, at)
    )
    if not before or before == after:
        return f"{sentence}."
    return f"{sentence}: loss {loss.points[before - 1].value:.2f} → {loss.points[after - 1].value:.2f}."


def describe_deletion(alias: str, endpoint: str) -> str:
    """Return "Endpoint 'phi4' was deleted at 15:09 UTC by ana.", shorter where the ledger does not know of it."""
    ledger = Ledger()
    made = ledger.find_latest(alias, endpoint, "deploy")
    reasons = {
        "expire": "because its time was over",
        "idle_deletion": "because it was idle",
        "endpoint_at_cap": "because it came to its cap",
    }
    for kind in ("teardown", *reasons):
        for operation in ledger.list_operations(alias, kind=kind):
            for gone in operation.gone:
                at = tags.parse_time(gone.at)
                if (gone.kind, gone.name) != ("endpoint", endpoint) or at is None:
                    continue
                if made is not None and made.created_at is not None and made.created_at > at:
                    continue  # that was an earlier endpoint of this name
                why = reasons.get(kind, f"by {operation.user}")
                return f"Endpoint '{endpoint}' was deleted at {at:%H:%M} UTC {why}."
    return f"Endpoint '{endpoint}' was deleted."


def _list_deployed() -> set[str]:
    """Return the runs that were deployed from here once: what was torn down on purpose is not offered again."""
    deploys = Ledger().list_operations(kind="deploy", active=False)
    changes = [deploy.change for deploy in deploys if deploy.state is OperationState.DONE]
    return {change.run for change in changes if isinstance(change, Deploy)}


def _with_progress(conn: Connection, run: Run) -> Run:
    """Return a run as its history tells it where something of it moves; as it was listed where it is just deleted."""
    if run.finished or run.recorded or run.state.word == "Queued":
        return run
    try:
        return get_run(conn, run.name)
    except NotFound:
        return run


def _failed_lately(launch: Operation) -> bool:
    """Whether a launch failed so short ago that it is a run of the list, and not of Activity alone."""
    if launch.state is not OperationState.FAILED or launch.updated_at is None or was_sent(launch):
        return False
    return (datetime.now(UTC) - launch.updated_at).total_seconds() < 86400


def _explain_no_evaluation(launch: Operation | None) -> str:
    """Return why a completed run has no evaluation and gets none; "" while one is on its way."""
    if launch is None:
        return "It was not started by this dashboard, which evaluates only what it starts."
    if not launch.finished:
        return ""
    step = launch.find_step("evaluate")
    reason = launch.error.message if launch.error else step.detail if step else ""
    return reason or "It was not started."


def _recorded_run(operation: Operation) -> Run:
    """Return a run the workspace does not have: on its way, or never sent."""
    # One whose row of the ledger cannot be read has its name only.
    launch = operation.change if isinstance(operation.change, Launch) else Launch(operation.subject)
    step = operation.step or (operation.steps[-1] if operation.steps else None)
    failed = next((each for each in operation.steps if each.state is StepState.FAILED), None)
    failure = operation.error
    error = (
        RunError(failure.message, failure.detail[:400], failure.hint, stage=failed.title if failed else "")
        if failure
        else None
    )
    states = {OperationState.FAILED: JobState.FAILED, OperationState.CANCELLED: JobState.CANCELED}
    run = Run(
        name=operation.subject,
        title=launch.label,
        state=states.get(operation.state, JobState.PREPARING),
        display_name=launch.display_name,
        experiment=launch.experiment,
        model=launch.model,
        model_id=launch.model_id,
        model_version=launch.model_version,
        compute=launch.compute,
        dataset=launch.dataset,
        gpus=launch.gpus,
        parameters=from_job_inputs(launch.parameters),
        tags={**launch.job_tags, tags.OPERATION: operation.id},
        created_at=operation.created_at,
        ended_at=operation.updated_at if operation.finished else None,
        error=error,
        recorded=True,
        note=f"{step.title}. {step.detail}".strip() if step and not operation.finished else "",
    )
    return replace(run, stages=make_stages(run, (), None))

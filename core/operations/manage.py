"""The steps of the small changes: a new compute, a cancelled run, traffic, a time to live."""

from __future__ import annotations

from core.azureml import tags
from core.azureml.polling import check_write, start_write
from core.catalog.compute import Compute, get_compute
from core.errors import Conflict, NotFound, ServiceRefused
from core.operations.records import CANCELLED
from core.operations.work import LOOK_S, Done, Outcome, Skip, StepSpec, Stop, Wait, Work
from core.runs import history
from core.runs.jobs import STATES, cancel_run, find_run, has_job
from core.serving.endpoints import begin_delete_at, begin_traffic, get_endpoint, goes_on

# Create compute ----------------------------------------------------------------------------------------------------


def _create_compute(work: Work) -> Outcome:
    name = work.operation.subject
    waiting = work.send_once(
        "compute", "the compute", lambda: _has_compute(work, name), lambda: _send_compute(work, name), bills=True
    )
    if waiting:
        return waiting
    if work.arguments["delete_at"]:
        work.ledger.set_timer(work.operation.connection, "compute", name, work.arguments["delete_at"])
    return Done("Asked for")


def _has_compute(work: Work, name: str) -> bool:
    """Tell whether this operation's compute is there; raises Conflict for somebody else's."""
    try:
        known = get_compute(work.conn, name)
    except NotFound:
        return False
    if known.tags.get(tags.OPERATION) != work.operation.id:
        raise Conflict(f"There is a compute '{name}' already.", "Choose another name, or use it.")
    return True


def _find_own_compute(work: Work, name: str) -> Compute | None:
    """Return the compute that this operation made; one of the same name that another made since is not it."""
    try:
        found = get_compute(work.conn, name)
    except NotFound:
        return None
    return found if found.tags.get(tags.OPERATION) == work.operation.id else None


def _send_compute(work: Work, name: str) -> None:
    from azure.ai.ml.entities import AmlCompute

    told = {tags.OPERATION: work.operation.id, tags.MADE_BY: tags.made_by()}
    if work.arguments["delete_at"]:
        told[tags.DELETE_AT] = work.arguments["delete_at"]
    compute = AmlCompute(
        name=name,
        size=work.arguments["size"],
        min_instances=int(work.arguments["min_nodes"]),
        max_instances=int(work.arguments["max_nodes"]),
        idle_time_before_scale_down=int(work.arguments["idle_s"]),
        tags=told,
    )
    start_write(work.conn, "create", f"compute '{name}'", work.conn.workspace.compute.begin_create_or_update, compute)


def _wait_for_compute(work: Work) -> Outcome:
    name = work.operation.subject
    if error := check_write(work.conn, f"compute '{name}'"):
        raise error
    compute = work.find_confirmed(f"compute '{name}'", lambda: _find_own_compute(work, name))
    if compute is None:
        return Wait("Looking for it once more", LOOK_S)
    if compute.state == "Failed":
        reasons = " ".join(compute.errors) or "the service gave no reason"
        raise ServiceRefused(f"Compute '{name}' was not created: {reasons}", "Delete it, then create another.")
    return Done("Ready") if compute.state == "Succeeded" else Wait(compute.state or "Creating", 1.0)


CREATE_COMPUTE = (
    StepSpec("create", "Ask for the compute", _create_compute),
    StepSpec("wait", "Until it is ready", _wait_for_compute, patience_s=3600.0),
)

# Cancel a run ------------------------------------------------------------------------------------------------------


def _stop_launch(work: Work) -> Outcome:
    """Keep a launch that has not sent its run from sending it."""
    launches = work.ledger.list_operations(
        work.operation.connection, subject=work.operation.subject, kind="launch", limit=1
    )
    if not launches:
        return Skip("Not started from here")
    launch = launches[0]
    sent = any(step.name == "submit" and step.state == "done" for step in launch.steps)
    if launch.finished or sent:
        return Done()
    work.ledger.want_cancel(launch.id)
    return Wait("Holding the launch back", 0.3)


def _cancel(work: Work) -> Outcome:
    job = work.operation.subject
    if not has_job(work.conn, job):
        return _end_launch(work, job)
    record = history.find_record(work.conn, job)
    if record and STATES.get(record.status, STATES["Unknown"]).finished:
        return Done(f"It is {STATES[record.status].word.lower()} already")
    if not work.facts.get("asked"):
        cancel_run(work.conn, job)
    return Done("Asked", {"asked": True})


def _end_launch(work: Work, job: str) -> Outcome:
    """End the launch of a run that the workspace does not have, or has not any more: nothing else is left to cancel."""
    launches = work.ledger.list_operations(work.operation.connection, subject=job, kind="launch", limit=1)
    if not launches:
        raise NotFound(f"There is no run '{job}' in {work.conn.title}.", "See all runs.")
    if launches[0].finished:
        sent = launches[0].state != CANCELLED
        return Stop("The workspace has no such run." if sent else "The run had not been sent.")
    work.ledger.want_cancel(launches[0].id)
    return Wait("The workspace has no such run; ending its launch", 0.3)


def _until_cancelled(work: Work) -> Outcome:
    job = work.operation.subject
    record = history.find_record(work.conn, job)
    run = find_run(work.conn, job) if record is None else None  # then the job itself has to tell
    if record is None and run is None:
        return _end_launch(work, job)
    state = record.status if record else run.state if run else "Unknown"
    shown = STATES.get(state, STATES["Unknown"])
    return Done(shown.word) if shown.finished else Wait(f"Not yet confirmed: {shown.word}", LOOK_S)


CANCEL = (
    StepSpec("hold", "Hold the launch back", _stop_launch, patience_s=1800.0),
    StepSpec("cancel", "Ask the workspace", _cancel, patience_s=1800.0),
    StepSpec("wait", "Until it has ended", _until_cancelled, patience_s=1800.0),
)

# Traffic and time to live ------------------------------------------------------------------------------------------


def _traffic(work: Work) -> Outcome:
    name, wanted = work.operation.subject, dict(work.arguments["traffic"])
    if error := check_write(work.conn, f"endpoint '{name}'"):
        raise error
    endpoint = get_endpoint(work.conn, name)
    if goes_on(endpoint.state):
        return Wait("Changing the endpoint", 1.0)
    if {k: v for k, v in endpoint.traffic.items() if v} == {k: v for k, v in wanted.items() if v}:
        return Done(", ".join(f"{percent} % to {deployment}" for deployment, percent in wanted.items()))
    begin_traffic(work.conn, name, wanted)
    return Wait("Changing the endpoint", 1.0)


def _delete_at(work: Work) -> Outcome:
    """Write the time on the resource first, so that a Tunedeck elsewhere reads it; then set our own timer."""
    name, kind, wanted = work.operation.subject, work.arguments["kind"], work.arguments["delete_at"]
    if error := check_write(work.conn, f"{kind} '{name}'"):
        raise error
    found = get_endpoint(work.conn, name) if kind == "endpoint" else get_compute(work.conn, name)
    if found.tags.get(tags.DELETE_AT, "") != wanted:
        if goes_on(found.state):
            return Wait("Waiting for another change", 1.0)
        if kind == "endpoint":
            begin_delete_at(work.conn, name, tags.parse_time(wanted))
        else:
            _begin_compute_tag(work, name, wanted)
        return Wait("Changing the tag", 1.0)
    work.ledger.set_timer(work.operation.connection, kind, name, wanted)
    return Done(wanted or "It stays")


def _begin_compute_tag(work: Work, name: str, wanted: str) -> None:
    computes = work.conn.workspace.compute
    compute = work.conn.call("read", f"compute '{name}'", lambda: computes.get(name))
    kept = {key: value for key, value in (compute.tags or {}).items() if key != tags.DELETE_AT}
    compute.tags = kept | ({tags.DELETE_AT: wanted} if wanted else {})
    start_write(work.conn, "change", f"compute '{name}'", computes.begin_create_or_update, compute)


TRAFFIC = (StepSpec("traffic", "Traffic", _traffic, patience_s=1800.0),)
SET_DELETE_AT = (StepSpec("tag", "Delete-at", _delete_at, patience_s=1800.0),)

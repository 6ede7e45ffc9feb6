"""Create a compute cluster, and wait until it is ready."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial

from core.azureml.polling import check_write, is_writing, start_write
from core.catalog.compute import Compute, get_compute, size_price
from core.catalog.prices import Price
from core.errors import BadInput, Conflict, NotFound, ServiceRefused
from core.operations.change import Change, Done, Outcome, StepSpec, Wait
from core.operations.delete_at import bind_tags
from core.operations.ledger import Ledger
from core.operations.records import Operation
from core.operations.spending import spending
from core.operations.work import LOOK_S, Work
from core.teardown.caps import Wanted
from core.teardown.due import Timed, delete_at_tags, first_tags
from core.teardown.idle import choice_tags


@dataclass(frozen=True)
class CreateCompute(Change, stored_as="create_compute"):
    """A new cluster."""

    words = "Create compute {}"
    writes_a = "compute"

    size: str = ""
    min_nodes: int = 0
    max_nodes: int = 1
    idle_s: int = 900
    """For how long an idle node is kept."""
    delete_at: datetime | None = None
    low_priority: bool = False
    """Whether its nodes are cheaper ones that Azure may take away."""
    idle_hours: int = 0
    """After so many without a job it keeps no node; 0: it keeps them."""
    agreed: str = ""
    """The price per hour of all its nodes that was shown at the click, as of `caps.to_agreed`."""

    def _list_steps(self) -> tuple[StepSpec[Work[CreateCompute]], ...]:
        return (
            StepSpec("create", "Ask for the compute", _create),
            StepSpec("wait", "Until it is ready", _wait, patience_s=3600.0),
        )


def start_create_compute(
    connection: str,
    name: str,
    size: str,
    min_nodes: int = 0,
    max_nodes: int = 1,
    idle_s: int = 900,
    delete_at: datetime | None = None,
    *,
    low_priority: bool = False,
    idle_hours: int = 0,
    agreed: str = "",
) -> Operation:
    """Record a new cluster. `subject` is its name."""
    if not 3 <= len(name) <= 24 or not name[0].isalpha() or not all(c.isalnum() or c == "-" for c in name):
        raise BadInput(f"'{name}' cannot be a compute's name.", "3 to 24 letters, digits, hyphens; letter first.")
    if not 0 <= min_nodes <= max_nodes or max_nodes < 1:
        raise BadInput(f"{min_nodes} to {max_nodes} nodes is not a range.", "Use 0 to 1 for one run at a time.")
    change = CreateCompute(name, size, min_nodes, max_nodes, idle_s, delete_at, low_priority, idle_hours, agreed)
    return Ledger().start(connection, change)


def _create(work: Work[CreateCompute]) -> Outcome:
    waiting = work.send_once(
        "compute",
        "the compute",
        lambda: _exists(work),
        lambda: _send(work),
        bills=True,
        guard=lambda: spending(work, work.change.agreed, lambda: _price(work)),
    )
    return waiting or Done("Asked for")


def _price(work: Work[CreateCompute]) -> Wanted:
    """Return what it costs: all nodes at the price of the click; at once only those that never go."""
    change = work.change
    price = size_price(work.conn, change.size, low_priority=change.low_priority)
    at_once = price.times(change.min_nodes) if change.min_nodes else Price(0.0)
    return Wanted(price.times(change.max_nodes), at_once=at_once)


def _exists(work: Work[CreateCompute]) -> bool:
    """Tell whether this operation's compute is there; raises Conflict for somebody else's."""
    name = work.change.subject
    try:
        known = get_compute(work.conn, name)
    except NotFound:
        return False
    if not work.made(known.tags):
        raise Conflict(f"There is a compute '{name}' already.", "Choose another name, or use it.")
    return True


def _find_own(work: Work[CreateCompute]) -> Compute | None:
    """Return the compute that this operation made; one of the same name that another made since is not it."""
    try:
        found = get_compute(work.conn, work.change.subject)
    except NotFound:
        return None
    return found if work.made(found.tags) else None


def _send(work: Work[CreateCompute]) -> None:
    from azure.ai.ml.entities import AmlCompute  # late: it takes seconds to load

    change = work.change
    compute = AmlCompute(
        name=change.subject,
        size=change.size,
        min_instances=change.min_nodes,
        max_instances=change.max_nodes,
        idle_time_before_scale_down=change.idle_s,
        tier="low_priority" if change.low_priority else "dedicated",
        tags={**work.tags, **first_tags(work.conn, "compute", change.subject, change.delete_at)},
    )
    begin = work.conn.workspace.compute.begin_create_or_update
    start_write(work.conn, "create", f"compute '{change.subject}'", begin, compute)


def _wait(work: Work[CreateCompute]) -> Outcome:
    name = work.change.subject
    if error := check_write(work.conn, f"compute '{name}'"):
        raise error
    compute = work.find_confirmed(f"compute '{name}'", lambda: _find_own(work))
    if compute is None:
        return Wait("Looking for it once more", LOOK_S)
    if compute.state == "Failed" and is_writing(work.conn, f"compute '{name}'"):
        return Wait("Reading why it failed", LOOK_S)  # the write itself tells more than the cluster does
    if compute.state == "Failed":
        reasons = " ".join(compute.errors) or "the service gave no reason"
        raise ServiceRefused(f"Compute '{name}' was not created: {reasons}", "Delete it, then create another.")
    if compute.state != "Succeeded":
        return Wait(compute.state or "Creating", 1.0)
    bound = work.change.delete_at or work.change.idle_hours
    return (bind_tags(work, "compute", partial(_bound, work)) if bound else None) or Done("Ready")


def _bound(work: Work[CreateCompute], timed: Timed) -> dict[str, str]:
    """Return the tags that are good for this cluster alone, with its mark."""
    idle = choice_tags(timed, work.change.idle_hours) if work.change.idle_hours else {}
    return {**delete_at_tags(timed, work.change.delete_at), **idle}

"""What is said of a stage that goes on: why it waits for a node, and that it takes longer than usual. Asks nobody."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from core.catalog.compute import Compute
from core.runs.states import EVALUATION, FINE_TUNE, QUEUED, Stage
from core.runs.throughput import Pace
from core.words import duration, plural

# Seconds that a stage takes on Azure, stated where this home has no run of the same model on the same compute; each
# step may wait for a node and its image.
_STATED_S = {
    QUEUED: (60.0, 600.0),
    "ft_nlp_common_validation": (60.0, 600.0),
    "chat_completion_model_import": (120.0, 1200.0),
    "chat_completion_datapreprocess": (60.0, 600.0),
    "ft_nlp_model_converter": (120.0, 1200.0),
    EVALUATION: (240.0, 900.0),
}
_MARGIN, _MARGIN_S = 1.5, 60.0
_NO_QUOTA = re.compile(r"quota", re.IGNORECASE)
_NO_CAPACITY = re.compile(r"capacity|allocation ?failed|not ?available|no machine", re.IGNORECASE)


@dataclass(frozen=True)
class Usual:
    """How long a stage takes: seconds, and what that stands on, as in "the last 3 runs"."""

    low_s: float
    high_s: float
    basis: str


def find_usual(name: str, paces: Sequence[Pace], told: tuple[float, float] | None, *, on_azure: bool) -> Usual | None:
    """Return how long a stage takes, None where nothing says.

    paces: of runs of the same model on the same compute. told: the estimate of the whole run, which its training is
    held against: how long that takes depends on the data.
    """
    if name == FINE_TUNE:
        return Usual(*told, "was said of the whole run") if told else None
    known = [pace.stages[name] for pace in paces if name in pace.stages]
    if known:
        runs = "the last run" if len(known) == 1 else f"each of the last {len(known)} runs"
        return Usual(min(known), max(known), f"in {runs} of this model here")
    stated = _STATED_S.get(name) if on_azure else None
    return Usual(*stated, "is assumed: this home has no such run yet") if stated else None


def explain_length(stage: Stage, usual: Usual | None) -> str:
    """Return "Longer than usual: 2 to 4 min in each of the last 3 runs of this model here.", "" where it is not."""
    if usual is None or not stage.running or stage.seconds is None:
        return ""
    if stage.seconds < usual.high_s * _MARGIN or stage.seconds < usual.high_s + _MARGIN_S:
        return ""
    low, high = duration(usual.low_s), duration(usual.high_s)
    return f"Longer than usual: {low if low == high else f'{low} to {high}'} {usual.basis}."


def explain_wait(compute: Compute | None, name: str) -> str:
    """Return why nothing runs yet on a cluster, from what it says of itself. compute: None where it is gone."""
    if compute is None:
        return f"The compute '{name}' is gone: cancel the run, and start it on another."
    if compute.errors:
        return _explain_errors(compute)
    if compute.state.lower() not in ("succeeded", "updating", ""):
        return f"The compute '{name}' is {compute.state.lower()}."
    states = compute.node_states
    ready = max(0, (compute.nodes or 0) - states.get("preparing", 0))
    if states.get("preempted"):
        return "Azure took a low-priority node back. It comes again when there is room; a dedicated one stays."
    if states.get("unusable"):
        return f"{plural(states['unusable'], 'node')} of {name} cannot be used. Azure replaces it; else delete {name}."
    if compute.allocation.lower() == "resizing" or states.get("preparing"):
        return f"{name} is starting a node: {ready} of at most {compute.max_nodes} there."
    if ready and ready >= compute.max_nodes and not states.get("idle"):
        return f"All of {name} is taken: {plural(ready, 'node')} of at most {compute.max_nodes}."
    if ready:
        return f"{name} has {plural(ready, 'node')}; the step is being put on one."
    room = " Low-priority nodes come when there is room." if compute.low_priority else ""
    return f"{name} has not begun to start a node.{room}"


def _explain_errors(compute: Compute) -> str:
    said = compute.errors[0].strip().rstrip(".")
    if _NO_QUOTA.search(said):
        return f"{compute.name} gets no node, for the quota is used up: {said}. Ask for quota, or cancel the run."
    if _NO_CAPACITY.search(said):
        return (
            f"{compute.name} gets no node, for Azure has none of {compute.size} free now: {said}. Wait, or cancel the "
            "run and pick another size."
        )
    return f"{compute.name} gets no node: {said}."

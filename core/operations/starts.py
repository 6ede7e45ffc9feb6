"""When machines of each size last came: quota is not capacity, and only a machine that came shows that there was."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from core.catalog.compute import Compute
from core.operations.create_compute import CreateCompute
from core.operations.deploy import Deploy
from core.operations.records import Operation, StepState
from core.runs.states import Run


def list_starts(
    runs: Iterable[Run], computes: Iterable[Compute], operations: Iterable[Operation]
) -> Mapping[str, datetime]:
    """Return when a machine of a size last came here, by the size's name in small letters.

    A run counts once it has completed, a deployment once its container was up: what this home knows of one workspace.
    """
    operations = list(operations)
    oldest_first = sorted(operations, key=lambda operation: operation.number)
    created = {each.subject: each.change.size for each in oldest_first if isinstance(each.change, CreateCompute)}
    size_of = created | {compute.name: compute.size for compute in computes}
    found = [(size_of.get(run.compute, ""), run.started_at) for run in runs if run.completed]
    for operation in operations:
        step = operation.find_step("deployment")
        if isinstance(operation.change, Deploy) and step and step.state is StepState.DONE:
            found.append((operation.change.size, step.ended))
    latest: dict[str, datetime] = {}
    for size, at in sorted(((size, at) for size, at in found if size and at), key=lambda pair: pair[1]):
        latest[size.lower()] = at
    return latest

"""The run history service: times, errors, children and log files of a run, which the SDK's entities leave out.

Azure's service of the same name; where it is, the workspace's discovery address says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from core.azureml.connection import Connection
from core.azureml.tags import parse_time
from core.errors import NotFound
from core.runs.states import STAGES, JobState


@dataclass(frozen=True)
class RunRecord:
    """One run as the history service tells it. component: the step's component name, where it is a pipeline's step."""

    run_id: str
    status: JobState
    display_name: str = ""
    component: str = ""
    created_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    error: str = ""
    warning: str = ""
    """What the service says of it last, as of why it waits; "" for nothing."""
    tags: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    hidden: bool = False
    """Whether it is archived."""


def find_record(conn: Connection, run_id: str) -> RunRecord | None:
    """Return one run, or None when the service does not know it."""
    try:
        answer = conn.http("GET", f"{_base(conn)}/runs/{run_id}", doing="read", what=f"run '{run_id}'")
    except NotFound:
        return None
    return _parse(answer.json())


def write(conn: Connection, run_id: str, tags: Mapping[str, str], archived: bool | None = None) -> RunRecord:
    """Add tags to a run's, or change them, and archive it or take it back, as the SDK does; return how it is then."""
    body = {"runId": run_id, "tags": dict(tags), "hidden": archived}
    body = {name: value for name, value in body.items() if value not in ({}, None)}
    url, what = f"{_base(conn)}/runs/{run_id}", f"run '{run_id}'"
    return _parse(conn.http("PATCH", url, json=body, doing="change", what=what).json())


def remove_tags(conn: Connection, run_id: str, names: Sequence[str]) -> RunRecord:
    """Take tags away from a run, also those that it has not; return how it is then."""
    what, body = f"run '{run_id}'", {"tagsToModify": {}, "tagsToDelete": list(names)}
    experiment = conn.http("GET", f"{_base(conn)}/runs/{run_id}", what=what).json().get("experimentId")
    url = f"{_base(conn)}/experimentids/{experiment}/runs/{run_id}/tags"
    return _parse(conn.http("PATCH", url, json=body, doing="change", what=what).json())


def list_children(conn: Connection, run_id: str) -> list[RunRecord]:
    """Return the direct children of a run, oldest first; empty before the service knows the run."""
    url, records = f"{_base(conn)}/runs/{run_id}/children", list[RunRecord]()
    with suppress(NotFound):
        for answer in conn.pages(url, f"the stages of run '{run_id}'"):
            records += [_parse(run) for run in answer.json().get("value") or []]
    return sorted(records, key=lambda record: (record.created_at is None, record.created_at or 0, record.run_id))


def list_steps(conn: Connection, run_id: str) -> list[RunRecord]:
    """Return the component's steps. Where the service keeps the component as a run of its own, they are one deeper."""
    children = list_children(conn, run_id)
    if children and not any(_step_name(child) for child in children):
        deeper = [step for child in children for step in list_children(conn, child.run_id)]
        children = deeper or children
    return [replace(child, component=_step_name(child) or child.component) for child in children]


def _step_name(record: RunRecord) -> str:
    return next((name for name in (record.component, record.display_name) if name in STAGES), "")


def list_log_files(conn: Connection, run_id: str) -> dict[str, str]:
    """Return the log files of a run, name to signed address; empty before there are any."""
    try:
        answer = conn.http("GET", f"{_base(conn)}/runs/{run_id}/details", doing="read", what=f"the logs of '{run_id}'")
    except NotFound:
        return {}
    return dict(answer.json().get("logFiles") or {})


def _base(conn: Connection) -> str:
    """Return the service's address for this workspace, asked once."""
    return conn.remember("run history", lambda: _discover(conn), math.inf)


def _discover(conn: Connection) -> str:
    name = conn.settings.workspace_name
    workspace = conn.call("read", f"workspace '{name}'", lambda: conn.workspace.workspaces.get(name))
    services = conn.http("GET", str(workspace.discovery_url), doing="find", what="the run history").json()
    return f"{services['api'].rstrip('/')}/history/v1.0{conn.workspace_path}"


def _parse(run: Mapping[str, Any]) -> RunRecord:
    properties = run.get("properties") or {}
    return RunRecord(
        run_id=str(run.get("runId", "")),
        status=JobState(str(run.get("status"))),
        display_name=str(run.get("displayName") or ""),
        component=str(properties.get("azureml.moduleName") or run.get("name") or ""),
        created_at=parse_time(run.get("createdUtc")),
        started_at=parse_time(run.get("startTimeUtc")),
        ended_at=parse_time(run.get("endTimeUtc")),
        error=_error_text(run.get("error")),
        warning=next((str(each.get("message") or "").strip() for each in reversed(run.get("warnings") or [])), ""),
        tags=run.get("tags") or {},
        properties=properties,
        hidden=bool(run.get("hidden")),
    )


def _error_text(error: Any) -> str:
    """Return the message inside the service's nested error, without its empty shells."""
    while isinstance(error, Mapping) and isinstance(error.get("error"), Mapping):
        error = error["error"]
    return str(error.get("message") or error.get("code") or "").strip() if isinstance(error, Mapping) else ""

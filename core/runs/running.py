"""What runs in a workspace now, whoever started it, on how many nodes of what: it bills. Knows no price."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from core.azureml import tags
from core.azureml.connection import Connection
from core.azureml.owners import read_made
from core.runs import history
from core.runs.jobs import jobs_url
from core.runs.states import JobState
from core.runs.titles import new_title

_MOST_PAGES = 3  # newest first: what runs for so long that it is not on them is seen by its cluster's nodes
_STARTED_KEPT_S = 60.0
_ON_NODES = {"Running", "Finalising", "Cancelling"}


@dataclass(frozen=True)
class RunningJob:
    """One job that has nodes."""

    name: str
    title: str
    state: str
    compute: str = ""
    """The cluster or instance it runs on; "" for a serverless one, and where the service does not say."""
    size: str = ""
    """Of a serverless node."""
    nodes: int | None = None
    """None where the service does not say."""
    owner: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    created_at: datetime | None = None
    started_at: datetime | None = None


def list_running(conn: Connection) -> list[RunningJob]:
    """Return what runs among the newest jobs: a request a page, and one for each that runs, once a minute."""
    url = jobs_url(conn, listViewType="ActiveOnly")
    found = [
        _parse(conn, body)
        for answer in itertools.islice(conn.pages(url, "the jobs"), _MOST_PAGES)
        for body in answer.json().get("value") or []
        if JobState(str((body.get("properties") or {}).get("status"))).word in _ON_NODES
    ]
    return sorted(found, key=lambda job: job.name)


def _parse(conn: Connection, body: Mapping[str, Any]) -> RunningJob:
    name, job, made = str(body.get("name") or ""), body["properties"], read_made(body)
    told = {str(key): str(value or "") for key, value in (job.get("tags") or {}).items()}
    resources = job.get("resources") or {}
    compute = str(job.get("computeId") or (job.get("settings") or {}).get("default_compute") or "")
    compute = told.get(tags.COMPUTE) or compute.rpartition("/")[2]
    size = str(resources.get("instanceType") or "")
    serverless = bool(size) and compute.lower() in ("", "serverless")
    record = conn.remember(f"start of {name}", lambda: history.find_record(conn, name), _STARTED_KEPT_S)
    return RunningJob(
        name=name,
        title=told.get(tags.TITLE) or str(job.get("displayName") or "") or new_title(name),
        state=JobState(str(job.get("status"))).word,
        compute="" if serverless else compute,
        size=size if serverless else "",
        nodes=_count_nodes(job, resources),
        owner=made.by,
        tags=told,
        created_at=made.at,
        started_at=record.started_at if record else None,
    )


def _count_nodes(job: Mapping[str, Any], resources: Mapping[str, Any]) -> int | None:
    """Return the nodes of a command; of a pipeline those of its fine-tuning, which other pipelines do not have."""
    if str(job.get("jobType")).lower() != "pipeline":
        return int(resources.get("instanceCount") or 1)
    inputs = [node.get("inputs") or {} for node in (job.get("jobs") or {}).values()]
    told = [str((each.get("num_nodes_finetune") or {}).get("value") or "") for each in inputs]
    if len(inputs) != 1:
        return None
    return int(told[0]) if told[0].isdecimal() else 1 if (job.get("tags") or {}).get(tags.TITLE) else None

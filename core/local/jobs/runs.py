"""What a run is, whoever started it: its states, its document, and where its files are. Knows no wire form.

A job is one document: the root run and the runs of its steps lie in it together, so that every change of state is one
write. Runs that an MLflow client opened are documents of their own.

    job   {name, kind, properties, experiment, compute, plan, run: State, steps: [Step], cancel_asked_at, placed}
    State {status, display_name, tags, properties, started_at, ended_at, error, hidden}
    Step  {id, name, title, program, run: State, attempt, stop_asked_at}, once its process died also deaths, died_after
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from core.local.store import Document, Store, now_utc
from core.local.wire.errors import WireError

COMMAND_STEP = "command"
EVENTS_NAME = "executionlogs.txt"
LOG_NAME = "std_log.txt"
PROGRESS_FIELDS = ("step", "total_steps", "epoch", "phase", "at")
DEFAULT_EXPERIMENT = "Default"


@dataclass(frozen=True)
class Status:
    """One state of a run: which may follow, and MLflow's word for it."""

    mlflow: str
    following: tuple[str, ...] = ()

    @property
    def terminal(self) -> bool:
        """Whether nothing follows."""
        return not self.following


STATUSES: dict[str, Status] = {
    "NotStarted": Status("SCHEDULED", ("Queued", "Preparing", "CancelRequested", "Canceled", "Failed")),
    "Queued": Status("SCHEDULED", ("Preparing", "CancelRequested", "Canceled", "Failed")),
    "Preparing": Status("SCHEDULED", ("Running", "CancelRequested", "Canceled", "Failed")),
    "Running": Status("RUNNING", ("Queued", "Finalizing", "CancelRequested", "Canceled", "Failed")),
    "Finalizing": Status("RUNNING", ("Completed", "CancelRequested", "Canceled", "Failed")),
    "CancelRequested": Status("RUNNING", ("Canceled",)),
    "Completed": Status("FINISHED"),
    "Failed": Status("FAILED"),
    "Canceled": Status("KILLED"),
}

OF_MLFLOW = {
    "RUNNING": "Running",
    "SCHEDULED": "NotStarted",
    "FINISHED": "Completed",
    "FAILED": "Failed",
    "KILLED": "Canceled",
}


@dataclass(frozen=True)
class Run:
    """One run as the history and MLflow show it. `folder` holds its log and its progress, where it has a process."""

    run_id: str
    parent_id: str
    root_id: str
    experiment: str
    kind: str
    state: Document
    created_at: str
    compute: str = ""
    folder: Path | None = None
    events: Path | None = None

    def logs(self) -> dict[str, Path]:
        """Return the logs that a run has begun, by the names under which the SDK looks for them."""
        logs = {}
        if self.folder and self.kind != "pipeline":
            logs["user_logs/std_log.txt"] = self.folder / LOG_NAME
        if self.events:
            logs["logs/azureml/executionlogs.txt"] = self.events
        return {name: path for name, path in logs.items() if path.exists()}

    def read_progress(self) -> dict[str, str]:
        """Return how far a run is as properties `tunedeck.progress.*`, {} where it has not told."""
        if self.folder is None:
            return {}
        try:
            told = json.loads((self.folder / "progress.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        if not isinstance(told, dict):
            return {}
        return {f"tunedeck.progress.{name}": str(told[name]) for name in PROGRESS_FIELDS if name in told}


def new_state(
    display_name: str, tags: dict[str, str] | None = None, properties: dict[str, str] | None = None
) -> Document:
    """Return the state of a run that has not started."""
    return {
        "status": "NotStarted",
        "display_name": display_name,
        "tags": dict(tags or {}),
        "hidden": False,
        "properties": dict(properties or {}),
        "started_at": None,
        "ended_at": None,
        "error": None,
    }


def is_over(state: Document) -> bool:
    """Tell whether a run has come to its end."""
    return STATUSES[state["status"]].terminal


def move(state: Document, to: str, *, error: Document | None = None) -> None:
    """Change the status in place; raises ValueError for a step that the table does not have."""
    if to not in STATUSES[state["status"]].following:
        raise ValueError(f"a run does not go from {state['status']} to {to}")
    state["status"] = to
    if to == "Running":
        state["started_at"] = now_utc()
    if STATUSES[to].terminal:
        state["ended_at"] = now_utc()
    if error is not None:
        state["error"] = error


def children_of(job: Document) -> list[Document]:
    """Return the steps that are runs of their own: all of a pipeline, none of a command."""
    return [step for step in job["steps"] if step["id"] != job["name"]]


class Runs:
    """The runs of one workspace: jobs, their steps, and what MLflow clients opened."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        self._folder = folder

    def job_folder(self, job: str) -> Path:
        """Return the folder of a job's files."""
        return self._folder / job

    def step_folder(self, job: str, step: Document) -> Path:
        """Return the folder of a step's files."""
        return self.job_folder(job) / str(step["name"])

    def find(self, run_id: str) -> Run | None:
        """Return a root run, a step's run or a run of an MLflow client."""
        if job := self._store.get("job", run_id):
            return self.of_job(job)
        if own := self._store.get("run", run_id):
            return _mlflow_run(own)
        job = self._store.get("job", run_id.rpartition("_")[0])
        for step in children_of(job) if job else ():
            if step["id"] == run_id and job:
                return self.of_step(job, step)
        return None

    def get(self, run_id: str) -> Run:
        """Return a run; raises WireError 404."""
        run = self.find(run_id)
        if run is None:
            raise WireError(404, "ResourceNotFound", f"The run '{run_id}' was not found.")
        return run

    def list(self) -> Iterator[Run]:
        """Give every run, newest root first, a job's steps after it."""
        for _, job in self._store.each("job"):
            yield self.of_job(job)
            for step in children_of(job):
                yield self.of_step(job, step)
        for _, own in self._store.each("run"):
            yield _mlflow_run(own)

    def change(self, run: Run, change: Callable[[Document], None]) -> None:
        """Change the state of a run in place, in one transaction."""

        def apply(document: Document) -> Document:
            if run.kind == "mlflow" or run.run_id == run.root_id:
                change(document["run"])
            else:
                change(next(step["run"] for step in document["steps"] if step["id"] == run.run_id))
            return document

        self._store.update("run" if run.kind == "mlflow" else "job", run.root_id, apply)

    def of_job(self, job: Document) -> Run:
        """Return the run of the whole job."""
        return Run(
            job["name"],
            "",
            job["name"],
            job["experiment"],
            job["kind"],
            job["run"],
            job["created_at"],
            job["compute"],
            folder=self._telling_folder(job),
            events=self.job_folder(job["name"]) / EVENTS_NAME,
        )

    def of_step(self, job: Document, step: Document) -> Run:
        """Return the run of one step."""
        return Run(
            step["id"],
            job["name"],
            job["name"],
            job["experiment"],
            "step",
            step["run"],
            job["created_at"],
            job["compute"],
            folder=self.step_folder(job["name"], step),
        )

    def _telling_folder(self, job: Document) -> Path:
        """Return the folder of the step whose progress stands for the job: the training, else the last."""
        begun = [step for step in job["steps"] if step["attempt"]] or job["steps"][:1]
        training = [step for step in begun if step["program"] == "finetune"]
        return self.step_folder(job["name"], (training or begun)[-1])

    def ensure_experiment(self, name: str) -> Document:
        """Return the experiment of this name, made where it is not there."""
        key = experiment_id(name)
        document = {"experiment_id": key, "name": name, "tags": {}, "lifecycle_stage": "active"}
        return self._store.insert("experiment", key, document) or self._store.require("experiment", key)


def _mlflow_run(document: Document) -> Run:
    return Run(
        document["run_id"],
        "",
        document["run_id"],
        document["experiment"],
        "mlflow",
        document["run"],
        document["created_at"],
    )


def experiment_id(name: str) -> str:
    """Return the id of an experiment: made of its name, so that two who create it make the same one."""
    return "0" if name == DEFAULT_EXPERIMENT else hashlib.sha256(name.encode()).hexdigest()[:18]


def to_milliseconds(stored: str | None) -> int:
    """Return a stored time as milliseconds since 1970, 0 for none."""
    return int(datetime.fromisoformat(stored).timestamp() * 1000) if stored else 0


def from_milliseconds(moment: int) -> str:
    """Return milliseconds since 1970 in the form in which times are stored."""
    return datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="microseconds")

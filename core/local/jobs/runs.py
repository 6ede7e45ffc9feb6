"""The runs of a workspace, whoever started them, and where their files are: jobs, their steps, runs of MLflow clients.

run         {run_id, experiment, run: RunState, user}: what an MLflow client opened
experiment  {experiment_id, name, tags, lifecycle_stage}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from core.local.jobs.job import Job, RunState, Step
from core.local.store import Document, Store
from core.local.wire.errors import WireError

EVENTS_NAME = "executionlogs.txt"
LOG_NAME = "std_log.txt"
PROGRESS_FIELDS = ("step", "total_steps", "epoch", "phase", "at")
DEFAULT_EXPERIMENT = "Default"


@dataclass(frozen=True)
class Run:
    """One run as the history and MLflow show it."""

    run_id: str
    parent_id: str
    root_id: str
    experiment: str
    kind: str
    """ "pipeline", "command", "step" or "mlflow"."""
    state: RunState
    created_at: str
    compute: str = ""
    folder: Path | None = None
    """Where its log and its progress are, where it has a process."""
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
        """Return how far a run is as properties `tunedeck.progress.*`, {} where it has written nothing."""
        if self.folder is None:
            return {}
        try:
            progress = json.loads((self.folder / "progress.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        if not isinstance(progress, dict):
            return {}
        return {f"tunedeck.progress.{name}": str(progress[name]) for name in PROGRESS_FIELDS if name in progress}


class Runs:
    """The jobs and runs of one workspace, parsed from the store and written to it."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        self._folder = folder

    # Jobs

    def find_job(self, name: str) -> Job | None:
        """Return a job, or None."""
        document = self._store.get("job", name)
        return Job.from_document(document) if document else None

    def get_job(self, name: str) -> Job:
        """Return a job; raises WireError 404."""
        return Job.from_document(self._store.require("job", name))

    def list_jobs(self, before: int | None = None) -> Iterator[tuple[int, Job]]:
        """Yield jobs with their places, newest first, from below the place `before` on."""
        for place, document in self._store.each("job", before=before):
            yield place, Job.from_document(document)

    def insert_job(self, job: Job) -> Job | None:
        """Record a new job; None, and nothing changed, where its name is taken."""
        document = self._store.insert("job", job.name, job.to_document())
        return Job.from_document(document) if document else None

    def update_job(self, name: str, change: Callable[[Job], Job | None]) -> Job:
        """Change a job in one transaction; `change` returns None to leave it. Raises WireError 404."""

        def apply(document: Document) -> Document | None:
            changed = change(Job.from_document(document))
            return None if changed is None else changed.to_document()

        return Job.from_document(self._store.update("job", name, apply))

    def job_folder(self, job: str) -> Path:
        """Return the folder of a job's files."""
        return self._folder / job

    def step_folder(self, job: str, step: Step) -> Path:
        """Return the folder of a step's files."""
        return self.job_folder(job) / step.name

    # Runs

    def find(self, run_id: str) -> Run | None:
        """Return a root run, a step's run or a run of an MLflow client."""
        if job := self.find_job(run_id):
            return self.of_job(job)
        if own := self._store.get("run", run_id):
            return _mlflow_run(own)
        return next((run for run in self.children(run_id.rpartition("_")[0]) if run.run_id == run_id), None)

    def get(self, run_id: str) -> Run:
        """Return a run; raises WireError 404."""
        run = self.find(run_id)
        if run is None:
            raise WireError(404, "ResourceNotFound", f"The run '{run_id}' was not found.")
        return run

    def list_all(self) -> Iterator[Run]:
        """Yield every run, newest root first, a job's steps after it."""
        for _, job in self.list_jobs():
            yield self.of_job(job)
            yield from self._of_steps(job)
        for _, own in self._store.each("run"):
            yield _mlflow_run(own)

    def children(self, job: str) -> list[Run]:
        """Return the runs of a pipeline's steps, [] where there is no such job."""
        parent = self.find_job(job)
        return self._of_steps(parent) if parent else []

    def insert(self, run_id: str, experiment: str, state: RunState, user: str) -> None:
        """Record a run that an MLflow client opened."""
        self._store.put("run", run_id, {"run_id": run_id, "experiment": experiment, "run": asdict(state), "user": user})

    def change(self, run: Run, change: Callable[[RunState], RunState]) -> None:
        """Change the state of a run in one transaction."""

        def apply(document: Document) -> Document:
            parts = {step["id"]: step for step in document.get("steps", ())} | {run.root_id: document}
            part = parts[run.run_id]
            part["run"] = asdict(change(RunState.from_document(part["run"])))
            return document

        self._store.update("run" if run.kind == "mlflow" else "job", run.root_id, apply)

    def of_job(self, job: Job) -> Run:
        """Return the run of the whole job."""
        return Run(
            job.name,
            "",
            job.name,
            job.experiment,
            job.kind,
            job.run,
            job.created_at,
            job.compute,
            folder=self._progress_folder(job),
            events=self.job_folder(job.name) / EVENTS_NAME,
        )

    def _of_steps(self, job: Job) -> list[Run]:
        return [
            Run(
                step.id,
                job.name,
                job.name,
                job.experiment,
                "step",
                step.run,
                job.created_at,
                job.compute,
                folder=self.step_folder(job.name, step),
            )
            for step in job.children
        ]

    def _progress_folder(self, job: Job) -> Path:
        """Return the folder of the step whose progress stands for the job: the training, else the last that began."""
        begun = [step for step in job.steps if step.attempt] or job.steps[:1]
        training = [step for step in begun if step.program == "finetune"]
        return self.step_folder(job.name, (training or begun)[-1])

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
        RunState.from_document(document["run"]),
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

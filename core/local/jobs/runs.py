"""The runs of a workspace, whoever started them, and where their files are: jobs, their steps, runs of MLflow clients.

run         {run_id, experiment, run: RunState, user}: what an MLflow client opened
experiment  {experiment_id, name, tags, lifecycle_stage}
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from core.engine import component
from core.engine.checkpoints import STATE_FILE, Checkpoints, read_note
from core.local.jobs.job import Job, RunState, Step, read_run_state
from core.local.records import Record
from core.local.store import LAST_PLACE, Store
from core.local.wire.errors import WireError

EVENTS_NAME = "executionlogs.txt"
LOG_NAME = "std_log.txt"
KEPT = "tunedeck.kept"  # a property of a job that failed or was cancelled: its best checkpoint
_TRAINS = next(step.name for step in component.STEPS if step.program == "finetune")
STOP = "tunedeck.stop"  # a tag: who asked for the end of a training, with the best that it has
STOPPED = "tunedeck.stopped"  # a property: the sentence of a training that ended so
CONTINUES = "tunedeck.continues"  # a tag: "run/checkpoint-40", which a job goes on from
PROGRESS_FIELDS = ("step", "total_steps", "epoch", "phase", "at")
DEFAULT_EXPERIMENT = "Default"
_PLACE = re.compile(r"(?P<kind>job|run)\.(?P<root>\d{1,19})\.(?P<at>\d{1,4})")


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
    """Where its log, its progress and its checkpoints are, where it has a process."""
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

    def read_checkpoints(self) -> dict[str, str]:
        """Return the checkpoints of a step as a property, {} where there are none."""
        folder = self.folder / "outputs" / "checkpoints" if self.folder and self.kind == "step" else None
        if folder is None or not folder.is_dir():
            return {}
        found = []
        with suppress(FileNotFoundError):  # a trainer at work drops some
            for each in Checkpoints(folder, -1).list():
                files = [file.stat().st_size for file in each.iterdir()]
                goes_on = (each / STATE_FILE).exists()
                found.append({**asdict(read_note(each)), "size_bytes": sum(files), "goes_on": goes_on})
        return {"tunedeck.checkpoints": json.dumps(found)} if found else {}


@dataclass(frozen=True, kw_only=True)
class ClientRun(Record):
    """A run that an MLflow client opened."""

    KIND = "run"
    PARSERS: ClassVar[Mapping[str, Callable[[Any], Any]]] = {"run": read_run_state}

    name: str = ""
    run_id: str
    experiment: str
    run: RunState
    user: str = ""

    @property
    def key(self) -> str:
        """Return the id of the run."""
        return self.run_id

    def to_run(self) -> Run:
        """Return it as runs are shown."""
        return Run(self.run_id, "", self.run_id, self.experiment, "mlflow", self.run, self.created_at)


@dataclass(frozen=True, kw_only=True)
class Experiment(Record):
    """An experiment, which runs belong to by its name."""

    KIND = "experiment"

    tags: dict[str, str] = field(default_factory=dict)
    lifecycle_stage: str = "active"

    @property
    def experiment_id(self) -> str:
        """Return its id."""
        return experiment_id(self.name)

    @property
    def key(self) -> str:
        """Return its id, by which it is stored."""
        return self.experiment_id


class Runs:
    """The jobs and runs of one workspace, parsed from the store and written to it."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        self._folder = folder

    def list_jobs(self, before: int | None = None) -> Iterator[tuple[int, Job]]:
        """Yield jobs with their places, newest first, from below the place `before` on."""
        for place, document in self._store.each(Job.KIND, before=before):
            yield place, Job.from_document(document)

    def job_folder(self, job: str) -> Path:
        """Return the folder of a job's files."""
        return self._folder / job

    def step_folder(self, job: str, step: Step) -> Path:
        """Return the folder of a step's files."""
        return self.job_folder(job) / step.name

    def checkpoints_of(self, job: str) -> Checkpoints:
        """Return the checkpoints of a job."""
        return Checkpoints(self.job_folder(job) / _TRAINS / "outputs" / "checkpoints", -1)

    def find(self, run_id: str) -> Run | None:
        """Return a root run, a step's run or a run of an MLflow client."""
        if job := Job.find(self._store, run_id):
            return self.of_job(job)
        if own := ClientRun.find(self._store, run_id):
            return own.to_run()
        return next((run for run in self.children(run_id.rpartition("_")[0]) if run.run_id == run_id), None)

    def get(self, run_id: str) -> Run:
        """Return a run; raises WireError 404."""
        run = self.find(run_id)
        if run is None:
            raise WireError(404, "ResourceNotFound", f"The run '{run_id}' was not found.")
        return run

    def list_all(self, after: str = "") -> Iterator[tuple[str, Run]]:
        """Yield every run with its place, newest root first, a job's steps after it; from behind a place on."""
        found = _PLACE.fullmatch(after or f"job.{LAST_PLACE}.0")
        if found is None:
            raise WireError(400, "BadRequest", f"'{after[:40]}' is no page token that was given here.")
        root, at = int(found["root"]), int(found["at"])
        if found["kind"] == "job":
            for here, job in self.list_jobs(before=min(root + 1, LAST_PLACE)):
                for place, run in enumerate([self.of_job(job), *self._of_steps(job)]):
                    if here < root or place > at:
                        yield f"job.{here}.{place}", run
            root = LAST_PLACE
        for here, document in self._store.each(ClientRun.KIND, before=root):
            yield f"run.{here}.0", ClientRun.from_document(document).to_run()

    def children(self, job: str) -> list[Run]:
        """Return the runs of a pipeline's steps, [] where there is no such job."""
        parent = Job.find(self._store, job)
        return self._of_steps(parent) if parent else []

    def change(self, run: Run, change: Callable[[RunState], RunState]) -> None:
        """Change the state of a run in one transaction."""
        if run.kind == "mlflow":
            ClientRun.update(self._store, run.run_id, lambda own: replace(own, run=change(own.run)))
        else:
            Job.update(self._store, run.root_id, lambda job: job.with_run(run.run_id, change))

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

    def ensure_experiment(self, name: str) -> Experiment:
        """Return the experiment of this name, made where it is not there."""
        made = Experiment(name=name)
        return made.insert(self._store) or Experiment.get(self._store, made.key)


def experiment_id(name: str) -> str:
    """Return the id of an experiment: made of its name, so that two who create it make the same one."""
    return "0" if name == DEFAULT_EXPERIMENT else hashlib.sha256(name.encode()).hexdigest()[:18]


def to_milliseconds(stored: str | None) -> int:
    """Return a stored time as milliseconds since 1970, 0 for none."""
    return int(datetime.fromisoformat(stored).timestamp() * 1000) if stored else 0


def from_milliseconds(moment: int) -> str:
    """Return milliseconds since 1970 in the form in which times are stored."""
    return datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="microseconds")

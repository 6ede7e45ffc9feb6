"""Takes jobs through their states on real processes: queue, start, watch, cancel, fail, finish.

One thread looks at every job that is not over and takes it one step further. It keeps nothing in memory that matters:
what is so is read from the job's document and from the folders of its steps. A server that takes over after a kill
therefore only has to look, and a state is written before what it stands for is begun.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from core.engine.disk import DiskReserve
from core.local import faults, processes, shim
from core.local.backend import Backend
from core.local.compute import Compute
from core.local.jobs import nodes, runs, steps
from core.local.jobs.ingest import Ingest
from core.local.jobs.job import Job, RunError, Status, Step
from core.local.store import now_utc

LOOK_EVERY_S = 0.1
CALM_LOOK_EVERY_S = 0.3  # once no job has changed its state for a while: a look costs 1.5 ms of processor time
CALM_AFTER_S = 5.0
STOP_GRACE_S = 5.0
NICENESS = 5  # a run takes every core there is: the dashboard and the server go first
_log = logging.getLogger(__name__)


class Runner:
    """Runs the jobs of one workspace. `program` gives the command line of an engine program."""

    def __init__(self, backend: Backend, program: steps.Program = steps.engine_program) -> None:
        self._backend = backend
        self._runs = backend.runs
        self._store = backend.store
        self._program = program
        self._ingest = Ingest(backend.store, as_azure=backend.profile.is_azure)
        self._reserve = DiskReserve(backend.home.path / "disk-reserve")
        self._active: list[str] = []
        self._begun, self._scaled_at = now_utc(), dict[str, str]()
        self._no_node_until: dict[str, float] = {}
        self._stopping_since: dict[str, float] = {}  # by time.monotonic(): the machine's clock may be set meanwhile
        self._changed_at = time.monotonic()
        self._waits_for_cores = ""  # the job whose log says so already
        self._turn: tuple[str, str] | None = None  # whose it is, asked once in a pass over many that wait
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Adopt the jobs that an earlier server left unfinished, and begin to look."""
        self._reserve.take()
        unfinished = [job for _, job in self._runs.list_jobs() if not job.finished][::-1]
        self._active = [job.name for job in unfinished]
        for job in unfinished:
            self._log(job, "The local workspace started again and carries on with this job.")
        self._thread = threading.Thread(target=self._loop, name="runner", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; trainers go on and are adopted by the next server."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=30)

    def submit(self, job: Job) -> Job | None:
        """Record a new job and queue it; None, and nothing changed, where its name is taken."""
        recorded = job.insert(self._store)
        if recorded is not None:
            self._watch(job.name)
        return recorded

    def cancel(self, name: str) -> None:
        """Ask for the end of a job; the runner stops its process within seconds."""

        def ask(job: Job) -> Job | None:
            if job.finished or job.cancel_asked_at:
                return None
            return replace(job.moved(Status.CANCEL_REQUESTED), cancel_asked_at=now_utc())

        Job.update(self._store, name, ask)
        self._watch(name)

    def list_jobs_on(self, compute: str) -> list[str]:
        """Return the jobs that wait for a compute or run on it."""
        return [job.name for job in self._unfinished() if job.compute == compute]

    def count_starting(self, compute: str) -> int:
        """Return for how many jobs a node is still being started."""
        jobs = [job for job in self._unfinished() if job.compute == compute]
        return sum(not self._backend.profile.is_due("node", job.created_at) for job in jobs)

    def find_scaled_at(self, compute: str) -> str:
        """Return when the nodes of a cluster became as many as they are, as far as this server saw it."""
        with self._lock:
            names, known = list(self._active), self._scaled_at.get(compute, self._begun)
        jobs = [job for name in names if (job := Job.find(self._store, name)) and job.compute == compute]
        return max([known, *(job.run.ended_at or job.created_at for job in jobs)])

    def _watch(self, name: str) -> None:
        with self._lock:
            if name not in self._active:
                self._active.append(name)
        self._wake.set()

    def _unfinished(self) -> list[Job]:
        with self._lock:
            names = list(self._active)
        return [job for name in names if (job := Job.find(self._store, name)) and not job.finished]

    def let_go(self, name: str) -> None:
        """Wait until nothing is written about a job any more that is over: a look may still be at its end."""
        while name in self._active and not self._stopping.is_set():
            time.sleep(0.02)

    def _loop(self) -> None:
        while not self._stopping.is_set():
            calm = time.monotonic() - self._changed_at > CALM_AFTER_S
            self._wake.wait((CALM_LOOK_EVERY_S if calm else LOOK_EVERY_S) if self._active else None)
            self._wake.clear()
            self._turn = None
            for name in list(self._active):
                if not self._stopping.is_set():
                    self._look_and_survive(name)

    def _look_and_survive(self, name: str) -> None:
        """Look at a job; what goes wrong there is its own and must not end the watch over the others."""
        try:
            try:
                self._look(name)
            except (sqlite3.Error, OSError):
                raise
            except Exception as error:  # noqa: BLE001  (the watch over the others goes on)
                _log.exception("job %s failed in the runner", name)
                self._fail(name, RunError("SystemError", f"The local workspace failed: {error!r}"))
        except (sqlite3.Error, OSError) as error:
            _log.warning("job %s: looked in vain, will look again: %r", name, error)
            self._reserve.give_way(error)

    def _look(self, name: str) -> None:
        job = Job.find(self._store, name)
        if job is None or job.finished:
            with self._lock:
                self._active.remove(name)
                if job:
                    self._scaled_at[job.compute] = max(self._begun, job.run.ended_at or "")
            return
        if job.cancel_asked_at:
            self._end_canceled(job)
        else:
            _WHAT_TO_DO[job.run.status](self, job)
        after = Job.find(self._store, name)
        if after and after.run.status is not job.run.status:
            self._turn = None
            self._changed_at = time.monotonic()
            self._wake.set()  # the next state need not wait for the next look

    # What is done in each state

    def _queue(self, job: Job) -> None:
        self._change(job, lambda each: each.moved(Status.QUEUED))
        self._log(job, f"Queued on compute '{job.compute}'.")

    def _wait_for_node(self, job: Job) -> None:
        compute = Compute.find(self._store, job.compute)
        if compute is None or compute.state.failed:
            message = f"The compute '{job.compute}' was deleted or failed while the job waited for it."
            self._fail(job.name, RunError("UserError", message))
            return
        machine, cores = self._backend.machine, job.plan.cores
        if self._turn is None:
            self._turn = nodes.find_next(machine, self._unfinished(), self._nodes_of)
        starts, waits = self._turn
        if starts == job.name and self._allocate(job):
            held = nodes.assign(machine, job, self._unfinished())
            self._change(job, lambda each: replace(each.moved(Status.PREPARING), held=held))
            self._log(job, f"A node of '{job.compute}' is free: {cores} of this machine's {machine.cores} cores.")
        elif waits == job.name != self._waits_for_cores:
            self._waits_for_cores = waits
            self._log(job, f"A node of '{job.compute}' waits for {cores} cores, which jobs on other computes have.")

    def _nodes_of(self, name: str) -> int:
        if time.monotonic() < self._no_node_until.get(name, 0.0):
            return 0
        compute = Compute.find(self._store, name)
        return compute.node_limit(self._backend.machine) if compute and compute.state.ready else 0

    def _allocate(self, job: Job) -> bool:
        """Tell whether the node that is free is given; not so while a fault says that there is none."""
        name = job.compute
        if not self._backend.profile.is_due("node", job.created_at):
            return False
        fault = self._backend.faults.take("out-of-capacity", f"computes/{name}")
        errors = []
        if fault is not None:
            refusal = faults.out_of_capacity(f"'{name}'")
            errors = [{"code": refusal.code, "message": refusal.message}]
            self._no_node_until[name] = time.monotonic() + fault.seconds
            self._log(job, f"{refusal.code}: {refusal.message} Asked again in {fault.seconds:g} s.")
        elif self._no_node_until.pop(name, None) is None:
            return True
        Compute.update(self._store, name, lambda compute: replace(compute, errors=errors))
        return fault is None

    def _prepare(self, job: Job) -> None:
        if self._backend.faults.take("image-build", f"jobs/{job.name}"):
            failure = faults.image_build_failure(f"job '{job.name}'")
            self._fail(job.name, RunError(failure.code, failure.message))
            return
        self._runs.job_folder(job.name).mkdir(parents=True, exist_ok=True)
        self._change(job, lambda each: each.moved(Status.RUNNING))

    def _run(self, job: Job) -> None:
        step = next((step for step in job.steps if step.run.status is not Status.COMPLETED), None)
        if step is None:
            self._change(job, lambda each: each.moved(Status.FINALIZING))
        elif step.run.status in (Status.NOT_STARTED, Status.PREPARING):
            self._start_step(job, step)
        else:
            self._watch_step(job, step)

    def _start_step(self, job: Job, step: Step) -> None:
        """Record the attempt, then start it; after a kill in between the same attempt is started, once."""
        if step.run.status is Status.NOT_STARTED:
            self._change_step(job, step, lambda each: replace(each.moved(Status.PREPARING), attempt=each.attempt + 1))
        step = Job.get(self._store, job.name).step(step.name)
        if step.run.status is Status.PREPARING and self._launch(job, step):  # else cancelled in between
            self._change_step(job, step, lambda each: each.moved(Status.RUNNING))
            self._log(job, f"{step.title} runs.")

    def _launch(self, job: Job, step: Step) -> bool:
        """Start the attempt of a step that is recorded; tell whether it is under way."""
        folder = self._runs.step_folder(job.name, step)
        try:
            argv, environment, cwd = steps.prepare(self._backend, job, step, self._program)
            cpus = job.held.cpus if job.held else ()
            processes.start(folder, argv, environment, attempt=step.attempt, cwd=cwd, niceness=NICENESS, cpus=cpus)
        except OSError as error:
            message = f"{step.title} could not be started: {error.strerror} ({error.filename})."
            self._fail(job.name, RunError("SystemError", message))
            return False
        return shim.read_attempt(folder) == step.attempt

    def _watch_step(self, job: Job, step: Step) -> None:
        folder = self._runs.step_folder(job.name, step)
        alive = processes.is_alive(folder)
        self._ingest.read(folder, step.id, job.name)
        if shim.read_attempt(folder) < step.attempt:  # it died, and is to be started again
            if not alive:
                self._launch(job, step)
            return
        if alive:
            if (by := job.run.tags.get(runs.STOP)) is not None and step.program == "finetune":
                steps.ask_to_end(folder, by)
            if not processes.is_supervised(folder):
                processes.kill(folder)
            elif self._backend.faults.take("preempt", f"computes/{job.compute}"):
                self._preempt(job, step, folder)
            return
        ended = processes.read_exit(folder)
        self._ingest.forget(step.id)
        if ended is None or ended.exit_status:
            self._go_on_or_fail(job, step, folder, ended)
            return
        if stopped := steps.read_stopped(folder):
            self._tell(job, runs.STOPPED, stopped)
        self._change_step(job, step, lambda each: each.moved(Status.FINALIZING).moved(Status.COMPLETED))
        self._log(job, f"{step.title} completed.")
        self._wake.set()

    def _preempt(self, job: Job, step: Step, folder: Path) -> None:
        """Take the node away, as Azure does with one of low priority, and queue the job for another."""
        processes.stop(folder, grace_s=0.5)
        self._ingest.read(folder, step.id, job.name)
        self._log(job, f"The node of '{job.compute}' was preempted while {step.title} ran. Queued again.")

        def queue_again(each: Job) -> Job:
            taken = each.step(step.name)
            return each.moved(Status.QUEUED).with_step(
                replace(taken, run=replace(taken.run, status=Status.NOT_STARTED))
            )

        self._change(job, queue_again)

    def _go_on_or_fail(self, job: Job, step: Step, folder: Path, ended: processes.Exit | None) -> None:
        failure = steps.explain_failure(folder, step.title, ended)
        again = steps.next_attempt(folder, step, ended)
        if again is None:
            self._fail(job.name, failure)
            return
        self._change_step(job, step, lambda each: replace(again, run=each.run))
        after = again.died_after or "its beginning"
        self._log(job, f"{failure.message.partition(chr(10))[0]} It is started again and goes on from {after}.")

    def _finalize(self, job: Job) -> None:
        try:
            steps.place_outputs(self._backend, job)
        except OSError as error:
            message = f"The outputs could not be put in their place: {error.strerror} ({error.filename})."
            self._fail(job.name, RunError("SystemError", message))
            return
        self._change(job, lambda each: each.moved(Status.COMPLETED))
        self._log(job, "Completed.")

    # Ends that are not success

    def _end_canceled(self, job: Job) -> None:
        for step in job.steps:
            folder = self._runs.step_folder(job.name, step)
            if not step.attempt or processes.forbid(folder, step.attempt):
                continue
            since = self._stopping_since.setdefault(step.id, time.monotonic())
            if not step.stop_asked_at:
                processes.ask_to_stop(folder)
                self._change_step(job, step, lambda each: replace(each, stop_asked_at=now_utc()))
            elif time.monotonic() - since > STOP_GRACE_S:
                processes.kill(folder)
            return
        for step in job.steps:
            self._stopping_since.pop(step.id, None)
            if step.attempt:
                self._ingest.read(self._runs.step_folder(job.name, step), step.id, job.name)
                self._ingest.forget(step.id)
        steps.drop_models(self._runs.job_folder(job.name))
        self._change(job, lambda each: self._name_best(each).ended(Status.CANCELED))
        self._log(job, "Canceled. What was logged so far is kept.")

    def _fail(self, name: str, error: RunError) -> None:
        """End a job; first goes what it holds, so that a server that dies in between leaves nothing behind."""
        for step in Job.get(self._store, name).steps:
            folder = self._runs.step_folder(name, step)
            if step.attempt and not processes.forbid(folder, step.attempt):
                processes.kill(folder)
        steps.drop_models(self._runs.job_folder(name))
        job = Job.update(self._store, name, lambda each: self._name_best(each).ended(Status.FAILED, error))
        self._log(job, f"Failed: {error.message}")

    def _name_best(self, job: Job) -> Job:
        """Return a job that ends badly with the name of its best checkpoint: that can be deployed."""
        best = self._runs.checkpoints_of(job.name).find_best()
        return job.with_run(job.name, lambda run: run.with_property(runs.KEPT, best.name)) if best else job

    # Changes and the log

    def _change(self, job: Job, change: Callable[[Job], Job | None]) -> None:
        def apply(current: Job) -> Job | None:
            if current.cancel_asked_at and not job.cancel_asked_at:
                return None  # cancelled since it was read: the next look sees it
            return change(current)

        Job.update(self._store, job.name, apply)

    def _tell(self, job: Job, name: str, value: str) -> None:
        self._change(job, lambda each: each.with_run(each.name, lambda run: run.with_property(name, value)))

    def _change_step(self, job: Job, step: Step, change: Callable[[Step], Step]) -> None:
        self._change(job, lambda each: each.with_step(change(each.step(step.name))))

    def _log(self, job: Job, line: str) -> None:
        """Write a line to the log of the whole job, which `jobs.stream` shows."""
        path = self._runs.job_folder(job.name) / runs.EVENTS_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as log:
            log.write(f"[{now_utc()[:19]}Z] {line}\n")


_WHAT_TO_DO: dict[Status, Callable[[Runner, Job], None]] = {
    Status.NOT_STARTED: Runner._queue,
    Status.QUEUED: Runner._wait_for_node,
    Status.PREPARING: Runner._prepare,
    Status.RUNNING: Runner._run,
    Status.FINALIZING: Runner._finalize,
}

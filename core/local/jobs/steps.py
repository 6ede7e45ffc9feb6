"""What a step of a job is given and what becomes of what it leaves: files, command lines, outputs.

A model is on the disk once: steps hand it on by hard links, and the end of a run moves it into the blob container.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from core.engine import disk
from core.home import REPOSITORY, write_atomically
from core.local import addresses, blobs, processes
from core.local.backend import Backend
from core.local.jobs import runs
from core.local.jobs.job import COMMAND_STEP, CommandPlan, Job, JobKind, PipelinePlan, RunError, Step
from core.local.store import Document

TAIL_LINES = 20
SHARED_FROM_BYTES = 64 * 1024

# Where each output of the component lies when its step has ended: (step, path below the step's folder).
_MADE_BY = {
    "mlflow_model_folder": ("ft_nlp_model_converter", "outputs/mlflow_model"),
    "pytorch_model_folder": ("chat_completion_finetune", "outputs/model"),
}
HANDED_ON = ("model", ".model.writing", "mlflow_model")
DEATHS_WITHOUT_GAIN = 3
_DISK_WORDS = {
    "No space left on device": "the disk is full",
    "Disk quota exceeded": "the disk quota is used up",
    "Input/output error": "the disk failed to read or write",
}

Program = Callable[[str], list[str]]


def engine_program(name: str) -> list[str]:
    """Return the command line of an engine program, without its arguments."""
    return [sys.executable, "-m", f"core.engine.{name}"]


def prepare(backend: Backend, job: Job, step: Step, program: Program) -> tuple[list[str], dict[str, str], Path]:
    """Write what a step reads and return its command line, its environment and the folder it starts in."""
    folder = backend.runs.step_folder(job.name, step)
    folder.mkdir(parents=True, exist_ok=True)
    names = {"TUNEDECK_STEP_FOLDER": str(folder), "AZUREML_RUN_ID": step.id, "MLFLOW_RUN_ID": step.id}
    names["TUNEDECK_SPEEDS"] = str(backend.home.speeds)
    environment = processes.clean_environment(
        processes.compute_environment(job.plan.cores, job.plan.gpus, job.held.gpus if job.held else None) | names
    )
    if isinstance(job.plan, CommandPlan):
        return _prepare_command(backend, job.name, job.plan, folder, environment)
    if step.program == "finetune":
        environment |= processes.KEEP_MEMORY
    write_atomically(folder / "config.json", json.dumps(_config(backend, job, job.plan, step), indent=1))
    return [*program(step.program), "--config", str(folder / "config.json")], environment, REPOSITORY


def _config(backend: Backend, job: Job, plan: PipelinePlan, step: Step) -> Document:
    folders = {each.program: backend.runs.step_folder(job.name, each) / "outputs" for each in job.steps}
    files = {key.removesuffix("_path"): path for key, path in plan.files.items()}
    imported = str(folders["import_model"] / "model")
    configs: dict[str, Document] = {
        "validate": {**files, "model_dir": plan.model_dir, "parameters": plan.parameters},
        "import_model": {"model_dir": plan.model_dir},
        "preprocess": {**files, "model_dir": imported, "parameters": plan.parameters},
        "finetune": {
            "model_dir": imported,
            "data_dir": str(folders["preprocess"]),
            "parameters": plan.parameters,
            "base": plan.base,
            "cores": plan.cores,
            "go_on": step.attempt > 1,
            "continues": _find_continued(backend, plan),
            "notes": plan.notes,
        },
        "convert": {"model_dir": str(folders["finetune"] / "model"), "base": plan.base},
    }
    return configs[step.program]


def _find_continued(backend: Backend, plan: PipelinePlan) -> str:
    """Return the folder of the checkpoint that a run goes on from, "" where it starts anew."""
    run, _, checkpoint = plan.continues.partition("/")
    return str(backend.runs.checkpoints_of(run).folder / checkpoint) if checkpoint else ""


def _prepare_command(
    backend: Backend, job: str, plan: CommandPlan, folder: Path, environment: dict[str, str]
) -> tuple[list[str], dict[str, str], Path]:
    outputs = {name: output_path(backend, job, name) for name in plan.outputs}
    for path in (*outputs.values(), folder / "work"):
        path.mkdir(parents=True, exist_ok=True)
    shell = shutil.which("bash") or "/bin/sh"
    return [shell, "-c", plan.render(outputs)], environment | plan.variables, folder / "work"


def output_path(backend: Backend, job: str, output: str) -> Path:
    """Return the folder of a job's output."""
    return backend.blobs.path_of(blobs.CONTAINER, addresses.output_path(job, output).strip("/"))


def place_outputs(backend: Backend, job: Job) -> None:
    """Link a pipeline's outputs into the blob container, then drop the steps' own; safe to repeat after a crash."""
    if job.kind is not JobKind.PIPELINE:
        return
    folder = backend.runs.job_folder(job.name)
    _place(backend, job, {output: folder / step / below for output, (step, below) in _MADE_BY.items()})
    drop_models(folder)


def _place(backend: Backend, job: Job, sources: dict[str, Path]) -> None:
    for output, made in job.plan.outputs.items():
        target = output_path(backend, job.name, output)
        if not target.exists():
            _share_equal_files(backend, sources[made], target)
        disk.link_tree(sources[made], target, backend.runs.job_folder(job.name) / "placing" / output)


def _share_equal_files(backend: Backend, source: Path, target: Path) -> None:
    """Put one file in the place of another with the same content: two runs of the same settings give the same weights.

    Where content lies is remembered by its SHA-256; what was deleted since is found out when it is looked for.
    """
    for path in source.rglob("*"):
        if not path.is_file() or path.stat().st_size < SHARED_FROM_BYTES:
            continue
        with path.open("rb") as file:
            key = hashlib.file_digest(file, "sha256").hexdigest()
        known = backend.store.get("content", key)
        if not known or not disk.share(Path(known["path"]), path, key):
            backend.store.put("content", key, {"path": str(target / path.relative_to(source))})


def drop_models(folder: Path) -> None:
    """Remove the weights and tokens that the steps of a job handed on; what was placed as an output is another link."""
    for step in folder.iterdir() if folder.is_dir() else ():
        for below in HANDED_ON:
            shutil.rmtree(step / "outputs" / below, ignore_errors=True)
        for tokens in (step / "outputs").glob("*.safetensors"):
            tokens.unlink(missing_ok=True)


def ask_to_end(folder: Path, by: str) -> None:
    """Ask the trainer of this folder to end after the step it takes, with the best it has; asking again is nothing."""
    if not (wish := folder / "stop.json").exists():
        write_atomically(wish, json.dumps({"by": by}))


def read_stopped(folder: Path) -> str:
    """Return the sentence of a training that ended because somebody asked, "" for others."""
    return str(_read_document(folder / "outputs" / "training.json").get("stopped") or "")


def find_checkpoint(folder: Path) -> str:
    """Return the name of the newest checkpoint in a step's folder, "" where there is none."""
    names = [each.name for each in (folder / "outputs" / "checkpoints").glob("checkpoint-*")]
    return max(names, key=lambda name: int(name.rpartition("-")[2]), default="")


def next_attempt(folder: Path, step: Step, ended: processes.Exit | None) -> Step | None:
    """Return a step whose process died as it is started once more, None where it may not be.

    It may where something from outside ended it: a signal, or the end of the machine. Not where it failed by itself,
    not where it dies for the third time without a new checkpoint, and not a command, which may not bear a second run.
    """
    from_outside = ended is None or ended.signal or ended.exit_status == 128 + signal.SIGTERM
    if step.program == COMMAND_STEP or not from_outside or _read_error(folder):
        return None
    checkpoint = find_checkpoint(folder)
    deaths = 1 if checkpoint != step.died_after else step.deaths + 1
    if deaths >= DEATHS_WITHOUT_GAIN:
        return None
    return replace(step, attempt=step.attempt + 1, deaths=deaths, died_after=checkpoint)


def explain_failure(folder: Path, title: str, ended: processes.Exit | None) -> RunError:
    """Return why a step failed, as the run history tells errors: a sentence, then the last lines of its log."""
    tail = processes.read_tail(folder / runs.LOG_NAME, TAIL_LINES)
    if error := _read_error(folder):
        return RunError(str(error.get("code") or "UserError"), f"{error['message']} {error.get('hint') or ''}".strip())
    sentence = f"{title} {_how_it_ended(ended, tail)}"
    message = "\n".join([sentence, "", "Last log lines:", *tail]) if tail else sentence
    return RunError("UserError" if ended and not ended.signal else "SystemError", message)


def _read_error(folder: Path) -> Document:
    error = _read_document(folder / "error.json")
    return error if error.get("message") else {}


def _read_document(path: Path) -> Document:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def _how_it_ended(ended: processes.Exit | None, tail: list[str]) -> str:
    if ended is None:
        return "ended without an exit status: it was killed together with its supervisor, or this machine restarted."
    if ended.signal == signal.SIGKILL:
        return "was killed (signal 9), most often because memory ran out. A smaller batch size or LoRA needs less."
    if ended.exit_status == 128 + signal.SIGTERM:
        return "was stopped from outside (SIGTERM): the local workspace was ended while it ran."
    if ended.signal:
        return f"was ended by {signal.Signals(ended.signal).name}."
    for words, meaning in _DISK_WORDS.items():
        if any(words in line for line in tail):
            return f"could not write its files: {meaning}. Free some space and start the run again."
    return f"failed with exit status {ended.exit_status}."

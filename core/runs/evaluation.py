"""Evaluation: base against tuned on the test split, as a job of its own after the run.

Azure's pipeline has no evaluation step any more, so the program travels with the job: its files are sent by path, and
it runs the same on both.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.azureml import tags
from core.azureml.connection import Connection
from core.azureml.datastore import read_text, send_file, uri_of
from core.engine import EVALUATION_PROGRAM
from core.errors import BadInput, ServiceRefused
from core.home import REPOSITORY
from core.runs.jobs import OUTPUT_NAME, evaluation_name, has_job
from core.runs.states import Run
from core.stored import parse_fields

# The image every step of the fine-tuning component runs in (chat_completion_pipeline 0.0.82).
ENVIRONMENT = "azureml://registries/azureml/environments/acft-hf-nlp-gpu/versions/112"
OUTPUT = "evaluation"
RANDOM, BEST, WORST = "random", "best", "worst"  # as core/engine/evaluate.py writes them
RESULT = "evaluation.json"


@dataclass(frozen=True)
class Score:
    """One model on the test rows. loss: nats per assistant token; perplexity: exp(loss)."""

    loss: float
    perplexity: float


@dataclass(frozen=True)
class Answer:
    """One test question with what was expected and what both models said. row: the line of the test file, from 1.

    why: RANDOM, or the row's place by the tuned model's loss, BEST or WORST. losses: nats per assistant token of the
    whole row, None in an evaluation of an older Tunedeck.
    """

    row: int
    prompt: str
    messages: tuple[Mapping[str, Any], ...]
    expected: str
    base: str
    tuned: str
    why: str = RANDOM
    base_loss: float | None = None
    tuned_loss: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation job found."""

    rows: int
    tokens: int
    base: Score
    tuned: Score
    answers: tuple[Answer, ...]
    seconds: float


def submit_evaluation(conn: Connection, run: Run) -> str:
    """Send the evaluation of a completed run unless the workspace has it already; returns the job's name."""
    from azure.ai.ml import Input, Output, command

    name = evaluation_name(run.name)
    if has_job(conn, name):
        return name
    test = run.inputs.get("test_file_path", "")
    if not test:
        raise BadInput(
            f"Run '{run.title}' has no test data to evaluate on.", "Start it with a data set that has a test split."
        )
    inputs = {
        "program": Input(type="uri_folder", path=send_program(conn, EVALUATION_PROGRAM)),
        "base": Input(type="mlflow_model", path=run.model_id),
        "tuned": Input(type="mlflow_model", path=f"azureml://jobs/{run.name}/outputs/{OUTPUT_NAME}"),
        "test": Input(type="uri_file", path=test),
    }
    job = command(
        command=(
            "PYTHONPATH=${{inputs.program}} python -m core.engine.evaluate --base ${{inputs.base}} "
            "--tuned ${{inputs.tuned}} --test ${{inputs.test}} --output ${{outputs.evaluation}} "
            "--answers 12 --seed 42"
        ),
        inputs=inputs,
        outputs={OUTPUT: Output(type="uri_folder")},
        environment=ENVIRONMENT,
        compute=run.compute,
        display_name=f"{run.title}-evaluation",
        experiment_name=run.experiment,
        tags=conn.policy_tags
        | {tags.RUN: run.name, **{k: v for k, v in run.tags.items() if k in (tags.OPERATION, tags.MADE_BY)}},
    )
    job.name = name
    submit_with(conn, job, inputs, f"the evaluation of '{run.title}'")
    return name


def submit_with(conn: Connection, job: Any, inputs: Mapping[str, Any], what: str) -> None:
    """Send a job (an SDK object); raises BadInput and sends nothing where its inputs on the wire are not these."""
    meant = {each: str(given.path) for each, given in inputs.items()}

    def check(body: Mapping[str, Any]) -> None:
        if {each: given.get("uri") for each, given in (body.get("inputs") or {}).items()} != meant:
            raise BadInput(f"What was about to be sent is not {what}. Nothing was sent.")

    conn.submit(what, job, check)


def read_evaluation(conn: Connection, run_name: str) -> Evaluation | None:
    """Return the result, or None while there is none."""
    text = read_text(conn, f"azureml/{evaluation_name(run_name)}/{OUTPUT}/{RESULT}")
    return None if text is None else parse_evaluation(text)


def parse_evaluation(text: str) -> Evaluation:
    """Return the result that `evaluate` wrote; raises ServiceRefused where it is not one."""
    try:
        found = json.loads(text)
        answers = tuple(
            parse_fields(Answer, {**one, "row": int(one["row"]), "messages": tuple(one["messages"])})
            for one in found["answers"]
        )
        base, tuned = (Score(float(found[m]["loss"]), float(found[m]["perplexity"])) for m in ("base", "tuned"))
        return Evaluation(int(found["rows"]), int(found["tokens"]), base, tuned, answers, float(found["seconds"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ServiceRefused(
            "The evaluation's result cannot be read.", "Read the log of the evaluation.", repr(error)
        ) from error


def send_program(conn: Connection, program: Sequence[str]) -> str:
    """Send a job's files under the hash of their content; returns the folder's address."""
    files = {name: (REPOSITORY / name).read_bytes() for name in program}
    digest = hashlib.sha256(b"".join(name.encode() + content for name, content in files.items())).hexdigest()[:16]
    folder = f"tunedeck/programs/{digest}"
    for name, content in files.items():
        send_file(conn, f"{folder}/{name}", content)
    return uri_of(conn, f"{folder}/")

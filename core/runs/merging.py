"""A checkpoint as a model of its own: a job after the run, on the local workspace, which alone can name checkpoints."""

from __future__ import annotations

import shlex

from core.azureml import tags
from core.azureml.connection import Connection
from core.engine import MERGE_PROGRAM
from core.runs.evaluation import ENVIRONMENT, send_program, submit_with
from core.runs.jobs import OUTPUT_NAME
from core.runs.states import Run


def submit_merge(conn: Connection, run: Run, checkpoint: str, name: str) -> None:
    """Send the job of this name, whose output `trained_model` is the checkpoint, merged with its base model."""
    from azure.ai.ml import Input, Output, command

    inputs = {
        "program": Input(type="uri_folder", path=send_program(conn, MERGE_PROGRAM)),
        "base": Input(type="mlflow_model", path=run.model_id),
        "checkpoint": Input(
            type="uri_folder", path=f"azureml://jobs/{run.name}/outputs/checkpoints/paths/{checkpoint}"
        ),
    }
    named = f"{run.model.rpartition('/')[2]}:{run.model_version}"  # of a tag, which anyone may have written
    job = command(
        command=(
            "PYTHONPATH=${{inputs.program}} python -m core.engine.merge --base ${{inputs.base}} --checkpoint "
            f"${{{{inputs.checkpoint}}}} --output ${{{{outputs.{OUTPUT_NAME}}}}} "
            f"--named {shlex.quote(named)}"
        ),
        inputs=inputs,
        outputs={OUTPUT_NAME: Output(type="mlflow_model")},
        environment=ENVIRONMENT,
        compute=run.compute,
        display_name=f"{run.title}-{checkpoint}",
        experiment_name=run.experiment,
        tags={**conn.policy_tags, tags.RUN: run.name, tags.CHECKPOINT: checkpoint, tags.MADE_BY: tags.made_by()},
    )
    job.name = name
    submit_with(conn, job, inputs, f"the model of {checkpoint}")

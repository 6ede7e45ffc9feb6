"""The fine-tuning pipeline as a job: what a run is sent with, built, checked on its way out, and known again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from core.azureml import tags
from core.azureml.connection import Connection
from core.azureml.datastore import asset_of
from core.errors import BadInput, Conflict
from core.launch.request import RunRequest
from core.recipe import Value
from core.runs.jobs import COMPONENT_NAME, OUTPUT_NAME, find_job, node_inputs

_NODE = "fine_tune"
_STEPS_WITH_COMPUTE = ("model_import", "preprocess", "finetune", "model_evaluation")
_FILES = ("train", "test")


@dataclass(frozen=True)
class PipelineRequest:
    """The job of one run."""

    name: str
    run: RunRequest
    train: str
    """A data asset's id or a path of a datastore."""
    test: str = ""
    """As `train`; "" for none."""
    operation: str = ""
    """Id of the operation that sends it."""
    policy_tags: Mapping[str, str] = field(default_factory=dict)


def get_component(conn: Connection) -> Any:
    """Return the registry's newest fine-tuning pipeline component (an SDK object that makes a node of a pipeline)."""
    return conn.call(
        "read", f"component '{COMPONENT_NAME}'", conn.registry.components.get, COMPONENT_NAME, label="latest"
    )


def submit_pipeline(conn: Connection, request: PipelineRequest) -> None:
    """Send the run unless the workspace has it already. Blocks for seconds.

    Raises Conflict where a job of that name is not this run, BadInput where what is about to be sent is not this run.
    """
    if has_run(conn, request):
        return
    component = get_component(conn)
    job = _build(component, request)
    conn.submit(f"run '{request.run.title}'", job, lambda body: check_body(body, request, component))


def has_run(conn: Connection, request: PipelineRequest) -> bool:
    """Tell whether the workspace has this very run; raises Conflict where the name is another job's."""
    job = find_job(conn, request.name)
    if job is None:
        return False
    if differing := _differing(node_inputs(job), _list_inputs(None, request)):
        raise Conflict(
            f"There is a job '{request.name}' in {conn.title} that is not this run: its {differing} differs.",
            "It was not touched, and nothing was sent. Copy the set-up and start the copy.",
        )
    return True


def check_body(body: Mapping[str, Any], request: PipelineRequest, component: Any) -> None:
    """Hold the properties of a job that is about to be sent against the run that was asked for; raises BadInput."""
    nodes = list((body.get("jobs") or {}).values())
    if len(nodes) != 1:
        raise _not_this_run(request, f"it has {len(nodes)} steps where 1 was built")
    sent = {
        name: str(given.get("value", given.get("uri", ""))) for name, given in (nodes[0].get("inputs") or {}).items()
    }
    expected = {
        "component": (str(nodes[0].get("componentId") or ""), str(component.id)),
        "experiment": (str(body.get("experimentName") or ""), request.run.experiment),
        "display name": (str(body.get("displayName") or ""), request.run.display_name),
        "operation": ((body.get("tags") or {}).get(tags.OPERATION, ""), request.operation),
    }
    differing = next((what for what, (is_, ought) in expected.items() if is_ != ought), "")
    differing = differing or _differing(sent, _list_inputs(component, request))
    if differing:
        raise _not_this_run(request, f"its {differing} is another")


def _not_this_run(request: PipelineRequest, reason: str) -> BadInput:
    return BadInput(
        f"What was about to be sent for run '{request.run.title}' is not this run: {reason}. Nothing was sent.",
        "Retry; if it comes again, report the details (`make report`).",
    )


def _build(component: Any, request: PipelineRequest) -> Any:
    """Build the job without `dsl.pipeline`, which keeps what is being built on one stack for all threads."""
    from azure.ai.ml import Input, Output
    from azure.ai.ml.entities import PipelineJob, PipelineJobSettings

    inputs: dict[str, Any] = _list_inputs(component, request)
    inputs["mlflow_model_path"] = Input(type="mlflow_model", path=request.run.model_id)
    for name in _FILES:
        if path := inputs.get(f"{name}_file_path"):
            inputs[f"{name}_file_path"] = Input(type="uri_file", path=path)
    node = component(**inputs)
    node.name = _NODE
    node.outputs.mlflow_model_folder = f"${{{{parent.outputs.{OUTPUT_NAME}}}}}"
    run = request.run
    capped = tags.cap_tags(run.cap, request.name if run.ends_at_cap else "") if run.cap else {}
    return PipelineJob(
        name=request.name,
        display_name=request.run.display_name,
        experiment_name=request.run.experiment,
        jobs={_NODE: node},
        outputs={OUTPUT_NAME: Output(type="mlflow_model")},
        # Without force_rerun a cached step would give an old model for a new question.
        settings=PipelineJobSettings(force_rerun=True, continue_on_step_failure=False),
        tags={**request.policy_tags, **request.run.job_tags, **capped, tags.OPERATION: request.operation},
    )


def _list_inputs(component: Any, request: PipelineRequest) -> dict[str, Value]:
    """Return the inputs of the one step, by name. component: None where only what every version has is asked for."""
    inputs: dict[str, Value] = {
        "mlflow_model_path": request.run.model_id,
        "number_of_gpu_to_use_finetuning": request.run.gpus,
        **{f"{name}_file_path": path for name in _FILES if (path := getattr(request, name))},
        **{f"compute_{name}": request.run.compute for name in _STEPS_WITH_COMPUTE},
        **request.run.parameters,
    }
    if component is None:
        inputs.pop("compute_model_evaluation")
        return inputs
    if "compute_model_evaluation" not in component.inputs:  # it may go: the step is gone since 0.0.81
        inputs.pop("compute_model_evaluation")
    if unknown := [name for name in inputs if name not in component.inputs]:
        raise BadInput(
            f"The component {COMPONENT_NAME} {component.version} has no parameter '{unknown[0]}'.",
            "Reset the setting, or take it out.",
        )
    return inputs


def _differing(sent: Mapping[str, str], expected: Mapping[str, Value]) -> str:
    """Return the first input that is not as expected, "" where all are; the evaluation's compute need not be."""
    names = sorted(set(sent) | set(expected))
    return next(
        (
            name
            for name in names
            if _plain(sent.get(name)) != _plain(expected.get(name))
            and not (name == "compute_model_evaluation" and name not in expected)
        ),
        "",
    )


def _plain(value: object) -> str | None:
    """Return an input's value to compare: an asset by its name and version, whatever the form of its address."""
    if value is None:
        return None
    asset = asset_of(str(value))
    return ":".join(asset).lower() if asset else str(value)

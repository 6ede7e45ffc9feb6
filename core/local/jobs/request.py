"""Reads the PUT of a job: what is asked, checked against what is here.

The job's `plan` holds all that its steps need: paths, parameters, the command. Everything that cannot be honoured is
refused by name, with Azure's envelope.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from core.engine import component
from core.engine.checkpoints import STATE_FILE
from core.local.addresses import resolve_uri
from core.local.backend import Backend
from core.local.compute import Compute
from core.local.jobs import runs
from core.local.jobs.job import BINDING, COMMAND_STEP, CommandPlan, Job, JobKind, PipelinePlan, RunState, Step
from core.local.jobs.node_component import check_node_component
from core.local.machine import Size
from core.local.model_registry import RegistryModel
from core.local.store import Document
from core.local.wire.answers import REGISTRY_NAME, check_name, field_of, strings_of
from core.local.wire.errors import WireError
from core.local.wire.json_types import JOB, check_shape, field_names

_COMMON = field_names(
    "jobType displayName description experimentName tags properties inputs outputs computeId isArchived services "
    "identity componentId notificationSetting secretsConfiguration status"
)
_PIPELINE = _COMMON | field_names("jobs settings sourceJobId")
_COMMAND = _COMMON | field_names(
    "command codeId environmentId environmentVariables resources distribution limits queueSettings parameters "
    "autologgerSettings parentJobName"
)
_NODE = field_names(
    "name type componentId computeId inputs outputs _source settings tags properties display_name comment description"
)
_INPUT = field_names("value uri jobInputType job_input_type mode description pathOnCompute type")
_OUTPUT = field_names(
    "value uri jobOutputType job_output_type type mode description assetName assetVersion pathOnCompute "
    "autoDeleteSetting"
)
_COMPUTES = ("compute_finetune", "compute_model_import", "compute_preprocess")
_FILES = ("train_file_path", "validation_file_path", "test_file_path")
_DEFINITION = ("jobType", "jobs", "inputs", "outputs", "command")
_REGISTRY_MODEL = re.compile(
    rf"azureml://registries/{REGISTRY_NAME}/models/(?P<name>[^/]+)/versions/(?P<version>[^/]+)", re.IGNORECASE
)
_OWN_ENVIRONMENT = re.compile(r"/workspaces/[^/]+/environments/(?P<name>[^/]+)", re.IGNORECASE)
OWN_ENVIRONMENT = "this-machine"


def read_job(backend: Backend, name: str, body: Document) -> Job:
    """Return a new job; raises WireError 400 naming what is wrong."""
    check_shape(body, JOB)
    properties = field_of(body, "properties", dict, {})
    kind = properties.get("jobType")
    if kind not in ("Pipeline", "Command"):
        raise _bad("jobType", f"must be Pipeline or Command here, not '{kind}'.")
    _check_fields("properties", properties, _PIPELINE if kind == "Pipeline" else _COMMAND)
    read_plan = _read_pipeline if kind == "Pipeline" else _read_command
    plan, compute, steps = read_plan(backend, name, properties)
    if kept := Compute.find(backend.store, compute):
        compute = kept.name  # as it was written first: who counts a compute's jobs compares no capitals
    return Job(
        name=check_name("a job's name", name),
        kind=JobKind(kind.lower()),
        properties=properties,
        experiment=properties.get("experimentName") or runs.DEFAULT_EXPERIMENT,
        compute=compute,
        plan=plan,
        run=RunState(
            properties.get("displayName") or name, strings_of(properties, "tags"), strings_of(properties, "properties")
        ),
        steps=steps,
    )


def is_same(job: Job, body: Document) -> bool:
    """Tell whether a PUT asks for the job that is there already."""
    check_shape(body, JOB)
    asked = body.get("properties") or {}
    return all((asked.get(name) or None) == (job.properties.get(name) or None) for name in _DEFINITION)


def _read_pipeline(backend: Backend, name: str, properties: Document) -> tuple[PipelinePlan, str, tuple[Step, ...]]:
    node = _only_node(backend, properties)
    values, uris = _node_inputs(node, properties)
    _check_refused(uris)
    notes = _leave_out_deepspeed(values) if backend.profile.is_azure else []
    if problems := component.check_inputs(values):
        raise WireError(400, "BadRequest", " ".join(problems), [("InvalidInput", problem) for problem in problems])
    default_compute = _last(
        properties.get("computeId") or (properties.get("settings") or {}).get("default_compute") or ""
    )
    computes = {each: _last(values.get(each, "")) or default_compute or "serverless" for each in _COMPUTES}
    sizes = {each: _size_of(backend, compute, each) for each, compute in computes.items()}
    size = sizes["compute_finetune"]
    _check_gpus(values, size)
    model = _read_model(backend, uris, size)
    files = {each: str(_resolve(backend, each, uris[each])) if each in uris else None for each in _FILES}
    for each, path in files.items():
        if path and not Path(path).is_file():
            raise _bad(each, f"names '{uris[each]}', which is a folder, not a file.")
    if files["train_file_path"] is None:
        raise _bad("train_file_path", "is needed: the conversations to train on.")
    plan = PipelinePlan(
        model_dir=str(model.folder),
        base={"name": model.name, "version": model.version},
        files=files,
        parameters={key: value for key, value in values.items() if key not in _COMPUTES},
        cores=min(size.cores, backend.machine.cores),
        gpus=min(size.gpus, int(values.get("number_of_gpu_to_use_finetuning", "1"))),
        outputs=_bound_outputs(node, properties),
        continues=_read_continued(backend, properties, values),
        notes=notes,
    )
    steps = tuple(
        Step(f"{name}_{number}", step.name, step.title, step.program, RunState(step.name))
        for number, step in enumerate(component.STEPS, 1)
    )
    return plan, computes["compute_finetune"], steps


def _read_continued(backend: Backend, properties: Document, values: dict[str, str]) -> str:
    """Return the checkpoint that a job tagged with it goes on from, where `resume_from_checkpoint` asks for that."""
    named = strings_of(properties, "tags").get(runs.CONTINUES, "")
    if not named or values.get("resume_from_checkpoint") != "true":
        return ""
    run, _, checkpoint = named.partition("/")
    kept = backend.runs.checkpoints_of(check_name("a job's name", run)).list()
    if checkpoint not in [each.name for each in kept if (each / STATE_FILE).is_file()]:
        raise _bad(f"tags.{runs.CONTINUES}", f"names '{named}', where nothing is that a run can go on from.")
    return named


def _leave_out_deepspeed(values: dict[str, str]) -> list[str]:
    """Take DeepSpeed out of the literals, and say so: a region's models ask for it by default."""
    if values.get("apply_deepspeed") != "true":
        return []
    values["apply_deepspeed"] = "false"
    return ["DeepSpeed (apply_deepspeed) is ignored: it spreads a model over GPUs, and this trainer is one process."]


def _only_node(backend: Backend, properties: Document) -> Document:
    nodes = field_of(properties, "jobs", dict, {})
    if len(nodes) != 1:
        raise _bad("jobs", f"must hold one node, the {component.NAME} component; it holds {len(nodes)}.")
    ((name, node),) = nodes.items()
    _check_fields(f"jobs.{name}", node, _NODE)
    check_node_component(backend.store, f"jobs.{name}.componentId", str(node.get("componentId") or ""))
    checked: Document = node
    return checked


def _node_inputs(node: Document, properties: Document) -> tuple[dict[str, str], dict[str, str]]:
    """Return the literals and the addresses of a node; a binding to an input of the pipeline is followed."""
    values: dict[str, str] = {}
    uris: dict[str, str] = {}
    around = field_of(properties, "inputs", dict, {})
    for name, given in field_of(node, "inputs", dict, {}).items():
        if name not in component.BY_NAME:
            raise _bad(name, f"is not an input of {component.NAME}.")
        field = _follow_binding(name, _check_input(name, given), around)
        if field.get("uri"):
            uris[name] = str(field["uri"])
        elif field.get("value") is not None:
            values[name] = str(field["value"])
        elif not component.BY_NAME[name].optional:
            raise _bad(name, "has no value.")
    for name, text in list(values.items()):
        if component.BY_NAME[name].type not in component.LITERAL_TYPES:
            uris[name] = values.pop(name) or text
    missing = [
        each.name for each in component.INPUTS if not each.optional and each.default is None and each.name not in values
    ]
    if missing:
        raise _bad(missing[0], "is needed.")
    return values, uris


def _follow_binding(name: str, field: Document, around: Document) -> Document:
    """Return the pipeline's own input where one of the node is bound to it."""
    bound = BINDING.fullmatch(str(field.get("value", "")))
    if bound is None:
        return field
    scope, _, outer = bound[1].rpartition(".")
    if scope != "parent.inputs" or outer not in around:
        raise _bad(name, f"is bound to {bound[0]}, which this pipeline does not have.")
    return _check_input(outer, around[outer])


def _check_refused(uris: dict[str, str]) -> None:
    for name in uris:
        if component.BY_NAME[name].local == "refused":
            raise _bad(name, f"is not done on this machine: {component.BY_NAME[name].why}.")


def _check_input(name: str, given: Any) -> Document:
    if isinstance(given, str | int | float):
        return {"value": str(given)}
    if not isinstance(given, dict):
        raise _bad(name, "must be an object with a value or a uri.")
    _check_fields(f"inputs.{name}", given, _INPUT)
    return given


def _read_model(backend: Backend, uris: dict[str, str], size: Size) -> RegistryModel:
    """Return the base model, which must be one that trains here, on this size."""
    uri = uris.get("mlflow_model_path", "")
    if not uri:
        raise _bad("mlflow_model_path", "is needed: the base model to fine-tune.")
    named = _REGISTRY_MODEL.fullmatch(uri)
    if named is None:
        raise _bad("mlflow_model_path", f"must be a model of the registry '{REGISTRY_NAME}', not '{uri}'.")
    model = backend.registry.find_model(named["name"], named["version"])
    if model is None:
        raise _bad("mlflow_model_path", f"names '{uri}', which the registry does not have.")
    if model.folder is None:
        raise _bad(
            "mlflow_model_path", f"names {model.name}, which runs on Azure: its weights are not on this machine."
        )
    allowed = model.tags.get("finetune_compute_allow_list", "")
    if allowed and size.name.lower() not in {each.lower() for each in re.findall(r"[\w.\-]+", allowed)}:
        raise _bad("compute_finetune", f"has the size {size.name}, which is not in the model's allow-list {allowed}.")
    return model


def _check_gpus(values: dict[str, str], size: Size) -> None:
    asked = int(
        values.get("number_of_gpu_to_use_finetuning", component.BY_NAME["number_of_gpu_to_use_finetuning"].default or 0)
    )
    if asked > size.gpus:
        raise _bad(
            "number_of_gpu_to_use_finetuning", f"is {asked}, but a node of size {size.name} has {size.gpus} GPUs."
        )


def _bound_outputs(node: Document, properties: Document) -> dict[str, str]:
    """Return which output of the component each output of the pipeline is."""
    bound: dict[str, str] = {}
    outer = field_of(properties, "outputs", dict, {})
    for name, given in field_of(node, "outputs", dict, {}).items():
        if name not in component.OUTPUTS:
            raise _bad(name, f"is not an output of {component.NAME}.")
        target = BINDING.fullmatch(str((given or {}).get("value", "") if isinstance(given, dict) else given))
        if target and target[1].removeprefix("parent.outputs.") in outer:
            bound[target[1].removeprefix("parent.outputs.")] = name
    for name, given in outer.items():
        check_name("an output's name", name)
        if name not in bound:
            raise _bad(f"outputs.{name}", "is not bound to an output of the node.")
        _check_output(name, given)
    return bound


def _check_output(name: str, given: Any) -> None:
    if given is None:
        return
    if not isinstance(given, dict):
        raise _bad(f"outputs.{name}", "must be an object.")
    _check_fields(f"outputs.{name}", given, _OUTPUT)
    if given.get("uri"):
        raise _bad(f"outputs.{name}.uri", "cannot be chosen in the local backend.")


def _read_command(backend: Backend, name: str, properties: Document) -> tuple[CommandPlan, str, tuple[Step, ...]]:
    text = field_of(properties, "command", str, "")
    if not text.strip():
        raise _bad("command", "is needed.")
    for field, why in (
        ("codeId", "pass the program as an input folder"),
        ("distribution", "the local workspace is one machine"),
        ("limits", "no time limit is kept here"),
    ):
        if properties.get(field):
            raise _bad(field, f"is not done in the local workspace: {why}.")
    if ((properties.get("resources") or {}).get("instanceCount") or 1) > 1:
        raise _bad("resources.instanceCount", "must be 1: the local workspace is one machine.")
    _check_environment(properties.get("environmentId") or "")
    compute = _last(properties.get("computeId") or "serverless")
    size = _size_of(backend, compute, "computeId")
    given_inputs, given_outputs = (field_of(properties, each, dict, {}) for each in ("inputs", "outputs"))
    inputs = {each: _command_input(backend, each, given) for each, given in given_inputs.items()}
    outputs = [check_name("an output's name", each) for each in given_outputs if each != "default"]
    for each in outputs:
        _check_output(each, given_outputs[each])
    plan = CommandPlan(
        command=text,
        inputs=inputs,
        outputs=dict.fromkeys(outputs, ""),
        variables=strings_of(properties, "environmentVariables"),
        cores=min(size.cores, backend.machine.cores),
        gpus=size.gpus,
    )
    plan.render({each: Path(each) for each in outputs})
    return plan, compute, (Step(name, COMMAND_STEP, "Command", COMMAND_STEP, RunState(COMMAND_STEP)),)


def _check_environment(address: str) -> None:
    """Refuse an image of this workspace; a curated one of the registry stands for this machine's libraries."""
    found = _OWN_ENVIRONMENT.search(address)
    if found and found["name"] != OWN_ENVIRONMENT:
        what = f"names the environment '{found['name']}', which is an image: the local workspace runs none."
        raise _bad("environmentId", f"{what} Its own is '{OWN_ENVIRONMENT}'.")


def _command_input(backend: Backend, name: str, given: Any) -> str:
    """Return the text that stands for an input in the command: a literal, or the path of what its address names."""
    field = _check_input(name, given)
    assumed = "uri_folder" if field.get("uri") else "literal"
    if (field.get("jobInputType") or field.get("job_input_type") or assumed) == "literal":
        return str(field.get("value", ""))
    return str(_resolve(backend, name, str(field.get("uri", ""))))


def _size_of(backend: Backend, compute: str, field: str) -> Size:
    if compute.lower() == "serverless":
        raise _bad(field, "is needed: the local workspace has no serverless compute.")
    found = Compute.find(backend.store, compute)
    if found is None:
        raise _bad(field, f"names the compute '{compute}', which does not exist.")
    if found.state.failed or found.state.deleting:
        raise _bad(field, f"names the compute '{compute}', which is {found.state.lower()}.")
    size = backend.machine.find_size(found.size)
    if size is None:
        raise _bad(field, f"names the compute '{compute}', whose size {found.size} this machine does not have.")
    return size


def _resolve(backend: Backend, field: str, uri: str) -> Path:
    try:
        path = resolve_uri(backend, uri)
    except WireError as error:
        raise _bad(field, f"names '{uri}': {error.message}") from error
    if not path.exists():
        raise _bad(field, f"names '{uri}', where nothing is.")
    return path


def _check_fields(where: str, given: Document, known: frozenset[str]) -> None:
    unknown = [name for name in given if name not in known]
    if unknown:
        raise _bad(f"{where}.{unknown[0]}", "is not a field that a job has.")


def _last(reference: str) -> str:
    """Return the name in an ARM id or in `azureml:name`."""
    return reference.rsplit("/", 1)[-1].removeprefix("azureml:")


def _bad(field: str, what: str) -> WireError:
    return WireError(400, "BadRequest", f"{field} {what}")

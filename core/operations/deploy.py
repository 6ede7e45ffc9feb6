"""The steps of a deploy: check the size, register, endpoint, deployment, traffic, smoke prompt."""

from __future__ import annotations

from typing import Any

from core.azureml import tags
from core.azureml.polling import check_write
from core.catalog.base_models import get_base_model
from core.catalog.compute import check_size
from core.errors import BadInput, Conflict, NotFound, ServiceRefused, TunedeckError
from core.operations.work import LOOK_S, Done, Outcome, Skip, StepSpec, Wait, Work
from core.runs.jobs import find_run, get_run
from core.serving.chat import Sampling, score_once
from core.serving.endpoints import (
    DELETING,
    DEPLOYMENT_NAME,
    DeploymentView,
    EndpointView,
    begin_deployment,
    begin_endpoint,
    begin_traffic,
    find_endpoint,
    goes_on,
    read_deployment_log,
)
from core.serving.registered_models import find_registered_model, register_model

SMOKE_PROMPT = "Hello! Who are you?"
SMOKE_TOKENS = 24


def _check_size(work: Work) -> Outcome:
    """Hold the size against the base model's own list before anything bills."""
    base, version = _base_model(work)
    if not base:
        return Skip("The model does not say what it was tuned from")
    try:
        model = get_base_model(work.conn, base, version or "latest")
    except NotFound:
        return Skip(f"'{base}' is no longer in the registry")
    if reason := check_size(work.arguments["size"], model.inference, base, "serve"):
        raise BadInput(reason, "Pick one of the allowed sizes.")
    return Done(f"{work.arguments['size']} may serve {base}", {"base_model": base})


def _base_model(work: Work) -> tuple[str, str]:
    if work.arguments["run"]:
        run = find_run(work.conn, work.arguments["run"])
        return (run.model, run.model_version) if run else ("", "")
    model = find_registered_model(work.conn, work.arguments["model_name"], work.arguments["model_version"])
    return (model.base_model, model.tags.get(tags.MODEL_VERSION, "")) if model else ("", "")


def _register(work: Work) -> Outcome:
    name, version = work.arguments["model_name"], work.arguments["model_version"]
    known = find_registered_model(work.conn, name, version)
    if known is None:
        run = get_run(work.conn, work.arguments["run"])
        if not run.completed:
            raise Conflict(f"Run '{run.title}' is {run.state_word.lower()}.", "Wait until it is completed, then retry.")
        known = register_model(work.conn, run, name, version)
    return Done(f"{name} version {version}", {"model_id": known.id, "run": known.run or work.arguments["run"]})


def _create_endpoint(work: Work) -> Outcome:
    name = work.operation.subject
    waiting = work.send_once(
        "endpoint", "the endpoint", lambda: _has_endpoint(work, name), lambda: _send_endpoint(work, name), bills=True
    )
    if waiting:
        return waiting
    if work.arguments["delete_at"]:
        work.ledger.set_timer(work.operation.connection, "endpoint", name, work.arguments["delete_at"])
    if error := check_write(work.conn, f"endpoint '{name}'"):
        raise error
    endpoint = _find_own_endpoint(work)
    if endpoint is None or goes_on(endpoint.state) or endpoint.state == DELETING:
        return Wait(endpoint.state if endpoint else "Creating", LOOK_S)
    if endpoint.state == "Failed":
        raise ServiceRefused(f"Endpoint '{name}' was not created.", "Delete it, then deploy again.")
    return Done("Created", {"scoring_uri": endpoint.scoring_uri})


def _has_endpoint(work: Work, name: str) -> bool:
    """Tell whether this operation's endpoint is there; raises Conflict for somebody else's."""
    endpoint = find_endpoint(work.conn, name)
    if endpoint is not None and endpoint.tags.get(tags.OPERATION) != work.operation.id:
        raise Conflict(f"There is an endpoint '{name}' already.", "Choose another name.")
    return endpoint is not None


def _find_own_endpoint(work: Work) -> EndpointView | None:
    """Return the endpoint that this deploy made; None while it is not certain that it was deleted, NotFound after.

    One of the same name that another made since is not taken for it.
    """

    def find() -> EndpointView | None:
        endpoint = find_endpoint(work.conn, work.operation.subject)
        return endpoint if endpoint and endpoint.tags.get(tags.OPERATION) == work.operation.id else None

    found: EndpointView | None = work.find_confirmed(f"endpoint '{work.operation.subject}'", find)
    return found


def _send_endpoint(work: Work, name: str) -> None:
    model = f"{work.arguments['model_name']}:{work.arguments['model_version']}"
    told = {
        tags.OPERATION: work.operation.id,
        tags.MADE_BY: tags.made_by(),
        tags.REGISTERED_MODEL: model,
        tags.MODEL: str(work.facts.get("base_model", "")),
        tags.RUN: str(work.facts.get("run") or ""),
        tags.SIZE: work.arguments["size"],
        tags.CREATED_AT: tags.format_time(_created(work)),
    }
    if work.arguments["delete_at"]:
        told[tags.DELETE_AT] = work.arguments["delete_at"]
    begin_endpoint(work.conn, name, f"{model}, by Tunedeck.", {key: value for key, value in told.items() if value})


def _create_deployment(work: Work) -> Outcome:
    name = work.operation.subject
    if _find_own_endpoint(work) is None:
        return Wait("Looking for the endpoint once more", LOOK_S)
    waiting = work.send_once(
        "deployment",
        "the deployment",
        lambda: _find_deployment(work) is not None,
        lambda: _send_deployment(work, name),
        bills=True,
    )
    if waiting:
        return waiting
    if error := check_write(work.conn, f"deployment '{DEPLOYMENT_NAME}' of '{name}'"):
        raise _did_not_start(work, name, error.message, error.detail)
    found: DeploymentView | None = work.find_confirmed(
        f"deployment '{DEPLOYMENT_NAME}' of '{name}'", lambda: _find_deployment(work)
    )
    if found is None or goes_on(found.state) or found.state == DELETING:
        return Wait("Starting the container", 1.5)
    if found.state != "Succeeded":
        raise _did_not_start(work, name, f"it is {found.state.lower()}", "")
    return Done("Up")


def _send_deployment(work: Work, name: str) -> None:
    told = {
        tags.OPERATION: work.operation.id,
        tags.MADE_BY: tags.made_by(),
        tags.CREATED_AT: tags.format_time(_created(work)),
    }
    begin_deployment(
        work.conn, name, work.facts["model_id"], work.arguments["size"], int(work.arguments["instances"]), told
    )


def _did_not_start(work: Work, name: str, reason: str, detail: str) -> ServiceRefused:
    try:
        log = read_deployment_log(work.conn, name, lines=40)
    except TunedeckError as error:  # why the container did not start must not be lost with its log
        log = f"Its log could not be read: {error.message}"
    return ServiceRefused(
        f"The container of '{name}' did not start: {reason.rstrip('.')}.",
        "It bills until deleted. Delete this deployment, or try a larger size.",
        "\n".join(part for part in (detail, log) if part),
    )


def _send_traffic(work: Work) -> Outcome:
    name = work.operation.subject
    endpoint = _find_own_endpoint(work)
    if error := check_write(work.conn, f"endpoint '{name}'"):
        raise error
    if endpoint is None or goes_on(endpoint.state) or endpoint.state == DELETING:
        return Wait("Changing the endpoint", LOOK_S)
    if endpoint.traffic.get(DEPLOYMENT_NAME, 0) != 100:
        begin_traffic(work.conn, name, {DEPLOYMENT_NAME: 100})  # the same request twice does no harm
        return Wait("Changing the endpoint", LOOK_S)
    return Done("100 %")


def _smoke(work: Work) -> Outcome:
    """Ask one question, so that "live" means that an answer came."""
    endpoint = _find_own_endpoint(work)
    if endpoint is None:
        return Wait("Looking for the endpoint once more", LOOK_S)
    answer = score_once(
        work.conn,
        endpoint,
        [{"role": "user", "content": SMOKE_PROMPT}],
        Sampling(0.0, 1.0, SMOKE_TOKENS),
        DEPLOYMENT_NAME,
    )
    seconds = answer.stats.seconds if answer.stats else 0.0
    return Done(f"Answered in {seconds:.1f} s", {"smoke_prompt": SMOKE_PROMPT, "smoke_answer": answer.text})


STEPS = (
    StepSpec("check", "Check the size", _check_size),
    StepSpec("register", "Register", _register),
    StepSpec("endpoint", "Endpoint", _create_endpoint, patience_s=1800.0),
    StepSpec("deployment", "Container", _create_deployment, patience_s=7200.0),
    StepSpec("traffic", "Traffic", _send_traffic, patience_s=1800.0),
    StepSpec("smoke", "First question", _smoke),
)


def _find_deployment(work: Work) -> DeploymentView | None:
    endpoint = find_endpoint(work.conn, work.operation.subject)
    deployments = endpoint.deployments if endpoint else ()
    return next((each for each in deployments if each.name == DEPLOYMENT_NAME), None)


def _created(work: Work) -> Any:
    return work.operation.created_at

"""Deploy a run's model: check the size, register, endpoint, deployment, traffic, smoke prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from core.azureml import tags
from core.azureml.polling import check_write, is_writing
from core.catalog.compute import check_size, size_price
from core.catalog.serving_sizes import read_serving_list
from core.errors import (
    BadInput,
    Conflict,
    NotFound,
    ServiceFailed,
    ServiceRefused,
    SignInFailed,
    Throttled,
    TunedeckError,
    Unreachable,
)
from core.operations.change import DOUBLE_CLICK_S, Change, Done, Outcome, Skip, StepSpec, Wait
from core.operations.delete_at import bind_tags
from core.operations.ledger import Ledger
from core.operations.records import Operation, utc_now
from core.operations.spending import spending
from core.operations.work import LOOK_S, Work
from core.runs.history import find_record
from core.runs.jobs import find_run, get_run, has_job
from core.runs.merging import submit_merge
from core.runs.states import JobState
from core.serving.chat import Sampling, ask_once
from core.serving.deploy_failures import Stage, explain_failure
from core.serving.deployment_settings import check_settings
from core.serving.endpoints import (
    DEPLOYMENT_NAME,
    DeploymentView,
    EndpointView,
    ProvisioningState,
    begin_deployment,
    begin_endpoint,
    begin_traffic,
    find_endpoint,
    require_endpoint_name,
)
from core.serving.registered_models import find_registered_model, register_model, require_model_name
from core.teardown.caps import Wanted, find_capped_endpoint, parse_cap
from core.teardown.due import Timed, delete_at_tags, find_timed, first_tags
from core.teardown.idle import choice_tags

SMOKE_PROMPT = "Hello! Who are you?"
SMOKE_TOKENS = 24


@dataclass(frozen=True)
class Deploy(Change, stored_as="deploy"):
    """A registered model behind an endpoint. `subject` is the endpoint."""

    words = "Deploy {}"
    writes_a = "endpoint"
    again_after_s = DOUBLE_CLICK_S

    run: str = ""
    model_name: str = ""
    model_version: str = ""
    checkpoint: str = ""
    """Of the run, which the model is made of; "" for the run's own output."""
    registers: bool = False
    """Whether the version is made by this deploy, so that two clicks are one wish in spite of their versions."""
    size: str = ""
    instances: int = 1
    settings: Mapping[str, int] = field(default_factory=dict)
    """By name, as `core.serving.deployment_settings` has them."""
    delete_at: datetime | None = None
    idle_hours: int = 0
    """After so many without a request it is deleted; 0: it is kept."""
    redeploys: str = ""
    """The operation that made the endpoint, where this one deploys to it anew."""
    agreed: str = ""
    """The price per hour that was shown at the click, as of `caps.to_agreed`."""
    cap: str = ""
    """What it may cost in all, as its tag says it; "" for no cap."""
    ends_at_cap: bool = False
    """Whether it is deleted then."""

    @property
    def _key(self) -> str:
        version = "" if self.registers else self.model_version
        anew = f":{self.instances}:{sorted(self.settings.items())}" if self.redeploys else ""
        return f"{self.subject}:{self.run}{self.checkpoint}:{self.model_name}:{version}:{self.size}{anew}"

    def _list_steps(self) -> tuple[StepSpec[Work[Deploy]], ...]:
        return (
            StepSpec("check", "Check the size", _check_size),
            *((StepSpec("merge", "Write the checkpoint as a model", _merge),) if self.checkpoint else ()),
            StepSpec("register", "Register", _register),
            StepSpec("endpoint", "Endpoint", _create_endpoint, patience_s=1800.0),
            StepSpec("deployment", "Container", _create_deployment, patience_s=7200.0),
            StepSpec("traffic", "Traffic", _send_traffic, patience_s=1800.0),
            StepSpec("smoke", "First question", _smoke),
        )


def start_deploy(
    connection: str,
    run: str,
    model_name: str,
    endpoint: str,
    size: str,
    delete_at: datetime | None,
    model_version: str = "",
    instances: int = 1,
    settings: Mapping[str, int] | None = None,
    *,
    idle_hours: int = 0,
    agreed: str = "",
    cap: str = "",
    ends_at_cap: bool = False,
    checkpoint: str = "",
) -> Operation:
    """Record a deploy. `subject` is the endpoint's name.

    model_version: an existing version is deployed as it is; empty makes one. settings: what is missing is the lesson's.
    agreed, cap, ends_at_cap: see Deploy. Raises BadInput for a name or a setting that Azure refuses, or for no cap.
    """
    parse_cap(cap)
    require_endpoint_name(endpoint)
    require_model_name(model_name)
    check_settings(settings or {}, instances)
    change = Deploy(
        endpoint,
        run=run,
        model_name=model_name,
        model_version=model_version or str(int(utc_now().timestamp())),
        checkpoint=checkpoint,
        registers=not model_version,
        size=size,
        instances=instances,
        settings=settings or {},
        delete_at=delete_at,
        idle_hours=idle_hours,
        agreed=agreed,
        cap=cap,
        ends_at_cap=ends_at_cap,
    )
    return Ledger().start(connection, change)


def start_redeploy(
    connection: str,
    endpoint: EndpointView,
    size: str,
    instances: int,
    settings: Mapping[str, int],
    *,
    agreed: str = "",
) -> Operation:
    """Record that an endpoint's model is deployed to it once more, with other settings; raises BadInput for those."""
    check_settings(settings, instances)
    name, _, version = endpoint.model.rpartition(":")
    made_by = endpoint.tags.get(tags.OPERATION, "")
    if not (name and made_by):
        raise BadInput(f"'{endpoint.name}' was not made by Tunedeck.", "Change it where it was made.")
    change = Deploy(
        endpoint.name,
        run=endpoint.run,
        model_name=name,
        model_version=version,
        size=size,
        instances=instances,
        settings=settings,
        redeploys=made_by,
        agreed=agreed,
    )
    return Ledger().start(connection, change)


def _check_size(work: Work[Deploy]) -> Outcome:
    """Hold the size against the base model's own list, and the price against caps, before anything bills."""
    with spending(work, work.change.agreed, lambda: _price(work)):
        pass  # once more when the container is asked for: then it begins to bill
    base, version = _base_model(work)
    if not base:
        return Skip("The model does not say what it was tuned from")
    try:
        allowed = read_serving_list(work.conn, base, version or "latest")
    except NotFound:
        return Skip(f"'{base}' is no longer in the registry")
    if reason := check_size(work.change.size, allowed, base, "serve"):
        raise BadInput(reason, "Pick one of the allowed sizes.")
    return Done(f"{work.change.size} may serve {base}", {"base_model": base})


def _price(work: Work[Deploy]) -> Wanted:
    """Return what it costs; raises BadInput for an endpoint that came to its own cap."""
    change = work.change
    timed = find_timed(work.conn, "endpoint", change.subject) if change.redeploys else None
    capped = find_capped_endpoint(work.conn, timed) if timed else None
    if capped and capped.reached.reached:
        raise BadInput(f"Nothing more is started on '{change.subject}'. {capped.words}", "Raise its cap first.")
    price = size_price(work.conn, change.size).times(change.instances)
    return Wanted(price, replaces=f"endpoint:{change.subject}")


def _base_model(work: Work[Deploy]) -> tuple[str, str]:
    if work.change.run:
        run = find_run(work.conn, work.change.run)
        return (run.model, run.model_version) if run else ("", "")
    model = find_registered_model(work.conn, work.change.model_name, work.change.model_version)
    return (model.base_model, model.tags.get(tags.MODEL_VERSION, "")) if model else ("", "")


def _merge(work: Work[Deploy]) -> Outcome:
    """Have the workspace make a model of the checkpoint, unless it was made; a retry asks for it anew."""
    change, tries = work.change, int(work.facts.get("merge_tries", 0))
    name = f"{change.run}-{change.checkpoint}" + (f"-{work.operation.id}-{tries}" if tries else "")
    waiting = work.send_once(
        "merge",
        f"the model of {change.checkpoint}",
        lambda: has_job(work.conn, name),
        lambda: submit_merge(work.conn, get_run(work.conn, change.run), change.checkpoint, name),
    )
    record = None if waiting else find_record(work.conn, name)
    if waiting or record is None or not record.status.finished:
        return waiting or Wait(record.status.word if record else "Asked", LOOK_S)
    if record.status is not JobState.COMPLETED:
        work.record(sent_merge=None, merge_tries=tries + 1)
        said = f"No model was made of {change.checkpoint}: its job is {record.status.word.lower()}."
        raise ServiceRefused(said, "Retry to have it made anew.", record.error)
    return Done("Written", {"merged": name})


def _register(work: Work[Deploy]) -> Outcome:
    name, version = work.change.model_name, work.change.model_version
    known = find_registered_model(work.conn, name, version)
    if known is None:
        run = get_run(work.conn, work.change.run)
        if not (run.completed or work.change.checkpoint):
            raise Conflict(f"Run '{run.title}' is {run.state_word.lower()}.", "Wait until it is completed, then retry.")
        run = replace(run, kept=work.change.checkpoint)
        known = register_model(work.conn, run, name, version, job=work.facts.get("merged", ""))
    return Done(f"{name} version {version}", {"model_id": known.id, "run": known.run or work.change.run})


def _create_endpoint(work: Work[Deploy]) -> Outcome:
    name = work.change.subject
    if work.change.redeploys:
        return Done("Kept") if _find_own_endpoint(work) else Wait("Looking for the endpoint once more", LOOK_S)
    waiting = work.send_once(
        "endpoint", "the endpoint", lambda: _has_endpoint(work, name), lambda: _send_endpoint(work, name), bills=True
    )
    if waiting:
        return waiting
    if error := check_write(work.conn, f"endpoint '{name}'"):
        if _was_deleted(work, error):
            return Wait("Looking for the endpoint once more", LOOK_S)
        raise explain_failure(work.conn, name, error, Stage.REQUEST) from error
    endpoint = _find_own_endpoint(work)
    if endpoint is None or endpoint.state.moves:
        return Wait(endpoint.state if endpoint else "Creating", LOOK_S)
    if endpoint.state is ProvisioningState.FAILED:
        raise ServiceRefused(f"Endpoint '{name}' was not created.", "Delete it, then deploy again.")
    bound = work.change.delete_at or work.change.cap or work.change.idle_hours
    if bound and (unbound := bind_tags(work, "endpoint", partial(_bound, work))):
        return unbound
    return Done("Created", {"scoring_uri": endpoint.scoring_uri})


def _bound(work: Work[Deploy], timed: Timed) -> dict[str, str]:
    """Return the tags that are good for this endpoint alone, with its mark."""
    change = work.change
    capped = tags.cap_tags(change.cap, timed.mark if change.ends_at_cap else "") if change.cap else {}
    idle = choice_tags(timed, change.idle_hours) if change.idle_hours else {}
    return {**delete_at_tags(timed, change.delete_at), **capped, **idle}


def _was_deleted(work: Work[Deploy], error: TunedeckError) -> bool:
    """Tell whether a write failed because somebody deleted the endpoint meanwhile; the next look makes certain."""
    return isinstance(error, NotFound) and _find_own_endpoint(work) is None


def _has_endpoint(work: Work[Deploy], name: str) -> bool:
    """Tell whether this operation's endpoint is there; raises Conflict for somebody else's."""
    endpoint = find_endpoint(work.conn, name)
    if endpoint is not None and not work.made(endpoint.tags):
        raise Conflict(f"There is an endpoint '{name}' already.", "Choose another name.")
    return endpoint is not None


def _find_own_endpoint(work: Work[Deploy]) -> EndpointView | None:
    """Return the endpoint that this deploy made or changes; None until it is certain that it is gone, NotFound then.

    One of the same name that another made since is not taken for it.
    """

    def find() -> EndpointView | None:
        endpoint = find_endpoint(work.conn, work.change.subject)
        if endpoint is None or endpoint.tags.get(tags.OPERATION) == work.change.redeploys:
            return endpoint
        return endpoint if work.made(endpoint.tags) else None

    return work.find_confirmed(f"endpoint '{work.change.subject}'", find)


def _send_endpoint(work: Work[Deploy], name: str) -> None:
    model = f"{work.change.model_name}:{work.change.model_version}"
    wanted = {
        **_tags(work),
        tags.REGISTERED_MODEL: model,
        tags.MODEL: str(work.facts.get("base_model", "")),
        tags.RUN: str(work.facts.get("run") or ""),
        tags.SIZE: work.change.size,
        **first_tags(work.conn, "endpoint", work.change.subject, work.change.delete_at),
    }
    told = {key: value for key, value in wanted.items() if value}
    with _explained(work):
        begin_endpoint(work.conn, name, f"{model}, by Tunedeck.", told)


def _create_deployment(work: Work[Deploy]) -> Outcome:
    name = work.change.subject
    if _find_own_endpoint(work) is None:
        return Wait("Looking for the endpoint once more", LOOK_S)
    waiting = work.send_once(
        "deployment",
        "the deployment",
        lambda: _was_taken(work),
        lambda: _send_deployment(work),
        bills=True,
        guard=lambda: spending(work, work.change.agreed, lambda: _price(work)),
    )
    if waiting:
        return waiting
    what = f"deployment '{DEPLOYMENT_NAME}' of '{name}'"
    if error := check_write(work.conn, what):
        if _was_deleted(work, error):
            return Wait("Looking for the endpoint once more", LOOK_S)
        raise _did_not_start(work, error)
    deployment = work.find_confirmed(what, lambda: _find_deployment(work))
    if deployment is None or deployment.state.moves or not work.made(deployment.tags):  # a list may lag behind
        return Wait("Starting the container", 1.5)
    if not deployment.up and is_writing(work.conn, what):  # so it failed before it was tried again
        return Wait("Starting the container", LOOK_S)
    if not deployment.up:
        raise _did_not_start(work, ServiceRefused("Its deployment is failed."))
    return Done("Up")


def _was_taken(work: Work[Deploy]) -> bool:
    """Tell whether this operation's deployment is there; one that failed before a retry is asked for anew."""
    found = _find_deployment(work)
    if found is None or not work.made(found.tags):
        return False
    return not (work.facts.get("deployment_failed") and found.state is ProvisioningState.FAILED)


def _tags(work: Work[Deploy]) -> dict[str, str]:
    created_at = work.operation.created_at
    return work.tags | ({tags.CREATED_AT: tags.format_time(created_at)} if created_at else {})


def _send_deployment(work: Work[Deploy]) -> None:
    change, model = work.change, work.facts["model_id"]
    settings, told = change.settings, _tags(work)
    with _explained(work):
        begin_deployment(work.conn, change.subject, model, change.size, change.instances, settings, told)


@contextmanager
def _explained(work: Work[Deploy]) -> Iterator[None]:
    """Say of a request that is refused in the block what stands behind it; one that is tried again is passed on."""
    try:
        yield
    except (SignInFailed, Unreachable, Throttled, ServiceFailed):
        raise
    except TunedeckError as error:
        raise explain_failure(work.conn, work.change.subject, error, Stage.REQUEST) from error


def _did_not_start(work: Work[Deploy], error: TunedeckError) -> TunedeckError:
    work.record(sent_deployment=None, deployment_failed=True)  # a retry asks for it anew
    return explain_failure(work.conn, work.change.subject, error)


def _send_traffic(work: Work[Deploy]) -> Outcome:
    name = work.change.subject
    endpoint = _find_own_endpoint(work)
    if error := check_write(work.conn, f"endpoint '{name}'"):
        if endpoint is None and isinstance(error, NotFound):
            return Wait("Looking for the endpoint once more", LOOK_S)
        raise explain_failure(work.conn, name, error, Stage.TRAFFIC) from error
    if endpoint is None or endpoint.state.moves:
        return Wait("Changing the endpoint", LOOK_S)
    if endpoint.traffic.get(DEPLOYMENT_NAME, 0) != 100:
        begin_traffic(work.conn, name, {DEPLOYMENT_NAME: 100})  # the same request twice does no harm
        return Wait("Changing the endpoint", LOOK_S)
    return Done("100 %")


def _smoke(work: Work[Deploy]) -> Outcome:
    """Ask one question, so that "live" means that an answer came."""
    endpoint = _find_own_endpoint(work)
    if endpoint is None:
        return Wait("Looking for the endpoint once more", LOOK_S)
    answer = ask_once(
        work.conn,
        endpoint,
        [{"role": "user", "content": SMOKE_PROMPT}],
        Sampling(0.0, 1.0, SMOKE_TOKENS),
        DEPLOYMENT_NAME,
    )
    seconds = answer.stats.seconds if answer.stats else 0.0
    return Done(f"Answered in {seconds:.1f} s", {"smoke_prompt": SMOKE_PROMPT, "smoke_answer": answer.text})


def _find_deployment(work: Work[Deploy]) -> DeploymentView | None:
    endpoint = find_endpoint(work.conn, work.change.subject)
    deployments = endpoint.deployments if endpoint else ()
    return next((each for each in deployments if each.name == DEPLOYMENT_NAME), None)

"""Online endpoints and deployments: read them, and the single writes a deploy is made of. Never waits for a write."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Any

from core.azureml import tags
from core.azureml.abreast import abreast
from core.azureml.connection import Connection
from core.azureml.owners import read_made
from core.azureml.polling import start_write
from core.errors import BadInput, NotFound
from core.serving import deployment_settings

DEPLOYMENT_NAME = "demo"
_NAME = re.compile(r"[a-z][a-z0-9-]{1,30}[a-z0-9]")


class ProvisioningState(StrEnum):
    """How far the service is with making or changing a resource."""

    CREATING = "Creating"
    UPDATING = "Updating"
    SCALING = "Scaling"
    PROVISIONING = "Provisioning"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    DELETING = "Deleting"
    UNKNOWN = ""

    @classmethod
    def _missing_(cls, _value: object) -> ProvisioningState:
        return cls.UNKNOWN

    @property
    def goes_on(self) -> bool:
        """Whether it will change by itself, and is not a deletion."""
        return self in {self.CREATING, self.UPDATING, self.SCALING, self.PROVISIONING}

    @property
    def moves(self) -> bool:
        """Whether it will change by itself."""
        return self.goes_on or self is self.DELETING


@dataclass(frozen=True)
class DeploymentView:
    """What answers behind an endpoint."""

    name: str
    endpoint: str
    state: ProvisioningState
    model_id: str = ""
    size: str = ""
    instances: int = 1
    traffic: int = 0
    """Percent."""
    tags: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, int] = field(default_factory=dict)
    """By name, as `core.serving.deployment_settings` has them."""
    created_at: datetime | None = None
    owner: str = ""
    """Who made it, as the service calls them."""
    changed_at: datetime | None = None
    restarts: int = 0
    """How often its container ended and was started again, as far as the workspace says."""
    restarted_at: datetime | None = None
    last_exit: str = ""
    """How its container ended the last time."""
    restarting: bool = False

    @property
    def up(self) -> bool:
        """Whether its container answers, as far as the workspace knows."""
        return self.state == ProvisioningState.SUCCEEDED


@dataclass(frozen=True)
class EndpointView:
    """An address, and what answers behind it."""

    name: str
    state: ProvisioningState
    scoring_uri: str = ""
    """Ends in /score, but for a container with a route of its own."""
    auth_mode: str = "key"
    """What opens it: "key", "aml_token" or "aad_token"."""
    public: bool = True
    """Whether it answers outside of its own network."""
    deployments: tuple[DeploymentView, ...] = ()
    traffic: Mapping[str, int] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    created_at: datetime | None = None
    delete_at: datetime | None = None
    """When Tunedeck deletes it."""
    id: str = ""
    owner: str = ""
    """Who made it, as the service calls them."""
    changed_at: datetime | None = None
    model: str = ""
    """ "name:version"."""
    base_model: str = ""
    run: str = ""

    @property
    def live(self) -> bool:
        """Whether a request is answered: up, and traffic goes to a deployment that is up."""
        return self.state == ProvisioningState.SUCCEEDED and any(
            each.up and each.traffic > 0 for each in self.deployments
        )

    @property
    def credential(self) -> str:
        """What opens it, in a word."""
        return "key" if self.auth_mode == "key" else "token"

    @property
    def state_word(self) -> str:
        """The word shown: Live, No traffic, Empty, Creating, Updating, Deleting or Failed."""
        if self.live:
            return "Live"
        states = [self.state, *(each.state for each in self.deployments)]
        for state in ("Deleting", "Failed", "Creating", "Updating", "Scaling"):
            if state in states:
                return state
        if not self.deployments:
            return "Empty"
        return "No traffic"

    @property
    def deployment(self) -> DeploymentView | None:
        """The deployment with the most traffic."""
        return max(self.deployments, key=lambda one: one.traffic, default=None)


def check_endpoint_name(name: str) -> str | None:
    """Return why this cannot be an endpoint's name, as one sentence, or None."""
    if _NAME.fullmatch(name):
        return None
    strange = re.search(r"[^A-Za-z0-9 -]", name)
    faults = ["a space"] * (" " in name) + ["a capital"] * (name != name.lower())
    if strange:
        faults.append(f"'{strange[0]}'")
    if faults:
        return f"'{name}' cannot be an endpoint name: it has {' and '.join(faults)}."
    if len(name) < 3 or len(name) > 32:
        return f"'{name}' cannot be an endpoint name: it has {len(name)} characters, 3 to 32 are allowed."
    where = "begins with" if not name[0].isalpha() else "ends with"
    return f"'{name}' cannot be an endpoint name: it {where} '{name[0] if where == 'begins with' else name[-1]}'."


def suggest_endpoint_name(name: str) -> str:
    """Return the nearest name that can be used."""
    text = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    text = text if text[:1].isalpha() else f"m-{text}"
    return f"{text[:32].strip('-')}-ep"[:32] if len(text) < 3 else text[:32].strip("-")


def require_endpoint_name(name: str) -> None:
    """Raise BadInput for a name the service refuses, with one that can be used."""
    if problem := check_endpoint_name(name):
        rule = "3 to 32 letters, digits, hyphens; letter first."
        raise BadInput(problem, f"Use '{suggest_endpoint_name(name)}'. {rule}")


def list_endpoints(conn: Connection) -> list[EndpointView]:
    """Return all endpoints with their deployments, newest first."""
    listing = conn.workspace.online_endpoints.list
    [found] = abreast(conn, [lambda: conn.call("read", "endpoints", lambda: list(listing()))])
    deployments = abreast(conn, [partial(_list_deployments, conn, endpoint.name) for endpoint in found])
    views = [_view(*each) for each in zip(found, deployments, strict=True)]
    return sorted(views, key=lambda view: (view.created_at is not None, view.created_at or 0), reverse=True)


def get_endpoint(conn: Connection, name: str) -> EndpointView:
    """Return one endpoint with its deployments; raises NotFound."""
    endpoint = conn.call("read", f"endpoint '{name}'", conn.workspace.online_endpoints.get, name)
    return _view(endpoint, _list_deployments(conn, name))


def find_endpoint(conn: Connection, name: str) -> EndpointView | None:
    """Return one endpoint with its deployments, or None."""
    try:
        return get_endpoint(conn, name)
    except NotFound:
        return None


def read_deployment_log(conn: Connection, endpoint: str, lines: int = 200, storage: bool = False) -> str:
    """Return the last lines of the container's log; empty before the container exists.

    storage: of what fetches the model before the container starts.
    """
    get_logs = conn.workspace.online_deployments.get_logs
    container = "storage-initializer" if storage else None
    try:
        found = conn.call(
            "read",
            f"the log of '{endpoint}'",
            lambda: get_logs(DEPLOYMENT_NAME, endpoint, lines, container_type=container),
        )
        return str(found or "")
    except NotFound:
        return ""


# Writes: each begins one thing and returns; `core.azureml.polling` tells how it ends -------------------------------


def begin_endpoint(conn: Connection, name: str, description: str, told: Mapping[str, str]) -> None:
    """Ask for an endpoint with key authentication."""
    from azure.ai.ml.entities import ManagedOnlineEndpoint

    require_endpoint_name(name)
    endpoint = ManagedOnlineEndpoint(name=name, description=description, auth_mode="key", tags=dict(told))
    start_write(conn, "create", f"endpoint '{name}'", conn.workspace.online_endpoints.begin_create_or_update, endpoint)


def begin_deployment(
    conn: Connection,
    endpoint: str,
    model_id: str,
    size: str,
    instances: int,
    settings: Mapping[str, int],
    told: Mapping[str, str],
) -> None:
    """Ask for the deployment `demo`; settings: by name, what is missing is the lesson's."""
    from azure.ai.ml.entities import ManagedOnlineDeployment

    deployment = ManagedOnlineDeployment(
        name=DEPLOYMENT_NAME,
        endpoint_name=endpoint,
        model=model_id,
        instance_type=size,
        instance_count=instances,
        tags=dict(told),
        **deployment_settings.to_sdk(settings),
    )
    begin = conn.workspace.online_deployments.begin_create_or_update
    start_write(conn, "create", f"deployment '{DEPLOYMENT_NAME}' of '{endpoint}'", begin, deployment)


def begin_traffic(conn: Connection, endpoint: str, traffic: Mapping[str, int]) -> None:
    """Ask for new traffic; tags and the rest stay as they are."""
    _begin_update(conn, endpoint, traffic=dict(traffic))


def begin_endpoint_deletion(conn: Connection, endpoint: str) -> None:
    """Ask for the end of an endpoint and all its deployments."""
    start_write(conn, "delete", f"endpoint '{endpoint}'", conn.workspace.online_endpoints.begin_delete, endpoint)


def _begin_update(conn: Connection, name: str, **changes: Any) -> None:
    endpoint = conn.call("read", f"endpoint '{name}'", conn.workspace.online_endpoints.get, name)
    for attribute, value in changes.items():
        setattr(endpoint, attribute, value)
    start_write(conn, "change", f"endpoint '{name}'", conn.workspace.online_endpoints.begin_create_or_update, endpoint)


def _list_deployments(conn: Connection, endpoint: str) -> list[Any]:
    deployments = conn.workspace.online_deployments
    try:
        return conn.call("read", f"the deployments of '{endpoint}'", lambda: list(deployments.list(endpoint)))
    except NotFound:
        return []  # deleted between the two reads


def _view(endpoint: Any, deployments: Iterable[Any]) -> EndpointView:
    told: Mapping[str, str] = endpoint.tags or {}
    traffic = {name: int(percent) for name, percent in (endpoint.traffic or {}).items()}
    made = read_made(endpoint)
    return EndpointView(
        name=endpoint.name,
        state=_state(endpoint.provisioning_state),
        scoring_uri=str(endpoint.scoring_uri or ""),
        auth_mode=str(endpoint.auth_mode or "key").lower(),
        public=str(getattr(endpoint, "public_network_access", None) or "enabled").lower() != "disabled",
        deployments=tuple(_view_deployment(each, endpoint.name, traffic) for each in deployments),
        traffic=traffic,
        tags=told,
        created_at=made.at or tags.parse_time(told.get(tags.CREATED_AT)),
        delete_at=tags.parse_time(told.get(tags.DELETE_AT)),
        id=str(endpoint.id or ""),
        owner=made.by,
        changed_at=made.changed_at,
        model=told.get(tags.REGISTERED_MODEL, ""),
        base_model=told.get(tags.MODEL, ""),
        run=told.get(tags.RUN, ""),
    )


def _view_deployment(deployment: Any, endpoint: str, traffic: Mapping[str, int]) -> DeploymentView:
    model = deployment.model
    told = {str(key): str(value or "") for key, value in (getattr(deployment, "properties", None) or {}).items()}
    restarts = told.get(tags.RESTARTS, "")
    made = read_made(deployment)
    return DeploymentView(
        name=deployment.name,
        endpoint=endpoint,
        state=_state(deployment.provisioning_state),
        model_id=str(getattr(model, "id", None) or model or ""),
        size=str(getattr(deployment, "instance_type", "") or ""),
        instances=int(deployment.instance_count or 1),
        traffic=next((share for name, share in traffic.items() if name.lower() == deployment.name.lower()), 0),
        tags=deployment.tags or {},
        settings=deployment_settings.from_sdk(deployment),
        created_at=made.at or tags.parse_time((deployment.tags or {}).get(tags.CREATED_AT)),
        owner=made.by,
        changed_at=made.changed_at,
        restarts=int(restarts) if restarts.isdecimal() else 0,
        restarted_at=tags.parse_time(told.get(tags.RESTARTED_AT) or None),
        last_exit=told.get(tags.LAST_EXIT, ""),
        restarting=told.get(tags.HEALTH) == "restarting",
    )


def _state(state: Any) -> ProvisioningState:
    """Return a state: the SDK gives an enumeration for some resources and text for others."""
    return ProvisioningState(getattr(state, "value", state) or "")

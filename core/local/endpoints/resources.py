"""An online endpoint and its deployments, as the store keeps them."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, ClassVar

from core.local.machine import Machine, Size
from core.local.provisioned import Provisioned, ProvisioningState
from core.local.store import now_utc
from core.local.wire import answers
from core.local.wire.errors import WireError

DEFAULT_REQUEST_TIMEOUT_S = 5.0
_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")


class Health(StrEnum):
    """How the scorer of a deployment is."""

    STARTING = "starting"
    HEALTHY = "healthy"
    RESTARTING = "restarting"
    FAILED = "failed"


def new_key() -> str:
    """Return a key that opens an endpoint."""
    return secrets.token_urlsafe(32)


@dataclass(frozen=True, kw_only=True)
class Endpoint(Provisioned):
    """An online endpoint."""

    KIND = "endpoint"

    asked: dict[str, Any] = field(default_factory=dict)
    """The properties of the latest PUT, as they were sent."""
    traffic: dict[str, int] = field(default_factory=dict)
    """Live shares in percent, by deployment."""
    mirror: dict[str, int] = field(default_factory=dict)
    """Mirrored shares in percent, by deployment."""
    keys: dict[str, str] = field(default_factory=lambda: {"primaryKey": new_key(), "secondaryKey": new_key()})

    @property
    def arm_id(self) -> str:
        """Return its ARM id."""
        return answers.arm_id("onlineEndpoints", self.name)

    @property
    def properties(self) -> dict[str, str]:
        """Return the properties that were asked for."""
        return self.asked.get("properties") or {}

    def sends_to(self, deployment: str) -> bool:
        """Tell whether a deployment gets live or mirrored traffic."""
        return bool(self.traffic.get(deployment) or self.mirror.get(deployment))

    def without(self, deployment: str) -> Endpoint:
        """Return this endpoint with no share for a deployment."""
        traffic, mirror = (
            {name: share for name, share in shares.items() if name != deployment}
            for shares in (self.traffic, self.mirror)
        )
        return replace(self, traffic=traffic, mirror=mirror)


@dataclass(frozen=True)
class LivenessProbe:
    """How a deployment is asked whether it still answers."""

    period_s: float
    timeout_s: float
    failure_threshold: int


@dataclass(frozen=True, kw_only=True)
class Deployment(Provisioned):
    """A deployment of an endpoint."""

    KIND = "deployment"
    PARSERS: ClassVar[Mapping[str, Callable[[Any], Any]]] = {**Provisioned.PARSERS, "health": Health}

    endpoint: str
    asked: dict[str, Any] = field(default_factory=dict)
    """The properties of the latest PUT, as they were sent."""
    sku: dict[str, Any] = field(default_factory=dict)
    model_dir: str = ""
    """The Hugging Face folder that is served."""
    cores: int = 1
    """Cores of one instance."""
    gpus: int = 0
    """GPUs of one instance."""
    secret: str = field(default_factory=lambda: secrets.token_hex(24))
    """What opens the scorer, which listens on a port of its own."""
    attempt: int = 0
    """The number of the scorer that is wanted; each start has a new one."""
    starting_since: str = ""
    restarts: int = 0
    quick_restarts: int = 0
    """Restarts in a row that followed soon upon a start."""
    pause_s: float = 0.0
    """How long the next start waits."""
    last_restart_at: str | None = None
    last_exit: str | None = None
    stop_asked_at: str | None = None
    health: Health = Health.STARTING
    error: str | None = None
    error_code: str = ""

    @property
    def key(self) -> str:
        """Return the key of its document."""
        return f"{self.endpoint}/{self.name}"

    @property
    def parent(self) -> str:
        """Return the endpoint."""
        return self.endpoint

    @property
    def arm_id(self) -> str:
        """Return its ARM id."""
        return answers.arm_id("onlineEndpoints", self.endpoint, "deployments", self.name)

    @property
    def instances(self) -> int:
        """Return the instance count."""
        return int(self.sku.get("capacity") or 1)

    @property
    def model(self) -> str:
        """Return the address of the model."""
        return str(self.asked.get("model") or "")

    @property
    def instance_type(self) -> str:
        """Return the name of its size."""
        return str(self.asked.get("instanceType") or "")

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment variables that were asked for."""
        return {str(name): str(value) for name, value in (self.asked.get("environmentVariables") or {}).items()}

    @property
    def request_timeout_s(self) -> float:
        """Return how long a request may take; raises WireError 400 for what is no duration."""
        settings = self.asked.get("requestSettings") or {}
        return read_duration(settings.get("requestTimeout"), DEFAULT_REQUEST_TIMEOUT_S)

    @property
    def request_limit(self) -> int:
        """Return how many requests may be under way or wait at once."""
        settings = self.asked.get("requestSettings") or {}
        return 2 * int(settings.get("maxConcurrentRequestsPerInstance") or 1) * self.instances

    @property
    def liveness_probe(self) -> LivenessProbe:
        """Return how it is asked whether it still answers; raises WireError 400 for what is no duration."""
        probe = self.asked.get("livenessProbe") or {}
        return LivenessProbe(
            read_duration(probe.get("period"), 10.0),
            read_duration(probe.get("timeout"), 2.0),
            int(probe.get("failureThreshold") or 30),
        )

    @property
    def can_answer(self) -> bool:
        """Whether requests are sent to it, at once or as soon as its scorer is ready."""
        return not (self.state.deleting or self.state.failed)

    def deleting(self, operation: str) -> Deployment:
        """Return it as it is while an operation deletes it: its scorer is asked to stop, be it once more."""
        return replace(super().deleting(operation), stop_asked_at=None)

    def size_on(self, machine: Machine) -> Size | None:
        """Return its size, or None where the machine does not have it any more."""
        return machine.find_size(self.instance_type)

    def with_new_scorer(self) -> Deployment:
        """Return this deployment as it is when another scorer is to be started for it."""
        return replace(
            self,
            state=ProvisioningState.UPDATING,
            attempt=self.attempt + 1,
            health=Health.STARTING,
            error=None,
            starting_since=now_utc(),
            quick_restarts=0,
            stop_asked_at=None,
        )


def read_duration(text: object, default_s: float) -> float:
    """Return an ISO 8601 duration of days, hours, minutes and seconds in seconds; raises WireError 400."""
    if text is None:
        return default_s
    parsed = _DURATION.fullmatch(str(text))
    if parsed is None or not any(parsed.groups()):
        raise WireError(400, "BadRequest", f"'{text}' is not a duration such as PT1M30S.")
    days, hours, minutes, seconds = (float(part or 0) for part in parsed.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds

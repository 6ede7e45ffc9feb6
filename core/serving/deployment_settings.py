"""What a deployment does with requests and how its container is probed: one table of settings, with their defaults.

Sources: Azure's YAML reference of managed online deployments (defaults, limits), the lesson (two values of its own).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.errors import BadInput

MOST_INSTANCES = 50
REQUESTS, LIVENESS, READINESS = "request_settings", "liveness_probe", "readiness_probe"
PARTS = {
    REQUESTS: "Requests",
    LIVENESS: "Liveness probe: a container that fails it is started again",
    READINESS: "Readiness probe: a container that fails it gets no requests until it passes again",
}
_MS = 1000


@dataclass(frozen=True)
class Setting:
    """One setting of a deployment, in whole seconds or a count. part, field: where the SDK has it."""

    part: str
    field: str
    label: str
    service: int
    """What Azure takes where nothing is sent."""
    help: str
    lesson: int | None = None
    most: int | None = None
    local: bool = False
    """Whether the local workspace does as it says; what it does not is not shown there."""
    here: int | None = None
    """What suits the local workspace's own scorer."""

    @property
    def name(self) -> str:
        """The key it is kept under: "liveness_probe.period"."""
        return f"{self.part}.{self.field}"

    @property
    def scale(self) -> int:
        """How many of the SDK's units one of ours is."""
        return _MS if self.field.endswith("_ms") else 1


def _list_probe(part: str, does: str, *, lesson_delay: int | None = None, local: bool = False) -> list[Setting]:
    return [
        Setting(part, "initial_delay", "First probe after (s)", 10, f"{does} from then on.", lesson=lesson_delay),
        Setting(part, "period", "A probe every (s)", 10, "The pause between two probes.", local=local),
        Setting(part, "timeout", "Probe time-out (s)", 2, "A later answer counts as none.", local=local),
        Setting(part, "failure_threshold", "Failures in a row", 30, f"{does} after so many.", local=local),
    ]


SETTINGS: tuple[Setting, ...] = (
    Setting(
        REQUESTS,
        "request_timeout_ms",
        "Request time-out (s)",
        5,
        "An answer that takes longer, or a stream that begins later, is broken off with 408. A model needs more than "
        "the service's 5 s.",
        lesson=90,
        most=180,
        local=True,
    ),
    Setting(
        REQUESTS,
        "max_concurrent_requests_per_instance",
        "Requests at once, each instance",
        1,
        "Twice so many for each instance are taken, the rest is refused with 429. A server that batches, as vLLM and "
        "the local workspace do, answers many at once: raise it for one.",
        local=True,
        here=8,
    ),
    *_list_probe(LIVENESS, "The container is given up", lesson_delay=600, local=True),
    *_list_probe(READINESS, "Requests are held back"),
    # A liveness probe has no such setting: Kubernetes takes 1 only.
    Setting(READINESS, "success_threshold", "Successes in a row", 1, "Requests come again after so many."),
)
BY_NAME = {setting.name: setting for setting in SETTINGS}


def list_settings(*, local: bool) -> list[Setting]:
    """Return what can be set on Azure, or of it what the local workspace obeys."""
    return [setting for setting in SETTINGS if setting.local or not local]


def find_default(
    setting: Setting, running: Mapping[str, int], where: str = "", *, local: bool = False
) -> tuple[int, str]:
    """Return the value to begin with and its origin: as it runs now (`where`), this machine's, lesson's, service's."""
    if setting.name in running:
        return running[setting.name], f"runs now{f' on {where}' if where else ''}"
    if local and setting.here is not None:
        return setting.here, "this machine"
    return (setting.service, "service") if setting.lesson is None else (setting.lesson, "lesson")


def check_settings(values: Mapping[str, int], instances: int) -> None:
    """Raise BadInput for a value that the service refuses."""
    if not 1 <= instances <= MOST_INSTANCES:
        raise BadInput(f"A deployment has 1 to {MOST_INSTANCES} instances, not {instances}.", "Change their number.")
    for name, value in values.items():
        setting = BY_NAME[name]
        if value < 1 or value > (setting.most or value):
            rule = f"1 to {setting.most}" if setting.most else "at least 1"
            raise BadInput(f"'{setting.label}' is {rule}, not {value}.", "Change it, then deploy.")


def describe_patience(values: Mapping[str, int]) -> str:
    """Return how long a container may take to load its model before it is given up, in words."""
    delay, period, failures = (
        values[f"{LIVENESS}.{field}"] for field in ("initial_delay", "period", "failure_threshold")
    )
    minutes = (delay + period * failures) / 60
    return (
        f"The container has about {minutes:.0f} min to load its model: {delay} s, then {failures} probes {period} s "
        "apart."
    )


def to_sdk(values: Mapping[str, int]) -> dict[str, Any]:
    """Return the settings as ManagedOnlineDeployment takes them; what is not among `values` is the lesson's.

    What neither sets is not sent, so that the service's own default stands.
    """
    from azure.ai.ml.entities import OnlineRequestSettings, ProbeSettings

    wanted: dict[str, dict[str, int]] = {}
    for setting in SETTINGS:
        value = values.get(setting.name, setting.lesson)
        if value is not None:
            wanted.setdefault(setting.part, {})[setting.field] = value * setting.scale
    kinds = {REQUESTS: OnlineRequestSettings, LIVENESS: ProbeSettings, READINESS: ProbeSettings}
    return {part: kinds[part](**fields) for part, fields in wanted.items()}


def from_sdk(deployment: Any) -> dict[str, int]:
    """Return the settings of a deployment as the service tells them."""
    found = {setting: getattr(getattr(deployment, setting.part, None), setting.field, None) for setting in SETTINGS}
    return {setting.name: int(value) // setting.scale for setting, value in found.items() if value}

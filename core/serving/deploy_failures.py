"""Why a deployment did not come up: the stage it failed at, the cause and the next step, from a table of known causes.

Sources: Azure's guide to troubleshooting online endpoints (codes and texts), what containers write when they end.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum

from core.azureml.connection import Connection
from core.errors import ServiceRefused, TunedeckError
from core.serving.endpoints import EndpointView, read_deployment_log

LOG_LINES = 40


class Stage(StrEnum):
    """How far a deployment was when it failed, as it is shown."""

    REQUEST = "the request"
    MACHINES = "the machines"
    IMAGE = "the image"
    MODEL = "the download of the model"
    CONTAINER = "the start of the container"
    PROBES = "the probes"
    TRAFFIC = "the traffic"


@dataclass(frozen=True)
class Cause:
    """One known cause. said: searched in the service's words; logged: in the container's logs; "" fits any.

    message: {said} is the service's own sentence, {told} Tunedeck's of it, {line} the line of the log. hint: {hint} is
    Tunedeck's of the service's answer.
    """

    stage: Stage
    message: str
    hint: str
    said: str = ""
    logged: str = ""


_CRASHED = r"ResourceNotReady|container has crashed|BadArgument|InternalServerError|is failed"
_SMALLER = "Delete a deployment that is not used, take a smaller size or fewer instances, or ask for quota."
_LARGER = "Take a size with more memory, then deploy again."
_READ_LOG = "Read the log of the container, mend what it says, then deploy again."
CAUSES: tuple[Cause, ...] = (
    Cause(
        Stage.REQUEST,
        "{told}",
        "{hint}",
        r"(Missing)?Subscription(Not)?Regist|RequestDisallowedByPolicy|AuthorizationFailed|not have authorization to"
        r"|ScopeLocked|private link configuration",
    ),
    Cause(
        Stage.REQUEST,
        "the subscription was not found, or is not active.",
        "Check its id, and whether it is active.",
        r"SubscriptionNotFound|subscription .{0,80}(not exist|not be found|is disabled)|ReadOnlyDisabledSubscription",
    ),
    Cause(
        Stage.REQUEST,
        "the subscription holds as many of them as it may: {said}",
        "Delete what is not used of it, or ask for a higher limit.",
        r"RoleAssignmentLimit|role assignment.{0,40}(limit|quota)|(endpoint|deployment)s? (count )?(limit|quota)",
    ),
    Cause(
        Stage.MODEL,
        "the model is larger than the free disk of this size.",
        "Take a size with a larger disk, then deploy again.",
        r"No space left on device|OutOfQuota.*disk",
    ),
    Cause(Stage.CONTAINER, "the model needs more memory than this size has.", _LARGER, r"OutOfQuota.*memory"),
    Cause(
        Stage.MACHINES,
        "no machine of this size is free in the region. It is no matter of quota.",
        "Try again later, or take another size or region.",
        r"OutOfCapacity|insufficient capacity|lack of .{0,40}capacity|AllocationFailed|SkuNotAvailable",
    ),
    Cause(Stage.MACHINES, "{told}", _SMALLER, r"quota available|OutOfQuota|QuotaExceeded"),
    Cause(
        Stage.IMAGE,
        "the workspace's container registry refused the sign-in.",
        "Run `az ml workspace sync-keys`, then try again.",
        r"container registry authorization failure",
    ),
    Cause(
        Stage.IMAGE,
        "the registry is private, and the image is built outside of its network.",
        "Set a compute that builds images: `az ml workspace update --image-build-compute`, then try again.",
        r"failed to communicate with the workspace's container registry",
    ),
    Cause(
        Stage.IMAGE,
        "the image could not be built: {said}",
        "Read the build log that the details name: two packages do not fit each other, or it took too long. Try again.",
        r"ImageBuildFailure",
    ),
    Cause(
        Stage.IMAGE,
        "the image could not be fetched: {said}",
        "Look whether it is in the container registry, can be reached there, and the endpoint's identity has AcrPull.",
        r"download user container image|ImagePull|container registry (is private|authorization error)",
    ),
    Cause(
        Stage.MODEL,
        "the endpoint's identity may not read the model.",
        "Give it Storage Blob Data Reader on the workspace's storage account and AcrPull on its registry; such a role "
        "takes some minutes to count. Then try again.",
        r"authorization error|incorrect role assignments",
    ),
    Cause(
        Stage.MODEL,
        "the storage account refused the endpoint's identity: {line}",
        "Give it Storage Blob Data Reader there; such a role takes some minutes to count. Then try again.",
        logged=r"AuthorizationPermissionMismatch|AuthorizationFailure|not authorized to perform this operation",
    ),
    Cause(
        Stage.MODEL,
        "the model's files were not found.",
        "Look whether the registered model still has its files, and register it again if not.",
        r"download user model",
    ),
    Cause(
        Stage.MODEL,
        "the model's files were not found: {line}",
        "Register the model again: its files were deleted or moved.",
        logged=r"BlobNotFound|specified blob does not exist",
    ),
    Cause(
        Stage.MACHINES,
        "the workspace's managed network is not made yet.",
        "Run `az ml workspace provision-network`, wait for its end, then try again.",
        r"WorkspaceManagedNetworkNotReady",
    ),
    Cause(
        Stage.REQUEST,
        "another change of this endpoint took precedence.",
        "Wait a minute, then try again.",
        r"Operation(was)?Cancel",
    ),
    Cause(
        Stage.CONTAINER,
        "a secret that the container asks for could not be read.",
        "Give the endpoint's identity access to the workspace's connections or the key vault, then try again.",
        r"SecretsInjectionError",
    ),
    Cause(
        Stage.REQUEST,
        "something that the deployment names was not found: {said}",
        "Look whether the model and its environment still exist.",
        r"ResourceNotFound",
    ),
    Cause(
        Stage.CONTAINER,
        "the model does not fit into memory: {line}",
        _LARGER,
        _CRASHED,
        r"CUDA out of memory|OutOfMemoryError|MemoryError|out of memory|OOMKilled|exit (?:code|status) 137",
    ),
    Cause(
        Stage.CONTAINER,
        "its image lacks a Python package: {line}",
        "Register the model with an environment that has it, then deploy again.",
        _CRASHED,
        r"ModuleNotFoundError|ImportError|No module named",
    ),
    Cause(
        Stage.CONTAINER, "the container ended by itself: {line}", _READ_LOG, _CRASHED, r"^[\w.]*(?:Error|Exception): "
    ),
    Cause(
        Stage.PROBES,
        "the container did not answer its probes in time: {said}",
        "Read its log. If it was still loading the model, raise 'First probe after' or 'Failures in a row', "
        "then deploy again.",
        r"liveness|readiness|probes?\b",
    ),
    Cause(
        Stage.CONTAINER,
        "the container ended by itself: {said}",
        _READ_LOG,
        r"ResourceNotReady|container has crashed",
    ),
    Cause(Stage.TRAFFIC, "{said}", "Look whether the deployment is up, then try again.", r"\btraffic\b"),
    Cause(
        Stage.MACHINES,
        "Azure failed on its own side.",
        "Try again. If it stays so, ask Azure's support with the request id in the details.",
        r"InternalServerError",
    ),
    Cause(Stage.CONTAINER, "{told}", "{hint}"),
)


def explain_failure(
    conn: Connection, endpoint: str, error: TunedeckError, otherwise: Stage = Stage.CONTAINER
) -> ServiceRefused:
    """Return what an operator reads of a deployment that failed, with the ends of its logs in the details.

    otherwise: the stage it was at, for a cause that is not in the table.
    """
    logs = "\n".join(filter(None, (_read_log(conn, endpoint, storage) for storage in (True, False))))
    cause, line = find_cause(f"{error.message}\n{error.detail}", logs)
    words = cause.message.format(said=_read_sentence(error), told=error.message, line=line).rstrip(".")
    stage = otherwise if cause is CAUSES[-1] else cause.stage
    return ServiceRefused(
        f"'{endpoint}' failed at {stage}: {words}.",
        cause.hint.format(hint=error.hint or "The details and the log hold the service's own words."),
        "\n".join(filter(None, (error.detail, logs))),
    )


def explain_state(conn: Connection, endpoint: str) -> ServiceRefused:
    """Return why a deployment is failed whose operation nobody here heard end: its logs are all there is."""
    return explain_failure(conn, endpoint, ServiceRefused("Its deployment is failed."))


def find_cause(said: str, logs: str) -> tuple[Cause, str]:
    """Return the first cause that fits, and the line of the logs that tells it; the last one fits everything."""
    for cause in CAUSES:
        lines = re.findall(f"(?m)^.*?(?:{cause.logged}).*$", logs) if cause.logged else [""]
        if lines and re.search(cause.said, said, re.IGNORECASE | re.DOTALL):
            return cause, lines[-1].strip()[:200]
    raise AssertionError("the last cause fits")


def describe_billing(conn: Connection, endpoint: EndpointView | None) -> str:
    """Say what of a failed deploy still bills."""
    held = " and ".join(f"{one.instances} × {one.size}" for one in endpoint.deployments) if endpoint else ""
    if not held:
        return "No machine is held for it, so nothing of it bills."
    if not conn.costs_money:
        return f"It holds {held} until it is deleted; this machine bills nothing."
    return f"It holds {held}, which bills until it is deleted, failed or not."


def _read_sentence(error: TunedeckError) -> str:
    """Return the service's own message from the answer in the details; Tunedeck's where there is none."""
    found = re.search(r'"message":\s*("(?:[^"\\]|\\.)*")', error.detail)
    return str(json.loads(found[1])).strip().partition("\n")[0][:300] if found else error.message


def _read_log(conn: Connection, endpoint: str, storage: bool) -> str:
    try:
        return read_deployment_log(conn, endpoint, LOG_LINES, storage)
    except TunedeckError as error:  # why the container did not start must not be lost with its log
        return f"Its log could not be read: {error.message}"

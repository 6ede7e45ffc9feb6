"""Proves, step by step, that a workspace can be used, before anything is wanted of it. Changes nothing."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from core import home as homes
from core.azureml import cloud as clouds
from core.azureml import connection as connections
from core.azureml.connection import Connection
from core.azureml.identities import Identity, SignIn
from core.azureml.local_process import ensure_local
from core.azureml.service_errors import explain, read_refusal
from core.azureml.settings import Settings
from core.errors import ServiceRefused, TunedeckError

_PERMISSIONS_API = "2022-04-01"
# What a role must allow, by what an operator does with it.
_ACTIONS = {
    "Start runs": "Microsoft.MachineLearningServices/workspaces/jobs/write",
    "Register models": "Microsoft.MachineLearningServices/workspaces/models/versions/write",
    "Deploy": "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/deployments/write",
    "Create compute": "Microsoft.MachineLearningServices/workspaces/computes/write",
}
NEEDED = ("Sign-in", "Workspace")  # without these nothing can be done; without another, something cannot
_ROLES = {"Create compute": "AzureML Compute Operator, or Contributor"}  # AzureML Data Scientist leaves it out


@dataclass(frozen=True)
class AccessLine:
    """One step of proving access. detail: a sentence; service: what the service itself said, to be shown folded."""

    title: str
    state: Literal["ok", "failed", "skipped"]
    detail: str = ""
    hint: str = ""
    service: str = ""


OnLine = Callable[[AccessLine], None]


def check_access(
    settings: Settings, *, sign_in: SignIn | None = None, on_line: OnLine | None = None
) -> list[AccessLine]:
    """Prove, step by step, that a workspace can be used; blocks. The local one is started if it does not run.

    `on_line` hears each line as it is known. With `sign_in` the operator signs in, whatever identity the machine has;
    the workspace is used as before until that has been done.
    """
    if settings.kind == "local":
        try:
            ensure_local()
        except TunedeckError as error:
            failed = AccessLine("Local workspace", "failed", error.message, error.hint, error.detail)
            if on_line:
                on_line(failed)
            return [failed]
    if sign_in is None:
        return prove_access(connections.connect(settings), on_line)
    conn = Connection(settings, homes.current(), sign_in)
    lines = prove_access(conn, on_line)
    if lines[0].state == "ok":
        connections.keep(conn)
    return lines


def prove_access(conn: Connection, on_line: OnLine | None = None) -> list[AccessLine]:
    """Return one line per step; `on_line` hears each as soon as it is known. A failed sign-in skips the rest."""
    lines: list[AccessLine] = []

    def add(line: AccessLine) -> None:
        lines.append(line)
        if on_line:
            on_line(line)

    blocked = False
    for title, step in _steps(conn):
        if blocked:
            line = AccessLine(title, "skipped", "Not tried: an earlier step failed.")
        else:
            line = _try(title, step)
            # Without a sign-in or a workspace the later steps would fail for the same reason.
            blocked = line.state == "failed" and title in NEEDED
        add(line)
        for identity in conn.credential.identities if title == "Sign-in" else ():
            add(_identity_line(conn, identity))
    for line in _prove_roles(conn) if conn.costs_money and not blocked else []:
        add(line)
    return lines


def can_be_used(lines: Iterable[AccessLine]) -> bool:
    """Tell whether a workspace can be worked with, even if its role lacks some permissions."""
    return all(line.state == "ok" for line in lines if line.title in NEEDED or line.title == "Local workspace")


def _steps(conn: Connection) -> list[tuple[str, Callable[[], str]]]:
    return [
        ("Sign-in", lambda: _sign_in(conn)),
        ("Workspace", lambda: _workspace(conn)),
        ("Registry", lambda: _registry(conn)),
        ("Compute", lambda: _computes(conn)),
        ("Storage", lambda: _storage(conn)),
    ]


def _try(title: str, step: Callable[[], str]) -> AccessLine:
    try:
        return AccessLine(title, "ok", step())
    except TunedeckError as error:
        return AccessLine(title, "failed", error.message, error.hint, error.detail)


def _sign_in(conn: Connection) -> str:
    conn.credential.look_anew()  # another account may have signed in since
    claims = clouds.read_claims(conn.call("read", "the sign-in", conn.credential.get_token, conn.cloud.scope).token)
    until = clouds.expiry_of(claims)
    valid = f", token valid until {until:%H:%M} UTC" if until else ""
    return f"Signed in as {clouds.whom(claims)} by {conn.credential.source}, tenant {claims.get('tid')}{valid}."


def _identity_line(conn: Connection, identity: Identity) -> AccessLine:
    """Say what one source of identities of this machine answered; none of them has to."""
    if identity.credential:
        return AccessLine(identity.source, "ok", f"{identity.account}, tenant {identity.tenant}.")
    if not identity.refused:
        return AccessLine(identity.source, "skipped", "No identity here.", service=identity.problem)
    cause = explain(read_refusal(identity.problem), conn.place, "read", "the sign-in")
    return AccessLine(identity.source, "skipped", cause.message, cause.hint, identity.problem)


def _workspace(conn: Connection) -> str:
    facts = conn.facts()
    return f"'{facts.name}' in {facts.region}." + (f" {facts.machine}." if facts.machine else "")


def _registry(conn: Connection) -> str:
    group = conn.registry.resource_group_name  # asked of the registry when its client is built
    return f"'{conn.settings.registry_name}' answers ({group})."


def _computes(conn: Connection) -> str:
    found = conn.call("read", "computes", lambda: list(conn.workspace.compute.list()))
    return f"{len(found)} found." if found else "None yet; one can be created."


def _storage(conn: Connection) -> str:
    container, datastore = conn.blobs()
    conn.call("read", f"the datastore '{datastore}'", container.get_container_properties)
    return f"Datastore '{datastore}' can be read."


def _prove_roles(conn: Connection) -> list[AccessLine]:
    """Ask Azure which actions the signed-in identity may take on this workspace."""
    try:
        answer = conn.http(
            "GET",
            f"{conn.workspace_path}/providers/Microsoft.Authorization/permissions",
            params={"api-version": _PERMISSIONS_API},
            what="your roles",
        ).json()
    except ServiceRefused as error:
        return [AccessLine("Roles", "skipped", f"They could not be read: {error.message}")]
    except TunedeckError as error:
        return [AccessLine("Roles", "failed", error.message, error.hint, error.detail)]
    return [_role_line(title, is_allowed(action, answer.get("value", []))) for title, action in _ACTIONS.items()]


def _role_line(title: str, allowed: bool) -> AccessLine:
    if allowed:
        return AccessLine(title, "ok", "Your role allows it.")
    role = _ROLES.get(title, "AzureML Data Scientist")
    return AccessLine(title, "failed", "Your role does not allow it.", f"Ask its owner for the role {role}.")


def is_allowed(action: str, permissions: Iterable[Mapping[str, Any]]) -> bool:
    """Tell whether one of the roles allows an action and does not take it away again; "*" stands for anything."""
    wanted = action.lower()

    def names(role: Mapping[str, Any], kind: str) -> bool:
        return any(fnmatch.fnmatchcase(wanted, str(pattern).lower()) for pattern in role.get(kind) or [])

    return any(names(role, "actions") and not names(role, "notActions") for role in permissions)

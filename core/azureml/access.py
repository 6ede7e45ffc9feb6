"""Proves, step by step, that a workspace can be used, before anything is wanted of it. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from core import home as homes
from core.azureml import cloud as clouds
from core.azureml import connection as connections
from core.azureml.connection import Connection
from core.azureml.identities import AzureCredential, Identity
from core.azureml.local_process import ensure_local
from core.azureml.places import kind_of
from core.azureml.roles import ACTIONS, list_lacking, role_for
from core.azureml.service_errors import explain, read_answer, read_refusal
from core.azureml.settings import Settings
from core.errors import AccessDenied, BadInput, NotFound, ServiceRefused, TunedeckError

_PERMISSIONS_API, _PROVIDERS_API, _WORKSPACES_API = "2022-04-01", "2021-04-01", "2024-10-01-preview"
NEEDED = ("Sign-in", "Workspace")  # without these nothing can be done; without another, something cannot
# Without one of these in the subscription, what is made with it is refused; the last two are for endpoints.
_PROVIDERS = (
    "MachineLearningServices",
    "Storage",
    "KeyVault",
    "ContainerRegistry",
    "Insights",
    "PolicyInsights",
    "Cdn",
)


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
    settings: Settings, *, credential: AzureCredential | None = None, on_line: OnLine | None = None
) -> list[AccessLine]:
    """Prove, step by step, that a workspace can be used; blocks. The local one is started if it does not run.

    `on_line` hears each line as it is known. With `credential` it is used in place of the machine's identity, from
    then on where its token can be had.
    """
    if settings.kind == "local":
        try:
            ensure_local()
        except TunedeckError as error:
            failed = AccessLine("Local workspace", "failed", error.message, error.hint, error.detail)
            if on_line:
                on_line(failed)
            return [failed]
    if credential is None:
        return prove_access(connections.connect(settings), on_line)
    conn = Connection(settings, homes.current(), credential)
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
    for line in _prove_surroundings(conn) if conn.costs_money and not blocked else []:
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
    oid = f", object {claims['oid']}" if conn.costs_money and claims.get("oid") else ""
    return f"Signed in as {clouds.whom(claims)} by {conn.credential.source}, tenant {claims.get('tid')}{oid}{valid}."


def _identity_line(conn: Connection, identity: Identity) -> AccessLine:
    """Say what one source of identities of this machine answered; none of them has to."""
    if identity.credential:
        return AccessLine(identity.source, "ok", f"{identity.account}, tenant {identity.tenant}.")
    if not identity.refused:
        return AccessLine(identity.source, "skipped", "No identity here.", service=identity.problem)
    cause = explain(read_refusal(identity.problem), conn.place, "read", "the sign-in")
    who = f"{identity.account}: " if identity.account else ""
    return AccessLine(identity.source, "skipped", who + cause.message, cause.hint, identity.problem)


def _workspace(conn: Connection) -> str:
    facts = conn.facts()
    kind = kind_of(facts.kind)
    if kind.advice:
        raise BadInput(f"'{facts.name}' is a {kind.words[0].lower()}{kind.words[1:]}.", kind.advice)
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


def _prove_surroundings(conn: Connection) -> Iterator[AccessLine]:
    """Tell what Azure alone has: networks, providers and roles. What a role may not read there keeps from nothing."""
    for title, look in (("Network", _network), ("Resource providers", _providers), ("Roles", prove_roles)):
        try:
            yield from look(conn)
        except (AccessDenied, NotFound, ServiceRefused) as error:
            yield AccessLine(title, "skipped", f"Not readable: {error.message}", service=error.detail)
        except TunedeckError as error:
            yield AccessLine(title, "failed", error.message, error.hint, error.detail)


def _network(conn: Connection) -> list[AccessLine]:
    told = _get(conn, conn.workspace_path, _WORKSPACES_API, "the workspace's network").get("properties") or {}
    detail, hint = "Public network access is on.", ""
    if str(told.get("publicNetworkAccess")).lower() == "disabled":
        detail = "Private: public network access is off."
        hint = "It answers this machine only while this machine is in that network, or joined to it by VPN."
    elif told.get("ipAllowlist"):
        detail = f"Public network access is on for {', '.join(told['ipAllowlist'])} alone."
    mode = str((told.get("managedNetwork") or {}).get("isolationMode") or "Disabled")
    if mode == "AllowOnlyApprovedOutbound":
        detail += " Its computes reach only what its owner approved: the models' registry has to be among that."
    elif mode != "Disabled":
        detail += f" Its computes are in a managed network ({mode})."
    return [AccessLine("Network", "ok", detail, hint)]


def _providers(conn: Connection) -> list[AccessLine]:
    path = f"/subscriptions/{conn.settings.subscription_id}/providers/"

    def read(name: str) -> str:
        return str(_get(conn, path + name, _PROVIDERS_API, name).get("registrationState"))

    names = [f"Microsoft.{provider}" for provider in _PROVIDERS]
    with ThreadPoolExecutor(len(names)) as pool:
        states = dict(zip(names, pool.map(read, names), strict=True))
    lacking = [name for name, state in states.items() if state.lower() != "registered"]
    if not lacking:
        return [AccessLine("Resource providers", "ok", f"{len(states)} registered.")]
    refused = read_answer(409, {}, f"MissingSubscriptionRegistration: namespace '{lacking[0]}'")
    error = explain(refused, conn.place, "use", lacking[0])
    return [AccessLine("Resource providers", "failed", f"Not registered: {', '.join(lacking)}.", error.hint)]


def prove_roles(conn: Connection) -> list[AccessLine]:
    """Ask Azure which actions the signed-in identity may take on this workspace."""
    path = f"{conn.workspace_path}/providers/Microsoft.Authorization/permissions"
    permissions = _get(conn, path, _PERMISSIONS_API, "your roles").get("value", [])
    who = clouds.whom(clouds.read_claims(conn.credential.get_token(conn.cloud.scope).token))
    return [role_line(doing, list_lacking(doing, permissions), who) for doing in ACTIONS]


def role_line(doing: str, lacking: list[str], who: str) -> AccessLine:
    """Return the line of one of roles.ACTIONS. lacking: its actions that no role allows."""
    if not lacking:
        return AccessLine(doing, "ok", f"Allowed to {who}.")
    roles = "; and ".join(dict.fromkeys(map(role_for, lacking)))
    hint = f"Ask its owner for the role {roles}."
    return AccessLine(doing, "failed", f"Not allowed to {who}.", hint, "\n".join(lacking))


def _get(conn: Connection, path: str, version: str, what: str) -> dict[str, Any]:
    return dict(conn.http("GET", path, params={"api-version": version}, what=what).json())

"""Datastores: the workspace's own two with their secrets, and containers elsewhere, which are kept and given back.

The files of those lie on Azure: what runs here reads and writes the default datastore alone.
"""

from __future__ import annotations

import base64
import binascii
import re
from datetime import timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from core.home import RESOURCE_GROUP, SUBSCRIPTION_ID
from core.local.blobs import ARTIFACT_CONTAINER, ARTIFACT_DATASTORE, CONTAINER, CONTAINER_NAME, DATASTORE
from core.local.store import Document
from core.local.wire import answers, storage_key
from core.local.wire.answers import PROVIDER, WORKSPACE_PATH, route
from core.local.wire.errors import WireError
from core.local.workspace import workspace_of

KIND = "datastore"
OWN = {DATASTORE: CONTAINER, ARTIFACT_DATASTORE: ARTIFACT_CONTAINER}  # the default one first
LONGEST_SAS_HOURS = 7 * 24

# What a credential is, and the secret of it; the SDK has more of them, for services that are not blobs.
_SECRETS = {"None": "", "AccountKey": "key", "Sas": "sasToken"}
_NAME = re.compile(r"[A-Za-z0-9_]{1,255}")
_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")


def list_datastores(request: Request) -> dict[str, Any]:
    """GET the datastores, the default one first; `isDefault` leaves the others out, or that one."""
    asked = request.query_params.get("isDefault", "").lower()
    kept = workspace_of(request).store.list(KIND)
    shown = [*(_own_to_wire(request, name) for name in OWN), *map(_to_wire, kept)]
    wanted = {"true": shown[:1], "false": shown[1:]}.get(asked, shown)
    return answers.paged(request, wanted)


def get_datastore(request: Request) -> dict[str, Any]:
    """GET one datastore."""
    name = answers.name_of(request, "name")
    return _own_to_wire(request, name) if name in OWN else _to_wire(_require(request))


def put_datastore(request: Request) -> Response:
    """PUT a datastore: keep where a container is and what opens it; nothing is asked there, as with skipValidation."""
    store, name = workspace_of(request).store, _changeable(request)
    current = store.get(KIND, name)
    document = store.put(KIND, name, _from_wire(name, answers.read_json(request), current or {}))
    return answers.JsonAnswer(_to_wire(document), 201 if current is None else 200)


def delete_datastore(request: Request) -> Response:
    """DELETE a datastore; what it names stays as it is."""
    gone = workspace_of(request).store.delete(KIND, _changeable(request))
    return Response(status_code=200 if gone else 204)


def list_secrets(request: Request) -> dict[str, Any]:
    """POST for the secret: of the own ones a signature that expires, or the account key; of others what was put."""
    body = answers.read_json(request)
    if own := OWN.get(answers.name_of(request, "name")):
        return _own_secret(request, own, body)
    document = _require(request)
    if not document["secret"]:
        raise WireError(400, "UserError", f"The datastore '{document['name']}' has no credential: identity opens it.")
    return {"secretsType": document["opened_by"], _SECRETS[document["opened_by"]]: document["secret"]}


def _own_secret(request: Request, container: str, body: dict[str, Any]) -> dict[str, Any]:
    key = storage_key.derive(workspace_of(request).home.secret())
    if not answers.field_of(body, "expirableSecret", bool, False):
        return {"secretsType": "AccountKey", "key": storage_key.encode(key)}
    hours = answers.field_of(body, "expireAfterHours", int, 1)
    if not 1 <= hours <= LONGEST_SAS_HOURS:
        raise WireError(400, "BadRequest", f"expireAfterHours must be 1 to {LONGEST_SAS_HOURS}, not {hours}.")
    sas = storage_key.make_container_sas(key, container, timedelta(hours=hours))
    return {"secretsType": "Sas", "sasToken": sas}


def _require(request: Request) -> Document:
    return workspace_of(request).store.require(KIND, answers.name_of(request, "name"))


def _changeable(request: Request) -> str:
    """Return the name of a datastore that is not the workspace's own; raises 400."""
    name = answers.name_of(request, "name")
    if name in OWN:
        raise WireError(400, "UserError", f"'{name}' is the workspace's own: it is neither changed nor deleted.")
    if not _NAME.fullmatch(name):
        raise WireError(400, "UserError", f"'{name}': a datastore's name has letters, digits and '_' only.")
    return name


def _from_wire(name: str, body: dict[str, Any], current: Document) -> Document:
    """Read a PUT; a secret that is not sent again stays. Raises 400."""
    asked = answers.field_of(body, "properties", dict, {})
    sort = answers.field_of(asked, "datastoreType", str, "")
    if sort != "AzureBlob":
        raise WireError(400, "UserError", f"The local workspace keeps datastores of type AzureBlob only, not '{sort}'.")
    account, container = (answers.field_of(asked, each, str, "") for each in ("accountName", "containerName"))
    if not _ACCOUNT.fullmatch(account):
        raise WireError(400, "UserError", f"'{account}' is no storage account: 3 to 24 small letters and digits.")
    if not CONTAINER_NAME.fullmatch(container):
        raise WireError(400, "UserError", f"'{container}' is no container: 3 to 63 small letters, digits and hyphens.")
    opened_by, secret = _read_credentials(asked)
    kept = current.get("secret", "") if current.get("opened_by") == opened_by else ""
    if opened_by != "None" and not (secret or kept):
        raise WireError(400, "UserError", f"A credential of type {opened_by} needs its {_SECRETS[opened_by]}.")
    return {
        "name": name,
        "account": account,
        "container": container,
        "endpoint": answers.field_of(asked, "endpoint", str, "core.windows.net"),
        "protocol": answers.field_of(asked, "protocol", str, "https"),
        "description": answers.field_of(asked, "description", str),
        "tags": answers.strings_of(asked, "tags"),
        "properties": answers.strings_of(asked, "properties"),
        "opened_by": opened_by,
        "secret": secret or kept,
    }


def _read_credentials(asked: dict[str, Any]) -> tuple[str, str]:
    given = answers.field_of(asked, "credentials", dict, {})
    sort = answers.field_of(given, "credentialsType", str, "None")
    if sort not in _SECRETS:
        known = ", ".join(_SECRETS)
        raise WireError(400, "UserError", f"The local workspace keeps credentials of type {known}, not '{sort}'.")
    secret = (
        answers.field_of(answers.field_of(given, "secrets", dict, {}), _SECRETS[sort], str, "")
        if sort != "None"
        else ""
    )
    if sort == "AccountKey":
        try:
            base64.b64decode(secret, validate=True)
        except (binascii.Error, ValueError) as error:
            raise WireError(400, "UserError", "The account key is not base64.") from error
    return sort, secret


def _to_wire(document: Document) -> dict[str, Any]:
    return _wire_of(
        document,
        isDefault=False,
        credentials={"credentialsType": document["opened_by"]},
        accountName=document["account"],
        containerName=document["container"],
        endpoint=document["endpoint"],
        protocol=document["protocol"],
    )


def _own_to_wire(request: Request, name: str) -> dict[str, Any]:
    """Return an own datastore, whose account is addressed as the listener that was asked wants it (storage_key.py)."""
    started_at = workspace_of(request).started_at
    host, over_tls = request.headers["host"], request.url.scheme == "https"
    own: Document = {"name": name, "description": None, "tags": {}, "properties": {}}
    return _wire_of(
        {**own, "created_at": started_at, "modified_at": started_at},
        isDefault=name == DATASTORE,
        credentials={"credentialsType": "AccountKey"},
        accountName=f"{host}/{storage_key.ACCOUNT}" if over_tls else storage_key.ACCOUNT,
        containerName=OWN[name],
        endpoint=storage_key.SUFFIX if over_tls else host,
        protocol=request.url.scheme,
    )


def _wire_of(document: Document, **properties: Any) -> dict[str, Any]:
    return {
        "id": answers.arm_id("datastores", document["name"]),
        "name": document["name"],
        "type": f"{PROVIDER}/workspaces/datastores",
        "properties": {
            "datastoreType": "AzureBlob",
            **properties,
            "subscriptionId": SUBSCRIPTION_ID,
            "resourceGroup": RESOURCE_GROUP,
            "description": document["description"],
            "serviceDataAccessAuthIdentity": "None",
            "tags": document["tags"],
            "properties": document["properties"],
        },
        "systemData": answers.system_data(document["created_at"], document["modified_at"]),
    }


_BASE = f"{WORKSPACE_PATH}/datastores"
ROUTES = [
    route(_BASE, list_datastores),
    route(f"{_BASE}/{{name}}", get_datastore),
    route(f"{_BASE}/{{name}}", put_datastore, "PUT"),
    route(f"{_BASE}/{{name}}", delete_datastore, "DELETE"),
    route(f"{_BASE}/{{name}}/listSecrets", list_secrets, "POST"),
]

"""`verify FILE.json`: what a file of Tunedeck says is held against the workspace of today, a line for each claim."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from core.azureml.addresses import CLOUDS
from core.azureml.connection import Connection
from core.azureml.settings import Settings, find_settings, list_settings, make_settings
from core.errors import BadInput
from core.operations.receipt_check import check_receipt
from core.serving.lineage import SCHEMA, parse_lineage
from core.serving.lineage_check import Claim, check_lineage
from core.teardown import receipts

_WORKSPACE = re.compile(
    r"/subscriptions/([^/]+)/resourceGroups/([^/]+)/providers/[^/]+/workspaces/([^/]+)", re.IGNORECASE
)
_LARGEST = 64_000_000  # bytes of a file


def read_file(path: Path) -> Mapping[str, Any]:
    """Return the JSON object in a file; raises BadInput where there is none, or of a kind that is not verified."""
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(_LARGEST))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(
            f"'{path}' cannot be read as JSON.", "Take the file as it was downloaded.", repr(error)
        ) from error
    if isinstance(document, dict) and "schema" not in document and {"gone", "removed"} & document.keys():
        document["schema"] = receipts.SCHEMA  # from before receipts said so
    if not isinstance(document, dict) or document.get("schema") not in CHECKS:
        raise BadInput(f"'{path}' is none of the files that are verified.", f"They are: {', '.join(CHECKS)}.")
    return document


def verify(conn: Connection, document: Mapping[str, Any]) -> Iterator[Claim]:
    """Yield what became of each claim of a file that `read_file` returned."""
    yield from CHECKS[document["schema"]](conn, document)


def find_place(document: Mapping[str, Any]) -> Settings:
    """Return the workspace that a file names: one of this home, or one of a cloud that is known; else BadInput."""
    workspace, manager = str(document.get("workspace", "")), str(document.get("resource_manager", ""))
    named = _WORKSPACE.fullmatch(workspace)
    ids = tuple(part.lower() for part in named.groups()) if named else ()
    for known in list_settings():
        if ids == tuple(map(str.lower, (known.subscription_id, known.resource_group, known.workspace_name))):
            return known
    if not workspace and (alone := find_settings(str(document.get("connection")))):
        return alone
    cloud = next((each for each in CLOUDS.values() if each.resource_manager == manager), None)
    if named is None or cloud is None:
        raise BadInput("The file's workspace is not known here.", "Connect to it, or name it with --at.", workspace)
    subscription, group, name = named.groups()
    return make_settings(subscription, group, name, cloud=cloud)


def _check_lineage(conn: Connection, document: Mapping[str, Any]) -> Iterator[Claim]:
    return check_lineage(conn, parse_lineage(document))


def _check_receipt(conn: Connection, document: Mapping[str, Any]) -> Iterator[Claim]:
    try:
        receipt = receipts.parse_receipt(json.dumps(document))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            "The file is not a receipt that this Tunedeck reads.", "Take it as it was kept.", repr(error)
        ) from error
    return check_receipt(conn, receipt)


CHECKS: Mapping[str, Callable[[Connection, Mapping[str, Any]], Iterator[Claim]]] = {
    SCHEMA: _check_lineage,
    receipts.SCHEMA: _check_receipt,
}

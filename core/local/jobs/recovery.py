"""Finishes what the server before did not live to end: operations and deletions.

Jobs, deployments and computes are taken up by those who run them; here is what lies between a document and the answer
to who polls for it. Called once, before anything else of the home works.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from core.local.compute import Compute
from core.local.endpoints.resources import Deployment, Endpoint
from core.local.operation import Operation
from core.local.store import Document, Store
from core.local.wire import answers
from core.local.wire.errors import WireError

KEPT_OPERATIONS_S = 24 * 3600
DELETION = "deletion"


def recover(store: Store) -> None:
    """Finish deletions of files, end operations that nobody works on any more, forget those of long ago."""
    for intent in store.list(DELETION):
        finish_deletion(store, intent)
    _settle_operations(store)


def begin_deletion(store: Store, kind: str, key: str, files: Path | None, runs: Sequence[str] = ()) -> Document:
    """Record that a document, its files and what was measured on `runs` are to go, before any of it does."""
    intent = {"kind": kind, "key": key, "files": str(files) if files else "", "runs": list(runs)}
    return store.put(DELETION, f"{kind}/{key}", intent)


def finish_deletion(store: Store, intent: Document) -> None:
    """Delete what an intent names; each part may be gone already."""
    store.delete(intent["kind"], intent["key"])
    store.forget_measured(intent.get("runs", ()))
    if intent["files"]:
        files = Path(intent["files"])
        if files.is_dir():
            shutil.rmtree(files)
        else:
            files.unlink(missing_ok=True)
    store.delete(DELETION, f"{intent['kind']}/{intent['key']}")


def _settle_operations(store: Store) -> None:
    oldest = (datetime.now(UTC) - timedelta(seconds=KEPT_OPERATIONS_S)).isoformat(timespec="microseconds")
    with store.transaction() as connection:
        connection.execute(
            "DELETE FROM documents WHERE kind = 'operation' AND modified_at < ? AND body NOT LIKE '%\"InProgress\"%'",
            (oldest,),
        )
        rows = connection.execute(
            "SELECT key FROM documents WHERE kind = 'operation' AND body LIKE '%\"InProgress\"%'"
        ).fetchall()
    for (operation,) in rows:
        settle_operation(store, operation)


def settle_operation(store: Store, operation: str) -> Operation:
    """Return an operation, ended as what it was about stands; one that is still worked on is left to who does.

    Whoever writes or deletes a resource need not know whose operation on it goes on.
    """
    begun = Operation.get(store, operation)
    if begun.status.finished:
        return begun
    resource = _find_target(store, begun.target)
    is_latest = resource is not None and resource.operation == operation
    if begun.deletes and not is_latest:  # gone, or gone and made anew
        answers.finish_operation(store, operation)
    elif resource is None or not is_latest:
        answers.finish_operation(store, operation, error=answers.superseded(begun.target))
    elif resource.state.failed:
        answers.finish_operation(store, operation, error=_failure_of(resource))
    elif resource.state.finished:
        answers.finish_operation(store, operation)
    return Operation.get(store, operation)


def _failure_of(resource: Compute | Endpoint | Deployment) -> WireError:
    """Return why a compute or a deployment failed."""
    code, message = None, None
    if isinstance(resource, Deployment):
        code, message = resource.error_code, resource.error
    elif isinstance(resource, Compute) and resource.errors:
        code, message = resource.errors[0]["code"], resource.errors[0]["message"]
    return WireError(400, code or "ResourceNotReady", message or "It failed.")


def _find_target(store: Store, target: str) -> Compute | Endpoint | Deployment | None:
    parts = target.removeprefix(answers.workspace_id()).strip("/").split("/")
    if parts[0] == "computes":
        return Compute.find(store, parts[1])
    if parts[0] == "onlineEndpoints":
        return Deployment.find(store, f"{parts[1]}/{parts[3]}") if len(parts) > 3 else Endpoint.find(store, parts[1])
    return None

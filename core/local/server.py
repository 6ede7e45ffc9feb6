"""The local workspace as a web application: routes put together, and a gate before all of them.

The gate's order: host and origin (403), credential (401), names of the workspace in the path (404), route (501 for an
unknown one).
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote
from xml.sax.saxutils import escape

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.engine.disk import is_disk_full
from core.errors import Conflict
from core.home import RESOURCE_GROUP, SUBSCRIPTION_ID, WORKSPACE_NAME, Home
from core.local import machine as machines
from core.local.endpoints.deployments import Deployments
from core.local.faults import Faults
from core.local.jobs import recovery
from core.local.jobs.runner import Runner
from core.local.measuring import Measuring
from core.local.model_registry import ModelRegistry
from core.local.profile import Profile, RegionMachine
from core.local.routes import (
    components,
    compute,
    data,
    datastores,
    endpoints,
    environments,
    history,
    identity,
    jobs,
    mlflow,
    models,
    monitor,
    scoring,
    storage,
)
from core.local.routes import registry as registry_routes
from core.local.routes import workspace as workspace_routes
from core.local.store import Store
from core.local.wire.answers import REGISTRY_NAME, REGISTRY_RESOURCE_GROUP, JsonAnswer, is_named
from core.local.wire.auth import Gatekeeper, family_of
from core.local.wire.connections import drop_connection
from core.local.wire.dispatch import Dispatch
from core.local.wire.errors import WireError, expired_token
from core.local.workspace import Workspace

ROUTES = [
    route
    for module in (
        workspace_routes,
        identity,
        registry_routes,
        compute,
        datastores,
        storage,
        data,
        models,
        components,
        environments,
        jobs,
        history,
        mlflow,
        endpoints,
        monitor,
        scoring,
    )
    for route in module.ROUTES
]

_NAMES_IN_PATH = re.compile(
    r"(?:/(?:history|data|mlflow)/v[12]\.0|/mferp/managementfrontend)?/subscriptions/(?P<subscription>[^/]+)"
    r"(?:/resourceGroups/(?P<group>[^/]+)(?:/providers/[^/]+/(?P<kind>workspaces|registries)/(?P<name>[^/]+))?)?",
    re.IGNORECASE,
)
CLIENT_WENT_AWAY = 499  # only in the log, where nginx writes the same
_log = logging.getLogger(__name__)


def create_app(home: Home, port: int, tls_port: int = 0, profile: Profile | None = None) -> Starlette:
    """Build the application that serves one home on one port, and over TLS on a second one where that is not 0."""
    profile = profile or Profile()
    machine = machines.probe()
    if profile.is_azure:
        machine = RegionMachine(**vars(machine))
    if machine.problem:
        _log.warning("%s", machine.problem)
    workspace = Workspace(
        home=home,
        store=Store(home.workspace_db),
        machine=machine,
        registry=ModelRegistry(home.base_models, machine, profile),
        gatekeeper=Gatekeeper(home.secret(), port, tls_port),
        url=f"http://127.0.0.1:{port}",
        profile=profile,
    )
    _check_profile(workspace)
    workspace.runner = Runner(workspace)
    workspace.deployments = Deployments(workspace)
    measuring = Measuring(workspace)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        recovery.recover(workspace.store)
        compute.prepare(workspace)
        workspace.runner.start()
        workspace.deployments.start()
        measuring.start()
        yield
        measuring.stop()
        workspace.deployments.stop()
        workspace.runner.stop()
        workspace.close()

    app = Starlette(exception_handlers={WireError: _answer_wire_error, HTTPException: _answer_unknown_route})
    app.router = Dispatch(ROUTES, lifespan=lifespan)
    app.state.workspace, app.state.profile = workspace, profile
    app.add_middleware(Gate, gatekeeper=workspace.gatekeeper, faults=workspace.faults, profile=profile)
    return app


def _check_profile(workspace: Workspace) -> None:
    """Raise Conflict where the home was begun with other manners, whose sizes are not known in these."""
    store, asked = workspace.store, workspace.profile.name
    begun = {"name": "local"} if store.get("mark", "first compute") else {"name": asked}
    known = store.get("mark", "profile") or store.insert("mark", "profile", begun)
    if known and known["name"] != asked:
        raise Conflict(
            f"The home {workspace.home.path} was begun with the profile '{known['name']}', not '{asked}'.",
            f"Serve it with --profile {known['name']}, or choose another home: TUNEDECK_HOME.",
        )


class Gate:
    """Checks, logs and answers for what goes wrong around the routes; plain ASGI, so that bodies stream through."""

    def __init__(self, app: ASGIApp, gatekeeper: Gatekeeper, faults: Faults, profile: Profile) -> None:
        self._app = app
        self._gatekeeper = gatekeeper
        self._faults = faults
        self._profile = profile

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        request_id = request.headers.get("x-ms-client-request-id", "") or uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        path = quote(scope["path"], safe="/:=")  # a name with a line break in it must not look like a line of the log
        started, status = time.perf_counter(), 0

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    (b"x-ms-request-id", request_id.encode("latin-1", "replace")),
                ]
            await send(message)

        try:
            self._gatekeeper.check_host(request)
            issued_at = self._gatekeeper.check(request)
            if issued_at is not None and self._profile.is_expired(issued_at):
                raise expired_token()
            check_names(request)
            if await self._faults.strike(request.method, scope["path"]):
                status = CLIENT_WENT_AWAY
                drop_connection(scope)
                return
            await self._app(scope, receive, send_marked)
        except WireError as error:
            await _answer(request, error)(scope, receive, send_marked)
        except ClientDisconnect:
            status = CLIENT_WENT_AWAY
        except Exception as error:  # noqa: BLE001 - the top of the server: logged, and answered
            _log.exception("%s %s failed", request.method, path)
            if not status:
                await _answer(request, _explain(error))(scope, receive, send_marked)
        finally:
            milliseconds = (time.perf_counter() - started) * 1000
            # The query is left out: it holds the signatures of log links and of blobs.
            _log.info("%s %s %s %.0f ms", request.method, path, status, milliseconds)


def check_names(request: Request) -> None:
    """Refuse a path that names another subscription, resource group, workspace or registry; raises 404."""
    found = _NAMES_IN_PATH.match(request.scope["path"])
    if found is None:
        return
    names = found.groupdict()
    if not is_named(SUBSCRIPTION_ID, names["subscription"]):
        raise WireError(404, "SubscriptionNotFound", f"The subscription '{names['subscription']}' could not be found.")
    is_registry = is_named("registries", names["kind"])
    group, name = (REGISTRY_RESOURCE_GROUP, REGISTRY_NAME) if is_registry else (RESOURCE_GROUP, WORKSPACE_NAME)
    if names["group"] and not is_named(group, names["group"]):
        raise WireError(404, "ResourceGroupNotFound", f"Resource group '{names['group']}' could not be found.")
    if names["name"] and not is_named(name, names["name"]):
        raise WireError(
            404,
            "ResourceNotFound",
            f"The Resource 'Microsoft.MachineLearningServices/{names['kind']}/{names['name']}' under resource group "
            f"'{group}' was not found.",
        )


def _explain(error: Exception) -> WireError:
    if is_disk_full(error):  # not one of the statuses that the SDK tries again at once
        return WireError(
            507, "InsufficientStorage", "The disk of the home folder is full. Free some space, then try again."
        )
    return WireError(500, "InternalServerError", "The local workspace failed; server.log says where.")


def _answer(request: Request, error: WireError) -> Response:
    is_arm = request.scope["path"].lower().startswith("/subscriptions/")
    if error.status == 404 and is_arm and request.app.state.workspace.profile.empty_not_found:
        return Response(status_code=404)
    if family_of(request.scope["path"]) != "storage":
        return JsonAnswer(
            error.to_wire(request.scope.get("state", {}).get("request_id", "")), error.status, headers=error.headers
        )
    body = (
        '<?xml version="1.0" encoding="utf-8"?>'
        f"<Error><Code>{error.code}</Code><Message>{escape(error.message)}</Message></Error>"
    )
    headers = {**error.headers, "x-ms-error-code": error.code}
    content = b"" if request.method == "HEAD" else body.encode()
    return Response(content, error.status, headers=headers, media_type="application/xml")


async def _answer_wire_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, WireError)
    return _answer(request, error)


async def _answer_unknown_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code in (404, 405):
        message = f"The local workspace does not know {request.method} {request.scope['path']}."
        return _answer(request, WireError(501, "NotImplemented", message))
    return _answer(request, WireError(error.status_code, "BadRequest", error.detail))

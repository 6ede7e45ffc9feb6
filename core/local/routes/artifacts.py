"""Files that an MLflow client logs to a run (its `mlflow-artifacts` API): list, put, get, delete.

They lie where Azure keeps them: in the artifact store's container, below `ExperimentRun/dcid.<run>/`.
"""

from __future__ import annotations

import mimetypes
import shutil
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from core.local.blobs import ARTIFACT_CONTAINER
from core.local.jobs import runs
from core.local.wire import answers
from core.local.wire.errors import WireError
from core.local.workspace import Workspace, workspace_of

MAX_ARTIFACT_BYTES = 2 * 1024**3
_API = "/api/2.0/mlflow-artifacts/artifacts"


def artifact_uri(run: runs.Run) -> str:
    """Return the address under which the stock client finds a run's artifacts."""
    return f"mlflow-artifacts:/{runs.experiment_id(run.experiment)}/{run.run_id}/artifacts"


def list_files(workspace: Workspace, run_id: str, path: str) -> list[dict[str, Any]]:
    """Return one level of a run's artifacts, paths relative to its root; [] where there is nothing."""
    root = _path_of(workspace, run_id, "")
    folder = _path_of(workspace, run_id, path.strip("/"))
    return [
        {"path": each.relative_to(root).as_posix(), "is_dir": each.is_dir()}
        | ({} if each.is_dir() else {"file_size": each.stat().st_size})
        for each in (sorted(folder.iterdir()) if folder.is_dir() else ())
    ]


def _path_of(workspace: Workspace, run_id: str, below: str) -> Path:
    parts = ["ExperimentRun", f"dcid.{run_id}", below]
    return workspace.blobs.path_of(ARTIFACT_CONTAINER, "/".join(part for part in parts if part))


def _target(request: Request, path: str) -> tuple[Workspace, str, str]:
    """Return the run and the path below its root that `<experiment>/<run>/artifacts/<path>` names."""
    workspace = workspace_of(request)
    parts = path.strip("/").split("/")
    if len(parts) < 3 or parts[2] != "artifacts":
        raise WireError(404, "ResourceNotFound", f"'{path}' is not a path of a run's artifacts.")
    run = workspace.runs.get(answers.check_name("a run", parts[1]))
    return workspace, run.run_id, "/".join(parts[3:])


async def list_artifacts(request: Request) -> Response:
    """GET one level of the artifacts below a path."""
    workspace, run_id, below = await run_in_threadpool(_target, request, request.query_params.get("path", ""))
    found = await run_in_threadpool(list_files, workspace, run_id, below)
    # This API answers names relative to the folder that was asked for.
    return answers.JsonAnswer({"files": [{**each, "path": each["path"].rpartition("/")[2]} for each in found]})


async def get_artifact(request: Request) -> Response:
    """GET the content of one artifact."""
    workspace, run_id, below = await run_in_threadpool(_target, request, request.path_params["path"])
    path = _path_of(workspace, run_id, below)
    if not path.is_file():
        raise WireError(404, "ResourceNotFound", f"The run '{run_id}' has no artifact '{below}'.")
    return FileResponse(path)


async def put_artifact(request: Request) -> Response:
    """PUT the content of one artifact."""
    workspace, run_id, below = await run_in_threadpool(_target, request, request.path_params["path"])
    name = _path_of(workspace, run_id, below).relative_to(workspace.blobs.container_path(ARTIFACT_CONTAINER)).as_posix()
    staged = workspace.blobs.staging_file()
    try:
        with staged.open("wb") as file:
            async for chunk in request.stream():
                file.write(chunk)
                if file.tell() > MAX_ARTIFACT_BYTES:
                    raise WireError(413, "RequestTooLarge", f"An artifact has at most {MAX_ARTIFACT_BYTES} bytes.")
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        await run_in_threadpool(workspace.blobs.commit, ARTIFACT_CONTAINER, name, staged, {"content_type": kind})
    finally:
        staged.unlink(missing_ok=True)
    return answers.JsonAnswer({})


async def delete_artifact(request: Request) -> Response:
    """DELETE an artifact, or a folder of them."""
    workspace, run_id, below = await run_in_threadpool(_target, request, request.path_params["path"])
    path = _path_of(workspace, run_id, below)
    if path.is_dir():
        await run_in_threadpool(shutil.rmtree, path)
    else:
        path.unlink(missing_ok=True)
    return answers.JsonAnswer({})


def routes_below(base: str) -> list[Route]:
    """Return the routes of this API below one of MLflow's base addresses."""
    return [
        Route(f"{base}{_API}", list_artifacts, methods=["GET"]),
        Route(f"{base}{_API}/{{path:path}}", get_artifact, methods=["GET"]),
        Route(f"{base}{_API}/{{path:path}}", put_artifact, methods=["PUT"]),
        Route(f"{base}{_API}/{{path:path}}", delete_artifact, methods=["DELETE"]),
    ]

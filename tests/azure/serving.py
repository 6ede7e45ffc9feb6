"""An operator at the stand-in who serves a model that nobody had to train."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from core.azureml import tags
from core.serving import endpoints
from core.serving.endpoints import EndpointView
from tests.azure.stand_in import SIZE
from tests.azure.walking import Walk
from tests.waiting import wait_until

MODEL, ENDPOINT = "good", "shop"


def model_folder(walk: Walk) -> Path:
    """Return where the model's files lie in the workspace; a file `broken` there ends whoever serves it."""
    return walk.azure.workspace.home.blobs / "azureml-blobstore" / "models" / MODEL


def register(walk: Walk) -> None:
    """Register a model of an empty configuration."""
    from azure.ai.ml.entities import Model

    folder = model_folder(walk)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    path = f"azureml://datastores/workspaceblobstore/paths/models/{MODEL}"
    walk.conn.workspace.models.create_or_update(Model(name=MODEL, version="1", path=path, type="custom_model"))


def serve(walk: Walk, instances: int = 1, **settings: int) -> EndpointView:
    """Return the endpoint, made with these settings unless an earlier test of the module did."""
    if (found := endpoints.find_endpoint(walk.conn, ENDPOINT)) and found.live:
        return found
    register(walk)
    told = {tags.OPERATION: "a deploy", tags.REGISTERED_MODEL: f"{MODEL}:1"}
    return serve_model(walk, f"azureml:{MODEL}:1", told, instances, **settings)


def serve_model(
    walk: Walk, model_id: str, told: Mapping[str, str], instances: int = 1, **settings: int
) -> EndpointView:
    """Make the endpoint of a registered model, and wait until it answers."""
    chosen = {name.replace("__", "."): value for name, value in settings.items()}
    endpoints.begin_endpoint(walk.conn, ENDPOINT, "", told)
    endpoints.begin_deployment(walk.conn, ENDPOINT, model_id, SIZE, instances, chosen, told)
    with walk.azure.hurried():
        wait_until(lambda: (one := endpoints.get_endpoint(walk.conn, ENDPOINT).deployment) and one.up)
        endpoints.begin_traffic(walk.conn, ENDPOINT, {endpoints.DEPLOYMENT_NAME: 100})
        return wait_until(lambda: (found := endpoints.get_endpoint(walk.conn, ENDPOINT)).live and found)

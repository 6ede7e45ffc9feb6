"""Requests that submit jobs to a local workspace, and waits for what becomes of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from core.engine import component
from tests.local_server import LocalServer
from tests.waiting import wait_until

TRAINER = Path(__file__).with_name("trivial_trainer.py")
TERMINAL = ("Completed", "Failed", "Canceled")


def command_body(arguments: str = "", *, compute: str = "this-machine", **properties: Any) -> dict[str, Any]:
    """Return the PUT of a job that runs the trivial trainer."""
    command = f"{sys.executable} {TRAINER} {arguments}"
    return {
        "properties": {
            "jobType": "Command",
            "command": command,
            "computeId": compute,
            "experimentName": "try",
            "displayName": "a try",
            "tags": {"kept": "yes"},
            **properties,
        }
    }


def pipeline_body(train_uri: str, model: str = "tiny/versions/1", **literals: str) -> dict[str, Any]:
    """Return the PUT of a fine-tuning pipeline, as the SDK writes it."""
    values = {"number_of_gpu_to_use_finetuning": "0", **literals}
    values |= dict.fromkeys(("compute_model_import", "compute_preprocess", "compute_finetune"), "this-machine")
    inputs: dict[str, Any] = {name: {"value": value, "job_input_type": "literal"} for name, value in values.items()}
    inputs["mlflow_model_path"] = {
        "uri": f"azureml://registries/azureml/models/{model}",
        "job_input_type": "mlflow_model",
    }
    inputs["train_file_path"] = {"uri": train_uri, "job_input_type": "uri_file"}
    node = {
        "name": "ft",
        "type": "pipeline",
        "_source": "REMOTE.REGISTRY",
        "inputs": inputs,
        "componentId": f"azureml://registries/azureml/components/{component.NAME}/versions/{component.VERSION}",
        "outputs": {"mlflow_model_folder": {"value": "${{parent.outputs.trained_model}}", "type": "literal"}},
    }
    return {
        "properties": {
            "jobType": "Pipeline",
            "displayName": "fine-tune",
            "experimentName": "chat",
            "tags": {},
            "inputs": {},
            "jobs": {"ft": node},
            "outputs": {"trained_model": {"jobOutputType": "mlflow_model"}},
            "settings": {"continue_on_step_failure": False, "force_rerun": True},
        }
    }


def submit(server: LocalServer, name: str, body: dict[str, Any]) -> dict[str, Any]:
    response = server.request("PUT", f"jobs/{name}", json=body)
    assert response.status_code in (200, 201), response.text
    return response.json()["properties"]


def job_of(server: LocalServer, name: str) -> dict[str, Any]:
    response = server.request("GET", f"jobs/{name}")
    assert response.status_code == 200, response.text
    return response.json()["properties"]


def wait_for(server: LocalServer, name: str, *states: str, seconds: float = 30.0) -> dict[str, Any]:
    """Wait until a job is in one of some states (any end by default) and return its properties."""

    def reached() -> dict[str, Any] | None:
        job = job_of(server, name)
        assert states or job["status"] != "Unknown"
        assert not states or job["status"] in states or job["status"] not in TERMINAL, job
        return job if job["status"] in (states or TERMINAL) else None

    return wait_until(reached, lambda: server.log(), timeout_s=seconds)


def metric_of(server: LocalServer, run_id: str, key: str = "loss") -> list[tuple[int, float]]:
    path = f"/api/2.0/mlflow/metrics/get-history?run_id={run_id}&metric_key={key}&max_results=25000"
    return [(row["step"], row["value"]) for row in server.request("GET", path).json()["metrics"]]


def details_of(server: LocalServer, run_id: str) -> dict[str, Any]:
    from core.local.wire.answers import workspace_id

    return server.request("GET", f"/history/v1.0{workspace_id()}/runs/{run_id}/details").json()

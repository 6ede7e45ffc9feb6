"""The lesson as its own plain azure-ai-ml script, against the local workspace.

Changed against the lesson are the credential, the cloud, the model's name and the sizes; and the two files are uploaded
with azure-storage-blob, because the SDK's own uploader speaks only https to a host it makes up itself.
"""

from __future__ import annotations

import ast
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core import cloud as clouds
from tests import tiny_model
from tests.contract.sdk import SUBSCRIPTION_ID, client_options, credential_of
from tests.local_server import LocalServer, running_server

pytestmark = pytest.mark.filterwarnings("ignore")

CLUSTER = "lesson-cluster"
CLUSTER_SIZE = "local.cpu1"
SCORING_SIZE = "local.cpu1"
ROWS = 24
CHILDREN = [
    "ft_nlp_common_validation",
    "chat_completion_model_import",
    "chat_completion_datapreprocess",
    "chat_completion_finetune",
    "ft_nlp_model_converter",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    base_models = tmp_path_factory.mktemp("base-models")
    tiny_model.build_tiny_model(base_models)
    with running_server(tmp_path_factory.mktemp("home"), TUNEDECK_BASE_MODELS=str(base_models)) as running:
        yield running


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three splits that the lesson uses, in the schema of ultrachat_200k."""
    folder = tmp_path_factory.mktemp("ultrachat_200k_dataset")
    for split in ("train_sft", "test_sft", "test_gen"):
        rows = []
        for number in range(ROWS):
            question = f"Question {number}: what is the colour of the kettle of the harbour office?"
            answer = "The kettle of the harbour office is blue and sings at noon, says the keeper of the lamps."
            messages = [{"content": question, "role": "user"}, {"content": answer, "role": "assistant"}]
            rows.append({"prompt": question, "messages": messages, "prompt_id": f"{number:064x}"})
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return folder


def upload(workspace: Any, file: Path) -> str:
    from azure.storage.blob import ContainerClient

    store = workspace.datastores.get_default(include_secrets=True)
    account = f"{store.protocol}://{store.endpoint}/{store.account_name}"
    with ContainerClient(account, store.container_name, credential=store.credentials.sas_token) as container:
        container.upload_blob(f"lesson/{file.name}", file.read_bytes(), overwrite=True)
    return f"azureml://datastores/{store.name}/paths/lesson/{file.name}"


def test_the_lesson_from_the_first_client_to_the_deleted_endpoint(
    server: LocalServer, data_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Takes about a minute: a pipeline of five processes and a scorer, three of which load torch."""
    with clouds.using(clouds.local_cloud(server.home)):
        lesson(credential_of(server), client_options(server), tiny_model.NAME, data_folder, tmp_path)
    printed = capsys.readouterr().out
    assert "Execution Summary" in printed


def lesson(credential: Any, local: dict[str, Any], model_name: str, data_folder: Path, work_folder: Path) -> None:
    """Follow the lesson step by step; `local` is all that differs from Azure in how clients are built."""
    from azure.ai.ml import Input, MLClient
    from azure.ai.ml.constants import AssetTypes
    from azure.ai.ml.dsl import pipeline
    from azure.ai.ml.entities import (
        AmlCompute,
        ManagedOnlineDeployment,
        ManagedOnlineEndpoint,
        Model,
        OnlineRequestSettings,
        ProbeSettings,
    )
    from azure.core.exceptions import ResourceNotFoundError

    # 1. Prerequisites
    credential.get_token(f"{local['cloud_metadata']['resource_manager']}/.default")
    workspace_ml_client = MLClient(credential, SUBSCRIPTION_ID, "local", "local", **local)
    registry_ml_client = MLClient(credential, registry_name="azureml", **local)
    experiment_name = f"chat_completion_{model_name}"
    timestamp = str(int(time.time()))

    # 2. Base model
    foundation_model = registry_ml_client.models.get(model_name, label="latest")
    assert (
        foundation_model.id == f"azureml://registries/azureml/models/{model_name}/versions/{foundation_model.version}"
    )

    # 3. Compute
    try:
        compute = workspace_ml_client.compute.get(CLUSTER)
    except ResourceNotFoundError:
        cluster = AmlCompute(name=CLUSTER, size=CLUSTER_SIZE, min_instances=0, max_instances=1)
        compute = workspace_ml_client.compute.begin_create_or_update(cluster).result()
    assert compute.provisioning_state.lower() != "failed"
    allowed = ast.literal_eval(foundation_model.tags["finetune_compute_allow_list"])
    assert compute.size.lower() in [size.lower() for size in allowed]
    sizes = [size for size in workspace_ml_client.compute.list_sizes() if size.name.lower() == compute.size.lower()]
    (gpus_per_node,) = [size.gpus for size in sizes]

    # 4. Data
    train_file = upload(workspace_ml_client, data_folder / "train_sft.jsonl")
    test_file = upload(workspace_ml_client, data_folder / "test_sft.jsonl")

    # 5. Parameters and the pipeline
    parameters: dict[str, Any] = {
        "num_train_epochs": 3,
        "per_device_train_batch_size": 1,
        "per_device_eval_batch_size": 1,
        "learning_rate": 5e-6,
        "lr_scheduler_type": "cosine",
        "apply_lora": "true",
        "apply_deepspeed": "true",
        "deepspeed_stage": 2,
    }
    parameters.update(ast.literal_eval(foundation_model.tags["model_specific_defaults"]))
    pipeline_component = registry_ml_client.components.get(name="chat_completion_pipeline", label="latest")

    @pipeline(name=f"{model_name}-ultrachat-lesson")
    def create_pipeline() -> dict[str, Any]:
        chat_completion_pipeline = pipeline_component(
            mlflow_model_path=foundation_model.id,
            compute_model_import=CLUSTER,
            compute_preprocess=CLUSTER,
            compute_finetune=CLUSTER,
            compute_model_evaluation=CLUSTER,
            train_file_path=Input(type="uri_file", path=train_file),
            test_file_path=Input(type="uri_file", path=test_file),
            number_of_gpu_to_use_finetuning=gpus_per_node,
            **parameters,
        )
        return {"trained_model": chat_completion_pipeline.outputs.mlflow_model_folder}

    pipeline_object = create_pipeline()
    pipeline_object.settings.force_rerun = True
    pipeline_object.settings.continue_on_step_failure = False
    pipeline_job = workspace_ml_client.jobs.create_or_update(pipeline_object, experiment_name=experiment_name)
    workspace_ml_client.jobs.stream(pipeline_job.name)
    finished = workspace_ml_client.jobs.get(pipeline_job.name)
    assert finished.status == "Completed"
    children = list(workspace_ml_client.jobs.list(parent_job_name=pipeline_job.name))
    assert sorted(child.display_name for child in children) == sorted(CHILDREN)

    # 6. Register
    assert finished.outputs["trained_model"].type == "mlflow_model"
    prepare_to_register_model = Model(
        path=f"azureml://jobs/{pipeline_job.name}/outputs/trained_model",
        type=AssetTypes.MLFLOW_MODEL,
        name=f"{model_name}-ultrachat-200k".replace("/", "-"),
        version=timestamp,
        description=f"{model_name} fine tuned model for ultrachat 200k chat-completion",
    )
    registered_model = workspace_ml_client.models.create_or_update(prepare_to_register_model)
    assert registered_model.job_name == pipeline_job.name

    # 7. Deploy
    online_endpoint_name = f"ultrachat-completion-{timestamp}"
    endpoint = ManagedOnlineEndpoint(
        name=online_endpoint_name,
        description=f"Online endpoint for {registered_model.name}",
        auth_mode="key",
    )
    workspace_ml_client.begin_create_or_update(endpoint).wait()
    allowed = ast.literal_eval(foundation_model.tags["inference_compute_allow_list"])
    assert SCORING_SIZE in allowed
    demo_deployment = ManagedOnlineDeployment(
        name="demo",
        endpoint_name=online_endpoint_name,
        model=registered_model.id,
        instance_type=SCORING_SIZE,
        instance_count=1,
        liveness_probe=ProbeSettings(initial_delay=600),
        request_settings=OnlineRequestSettings(request_timeout_ms=90000),
    )
    workspace_ml_client.online_deployments.begin_create_or_update(demo_deployment).wait()
    endpoint.traffic = {"demo": 100}
    workspace_ml_client.begin_create_or_update(endpoint).result()

    # 8. Try it
    rows = [json.loads(line) for line in (data_folder / "test_gen.jsonl").read_text(encoding="utf-8").splitlines()]
    row = random.Random(0).choice(rows)
    request = {
        "input_data": {
            "input_string": [row["messages"]],
            "parameters": {"temperature": 0.6, "top_p": 0.9, "do_sample": True, "max_new_tokens": 16},
        },
        "params": {},
    }
    request_file = work_folder / "sample_score.json"
    request_file.write_text(json.dumps(request), encoding="utf-8")
    response = workspace_ml_client.online_endpoints.invoke(
        endpoint_name=online_endpoint_name, deployment_name="demo", request_file=str(request_file)
    )
    assert json.loads(response)["output"] is not None

    # 9. Delete the endpoint
    workspace_ml_client.online_endpoints.begin_delete(name=online_endpoint_name).wait()
    with pytest.raises(ResourceNotFoundError):
        workspace_ml_client.online_endpoints.get(online_endpoint_name)

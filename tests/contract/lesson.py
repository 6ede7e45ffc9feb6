"""The lesson as a plain azure-ai-ml script: nothing of Tunedeck is imported, nothing but the first cell is ours.

python lesson.py DATA_FOLDER WORK_FOLDER, where the work folder has the workspace's config.json.
"""

# %% What a workspace of one's own changes: names and sizes. The credential and the cloud are those of the environment.
import ast
import json
import random
import sys
import time
from pathlib import Path

model_name = "tiny-chat"
compute_cluster, compute_cluster_size, instance_type = "lesson-cluster", "local.cpu1", "local.cpu1"
training_parameters = {
    "num_train_epochs": 3,
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "learning_rate": 5e-6,
    "lr_scheduler_type": "cosine",
}
dataset_dir, work_dir = Path(sys.argv[1]), Path(sys.argv[2])

# %% Prerequisites
from azure.ai.ml import Input, MLClient  # noqa: E402
from azure.ai.ml.constants import AssetTypes  # noqa: E402
from azure.ai.ml.dsl import pipeline  # noqa: E402
from azure.ai.ml.entities import (  # noqa: E402
    AmlCompute,
    ManagedOnlineDeployment,
    ManagedOnlineEndpoint,
    Model,
    OnlineRequestSettings,
    ProbeSettings,
)
from azure.core.exceptions import ResourceNotFoundError  # noqa: E402
from azure.identity import DefaultAzureCredential  # noqa: E402

credential = DefaultAzureCredential()
credential.get_token("https://management.azure.com/.default")  # an identity is there, or this raises
workspace_ml_client = MLClient.from_config(credential, path=work_dir)
registry_ml_client = MLClient(credential, registry_name="azureml")
experiment_name = f"chat_completion_{model_name}"
timestamp = str(int(time.time()))

# %% Base model
foundation_model = registry_ml_client.models.get(model_name, label="latest")
print(f"Using model {foundation_model.name} version {foundation_model.version}, id {foundation_model.id}")

# %% Compute
try:
    compute = workspace_ml_client.compute.get(compute_cluster)
except ResourceNotFoundError:
    compute = workspace_ml_client.compute.begin_create_or_update(
        AmlCompute(name=compute_cluster, size=compute_cluster_size, min_instances=0, max_instances=1)
    ).result()
if compute.provisioning_state.lower() == "failed":
    raise ValueError(f"The provisioning of {compute_cluster} failed.")
allow_list = ast.literal_eval(foundation_model.tags["finetune_compute_allow_list"])
if compute.size.lower() not in [size.lower() for size in allow_list]:
    raise ValueError(f"{compute.size} is not one of {allow_list}.")
gpus_per_node = next(
    size.gpus for size in workspace_ml_client.compute.list_sizes() if size.name.lower() == compute.size.lower()
)

# %% Parameters
optimization_parameters = {"apply_lora": "true", "apply_deepspeed": "true", "deepspeed_stage": 2}
parameters = {**training_parameters, **optimization_parameters}
parameters.update(ast.literal_eval(foundation_model.tags["model_specific_defaults"]))
pipeline_component = registry_ml_client.components.get(name="chat_completion_pipeline", label="latest")


# %% The pipeline, whose data are files of this machine
batch_size = int(parameters["per_device_train_batch_size"]) * max(1, gpus_per_node)


@pipeline(name=f"{model_name}-ultrachat-bs{batch_size}-{parameters['lr_scheduler_type']}")
def create_pipeline() -> dict[str, object]:
    chat_completion_pipeline = pipeline_component(
        mlflow_model_path=foundation_model.id,
        compute_model_import=compute_cluster,
        compute_preprocess=compute_cluster,
        compute_finetune=compute_cluster,
        compute_model_evaluation=compute_cluster,
        train_file_path=Input(type="uri_file", path=str(dataset_dir / "train_sft.jsonl")),
        test_file_path=Input(type="uri_file", path=str(dataset_dir / "test_sft.jsonl")),
        number_of_gpu_to_use_finetuning=gpus_per_node,
        **parameters,
    )
    return {"trained_model": chat_completion_pipeline.outputs.mlflow_model_folder}


pipeline_object = create_pipeline()
pipeline_object.settings.force_rerun = True
pipeline_object.settings.continue_on_step_failure = False
pipeline_job = workspace_ml_client.jobs.create_or_update(pipeline_object, experiment_name=experiment_name)
workspace_ml_client.jobs.stream(pipeline_job.name)
if workspace_ml_client.jobs.get(pipeline_job.name).status != "Completed":
    raise ValueError("The job failed.")
steps = {each.display_name: each.name for each in workspace_ml_client.jobs.list(parent_job_name=pipeline_job.name)}
print(f"Steps: {sorted(steps)}")

# %% Metrics: the runs of this job are those that have it as their root
import mlflow  # noqa: E402

mlflow.set_tracking_uri(workspace_ml_client.workspaces.get(workspace_ml_client.workspace_name).mlflow_tracking_uri)
root = f"tags.mlflow.rootRunId='{pipeline_job.name}'"
for run in mlflow.search_runs(experiment_names=[experiment_name], filter_string=root, output_format="list"):
    parent = run.data.tags.get("mlflow.parentRunId", "")
    print(f"Run: {run.info.run_id} below '{parent}', loss {run.data.metrics.get('loss')}")

# %% What the run made and wrote, on this machine's disk
workspace_ml_client.jobs.download(pipeline_job.name, download_path=work_dir / "log")
workspace_ml_client.jobs.download(pipeline_job.name, output_name="trained_model", download_path=work_dir / "output")
workspace_ml_client.jobs.download(pipeline_job.name, all=True, download_path=work_dir / "all")
workspace_ml_client.jobs.download(steps["chat_completion_finetune"], download_path=work_dir / "step")

# %% Register
registered_model = workspace_ml_client.models.create_or_update(
    Model(
        path=f"azureml://jobs/{pipeline_job.name}/outputs/trained_model",
        type=AssetTypes.MLFLOW_MODEL,
        name=f"{model_name}-ultrachat-200k".replace("/", "-"),
        version=timestamp,
        description=f"{model_name} fine tuned model for ultrachat 200k chat-completion",
    )
)
workspace_ml_client.models.download(registered_model.name, registered_model.version, work_dir / "model")

# %% Deploy
online_endpoint_name = f"ultrachat-completion-{timestamp}"
endpoint = ManagedOnlineEndpoint(name=online_endpoint_name, description="The lesson's", auth_mode="key")
workspace_ml_client.begin_create_or_update(endpoint).wait()
if instance_type not in ast.literal_eval(foundation_model.tags["inference_compute_allow_list"]):
    raise ValueError(f"{instance_type} is not in the allow-list.")
demo_deployment = ManagedOnlineDeployment(
    name="demo",
    endpoint_name=online_endpoint_name,
    model=registered_model.id,
    instance_type=instance_type,
    instance_count=1,
    liveness_probe=ProbeSettings(initial_delay=600),
    request_settings=OnlineRequestSettings(request_timeout_ms=90000),
)
workspace_ml_client.online_deployments.begin_create_or_update(demo_deployment).wait()
endpoint.traffic = {"demo": 100}
workspace_ml_client.begin_create_or_update(endpoint).result()

# %% Try it
rows = [json.loads(line) for line in (dataset_dir / "test_gen.jsonl").read_text(encoding="utf-8").splitlines()]
request_file = work_dir / "sample_score.json"
request = {
    "input_data": {
        "input_string": [random.choice(rows)["messages"]],
        "parameters": {"temperature": 0.6, "top_p": 0.9, "do_sample": True, "max_new_tokens": 16},
    },
    "params": {},
}
request_file.write_text(json.dumps(request), encoding="utf-8")
response = workspace_ml_client.online_endpoints.invoke(
    endpoint_name=online_endpoint_name, deployment_name="demo", request_file=str(request_file)
)
print(f"\nAnswer: {response}")

# %% Delete the endpoint
workspace_ml_client.online_endpoints.begin_delete(name=online_endpoint_name).wait()
print(f"\nLeft: {[each.name for each in workspace_ml_client.online_endpoints.list()]}")

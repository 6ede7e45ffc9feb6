"""A run as a plain azure-ai-ml script to take away: the lesson's own steps with these values. Sends nothing."""

from __future__ import annotations

from pprint import pformat

from core.azureml.addresses import AZURE
from core.azureml.settings import Settings
from core.azureml.tags import parse_policy_tags
from core.launch.plan import LaunchPlan
from core.recipe import COMPONENT
from core.runs.jobs import COMPONENT_NAME, OUTPUT_NAME

_TEMPLATE = '''\
"""{title}: the same run, with azure-ai-ml alone."""

from azure.ai.ml import Input, MLClient
from azure.ai.ml.dsl import pipeline
from azure.identity import DefaultAzureCredential

credential = DefaultAzureCredential({login})
workspace = MLClient(credential, {subscription!r}, {group!r}, {workspace!r}{cloud})
registry = MLClient(credential, registry_name={registry!r}{cloud})

component = registry.components.get({component!r}, label="latest")
parameters = {parameters}


@pipeline(name={title!r}{tags})
def fine_tuning():
    fine_tune = component(
        mlflow_model_path=Input(type="mlflow_model", path={model!r}),
        compute_model_import={compute!r},
        compute_preprocess={compute!r},
        compute_finetune={compute!r},
        compute_model_evaluation={compute!r},
        train_file_path=Input(type="uri_file", path="train.jsonl"),
        test_file_path=Input(type="uri_file", path="test.jsonl"),
        number_of_gpu_to_use_finetuning={gpus},
        **parameters,
    )
    return {{{output!r}: fine_tune.outputs.mlflow_model_folder}}


job = fine_tuning()
job.settings.force_rerun = True
job.settings.continue_on_step_failure = False
job = workspace.jobs.create_or_update(job, experiment_name={experiment!r})
print(job.name, job.studio_url)
'''


def write_script(settings: Settings, plan: LaunchPlan) -> str:
    """Return the script of a plan; on the local workspace it runs through `python -m core.local exec`."""
    sent = {name: value for name, value in plan.recipe.values.items() if plan.recipe.origins[name] != COMPONENT}
    login, cloud = _options_of(settings)
    tags = parse_policy_tags(settings.policy_tags)
    return _TEMPLATE.format(
        login=login,
        cloud=cloud,
        tags=f", tags={tags!r}" if tags else "",
        title=plan.display_name,
        subscription=settings.subscription_id,
        group=settings.resource_group,
        workspace=settings.workspace_name,
        registry=settings.registry_name,
        model=plan.model.id,
        component=COMPONENT_NAME,
        parameters=pformat(sent, width=100, sort_dicts=False),
        compute=plan.compute.name,
        gpus=plan.gpus,
        output=OUTPUT_NAME,
        experiment=plan.experiment,
    )


def _options_of(settings: Settings) -> tuple[str, str]:
    """Return what the credential and the clients of another cloud than the public one are told besides."""
    cloud = settings.cloud
    if settings.kind == "local" or cloud == AZURE:
        return "", ""
    own = (", disable_instance_discovery=True", f", cloud_metadata={cloud.metadata!r}") if cloud.is_custom else ("", "")
    return f"authority={cloud.login!r}{own[0]}", f", cloud={cloud.name!r}{own[1]}"

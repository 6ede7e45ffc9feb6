"""Each known cause of a deployment that fails, provoked over the wire: refused at once, later, or told by its logs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from core.azureml.connection import Connection
from core.azureml.polling import check_write
from core.errors import ServiceRefused, TunedeckError
from core.operations import retry_operation, start_redeploy
from core.serving import endpoints
from core.serving.deploy_failures import CAUSES, Stage, describe_billing, explain_failure, find_cause
from tests.azure.serving import ENDPOINT, MODEL, model_folder, serve
from tests.azure.stand_in import SIZE, StandIn
from tests.azure.walking import Walk, walking
from tests.pages.apps import buttons, open_app, run_until, texts
from tests.waiting import wait_until

PUT, POLL, LOGS = r"^PUT .*/deployments/demo", "mfeOperationsStatus/failing", "/getLogs"
CRASH = ("BadArgument", "User container has crashed or terminated. See https://aka.ms/oe-tsg#error-resourcenotready")


@dataclass(frozen=True)
class Told:
    """What the service says of a failed deployment. status: of a PUT that is refused, 0 where its operation fails."""

    code: str
    message: str
    read: str
    status: int = 0
    log: str = ""


FAILURES = (
    Told(
        "MissingSubscriptionRegistration",
        "The subscription is not registered to use namespace 'Microsoft.Cdn'. See https://aka.ms/rps-not-found.",
        "failed at the request: The resource provider Microsoft.Cdn is not registered in subscription",
        409,
    ),
    Told(
        "SubscriptionNotFound",
        "The subscription '5c1e' could not be found.",
        "failed at the request: the subscription was not found, or is not active.",
        404,
    ),
    Told(
        "RequestDisallowedByPolicy",
        "Resource 'demo' was disallowed by policy.",
        "failed at the request: A policy of your company does not allow to create deployment 'demo' of 'shop'.",
        403,
    ),
    Told(
        "AuthorizationFailed",
        "The client 'ada' does not have authorization to perform action 'onlineEndpoints/deployments/write'.",
        "failed at the request: You may not create deployment 'demo' of 'shop' in 'ml-dev'.",
        403,
    ),
    Told(
        "RoleAssignmentLimitExceeded",
        "The role assignment limit of the subscription has been reached.",
        "failed at the request: the subscription holds as many of them as it may: The role assignment limit",
    ),
    Told(
        "OutOfQuota",
        "The subscription's endpoint quota of 100 in this region is used up.",
        "failed at the request: the subscription holds as many of them as it may: The subscription's endpoint",
    ),
    Told(
        "OutOfQuota",
        "Not enough disk space: No space left on device.",
        "failed at the download of the model: the model is larger than the free disk of this size.",
    ),
    Told(
        "OutOfQuota",
        "The memory footprint of the model is larger than the available memory.",
        "failed at the start of the container: the model needs more memory than this size has.",
    ),
    Told(
        "OutOfCapacity",
        "The specified Azure ML compute failed to provision due to insufficient capacity in this region.",
        "failed at the machines: no machine of this size is free in the region. It is no matter of quota.",
    ),
    Told(
        "BadRequest",
        '"VmSize":["Not enough quota available for Standard_NC24ads_A100_v4 in SubscriptionId 5c1e. Current '
        'usage/limit: 48/48. Additional needed: 29"]',
        "failed at the machines: Quota for Standard_NC24ads_A100_v4: needs 29 cores, 0 free of 48.",
        400,
    ),
    Told(
        "ImageBuildFailure",
        "Image build failed: container registry authorization failure.",
        "failed at the image: the workspace's container registry refused the sign-in.",
    ),
    Told(
        "ImageBuildFailure",
        "The service failed to communicate with the workspace's container registry.",
        "failed at the image: the registry is private, and the image is built outside of its network.",
    ),
    Told(
        "ImageBuildFailure",
        "Image build failed. Its log is under the storage account 'mldevstore' at the path 'logs/7'.",
        "failed at the image: the image could not be built: Image build failed. Its log is under",
    ),
    Told(
        "ResourceNotFound",
        "The container registry is private or otherwise inaccessible.",
        "failed at the image: the image could not be fetched: The container registry is private or",
    ),
    Told(
        "BadArgument",
        "Unable to download user container image: it does not exist.",
        "failed at the image: the image could not be fetched: Unable to download user container image",
    ),
    Told(
        "BadArgument",
        "Startup task failed due to authorization error.",
        "failed at the download of the model: the endpoint's identity may not read the model.",
    ),
    Told(
        *CRASH,
        "failed at the download of the model: the storage account refused the endpoint's identity: 403",
        log="downloads the model\n403 AuthorizationPermissionMismatch of models/good\n",
    ),
    Told(
        "BadArgument",
        "Unable to download user model: not found.",
        "failed at the download of the model: the model's files were not found.",
    ),
    Told(
        *CRASH,
        "failed at the download of the model: the model's files were not found: BlobNotFound: models/good",
        log="BlobNotFound: models/good\n",
    ),
    Told(
        "WorkspaceManagedNetworkNotReady",
        "The managed network of the workspace is not provisioned.",
        "failed at the machines: the workspace's managed network is not made yet.",
    ),
    Told(
        "OperationCanceled",
        "The operation was canceled by another operation that has a higher priority.",
        "failed at the request: another change of this endpoint took precedence.",
    ),
    Told(
        "SecretsInjectionError",
        "The secret 'token' could not be retrieved.",
        "failed at the start of the container: a secret that the container asks for could not be read.",
    ),
    Told(
        "ResourceNotFound",
        "The environment 'acft:9' was not found.",
        "failed at the request: something that the deployment names was not found: The environment 'acft:9'",
    ),
    Told(
        *CRASH,
        "failed at the start of the container: the model does not fit into memory: torch.OutOfMemoryError: CUDA",
        log="loads\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB\n",
    ),
    Told(
        "ResourceNotReady",
        "The container is not ready.",
        "failed at the start of the container: its image lacks a Python package: ModuleNotFoundError: No module",
        log="Traceback\nModuleNotFoundError: No module named 'vllm'\n",
    ),
    Told(
        *CRASH,
        "failed at the start of the container: the container ended by itself: ValueError: the weights do not fit.",
        log="loads\nValueError: the weights do not fit\n",
    ),
    Told(
        "ResourceNotReady",
        "Liveness probe failed: 30 probes in a row had no answer.",
        "failed at the probes: the container did not answer its probes in time: Liveness probe failed",
        log="still loads\n",
    ),
    Told(*CRASH, "failed at the start of the container: the container ended by itself: User container has crashed"),
    Told(
        "BadRequest",
        "The traffic of a deployment in this state cannot be set.",
        "failed at the traffic: ",
        400,
    ),
    Told(
        "InternalServerError",
        "The service ran into a fault.",
        "failed at the machines: Azure failed on its own side.",
    ),
    Told("Unheard", "Of this nobody knows.", "failed at the start of the container: "),
)


@pytest.fixture
def walk(azure: StandIn) -> Iterator[Walk]:
    """An operator who has an endpoint with a deployment that is up."""
    with walking(azure) as operator:
        serve(operator)
        yield operator


def provoke(walk: Walk, told: Told) -> ServiceRefused:
    """Ask for a deployment that fails so; return what an operator reads of it."""
    fail(walk.azure, told)
    what = f"deployment 'demo' of '{ENDPOINT}'"
    try:
        endpoints.begin_deployment(walk.conn, ENDPOINT, f"azureml:{MODEL}:1", SIZE, 1, {}, {})
        error = wait_until(partial(check_write, walk.conn, what))
    except TunedeckError as refused:
        error = refused
    explained = explain_failure(walk.conn, ENDPOINT, error)
    walk.azure.rules.clear()
    return explained


def fail(azure: StandIn, told: Told) -> None:
    """Let the next deployment be refused, or taken and then failed, in the words of the service."""
    error = {"error": {"code": told.code, "message": told.message}}
    if told.status:
        azure.rules.add(PUT, told.status, body=json.dumps(error))
    else:
        poll = f"https://management.azure.com/subscriptions/x/{POLL}"
        headers = {"Azure-AsyncOperation": poll, "retry-after-ms": "10"}
        body = {"name": "demo", "properties": {"endpointComputeType": "Managed", "provisioningState": "Updating"}}
        azure.rules.add(PUT, 201, body=json.dumps(body), headers=headers)
        azure.rules.add(POLL, 200, body=json.dumps({"status": "Failed", **error}))
    azure.rules.add(LOGS, 200, body=json.dumps({"content": told.log}), times=2)


def test_each_known_cause_is_told_by_its_stage_and_with_the_next_step(walk: Walk) -> None:
    """Takes some seconds: each failure goes through the real SDK, its poller and both logs."""
    for told in FAILURES:
        found = provoke(walk, told)
        assert found.message.startswith(f"'{ENDPOINT}' {told.read}"), (told, found.message)
        assert found.hint
        assert told.code in found.detail or told.status, found.detail


def test_each_cause_of_the_table_is_provoked() -> None:
    provoked = [find_cause(f"{told.code} {told.message}", told.log)[0] for told in FAILURES]
    assert [cause.message for cause in CAUSES if cause not in provoked] == []
    assert {cause.stage for cause in CAUSES} == set(Stage)


@pytest.mark.slow
def test_a_deploy_that_fails_says_what_bills_ends_it_there_and_begins_anew(walk: Walk) -> None:
    """Takes some seconds: a deploy whose container really ends, the page of it, and the deploy anew."""
    endpoint, broken = endpoints.get_endpoint(walk.conn, ENDPOINT), model_folder(walk) / "broken"
    broken.touch()
    begun = start_redeploy(walk.conn.alias, endpoint, SIZE, 2, {"request_settings.request_timeout_ms": 60})
    ended = walk.finish(begun, "failed")
    assert ended.error is not None
    why = "the container ended by itself: ValueError: the weights do not fit the model."
    assert ended.error.message == f"'{ENDPOINT}' failed at the start of the container: {why}"
    assert "read where they are" in ended.error.detail, "what the storage initializer wrote"
    app = open_app("deploy", at=walk.conn.alias, endpoint=ENDPOINT)
    run_until(app, lambda app: "Delete this endpoint, $7.35/h" in "".join(buttons(app)).replace("\\", ""))
    assert f"It holds 2 × {SIZE}, which bills until it is deleted, failed or not." in texts(app)
    broken.unlink()
    walk.finish(retry_operation(ended.id))
    again = endpoints.get_endpoint(walk.conn, ENDPOINT)
    assert again.live
    assert again.deployments[0].settings["request_settings.request_timeout_ms"] == 60


@pytest.mark.slow
def test_a_deployment_that_failed_elsewhere_is_explained_by_its_logs(walk: Walk) -> None:
    """Takes some seconds: as somebody's notebook leaves it, with no operation here."""
    endpoints.begin_endpoint(walk.conn, "elsewhere", "", {})
    broken = model_folder(walk) / "broken"
    broken.touch()
    endpoints.begin_deployment(walk.conn, "elsewhere", f"azureml:{MODEL}:1", "Standard_DS3_v2", 1, {}, {})
    with walk.azure.hurried():
        wait_until(lambda: endpoints.get_endpoint(walk.conn, "elsewhere").state_word == "Failed")
    broken.unlink()
    app = open_app("deploy", at=walk.conn.alias, endpoint="elsewhere")
    why = "'elsewhere' failed at the start of the container: the container ended by itself: ValueError"
    run_until(app, lambda app: why in texts(app))
    assert "It holds 1 × Standard_DS3_v2, which bills until it is deleted, failed or not." in texts(app)


def test_of_a_deploy_that_got_no_machine_nothing_bills(conn: Connection) -> None:
    assert describe_billing(conn, None) == "No machine is held for it, so nothing of it bills."

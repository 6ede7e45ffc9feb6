from __future__ import annotations

import json
from typing import Any

import pytest
import requests
from azure.ai.ml.exceptions import ErrorTarget, ValidationException
from azure.core import exceptions as core

from core import errors
from core.azureml.failures import Failure, Place
from core.azureml.service_errors import explain, find_rule, read_answer, read_failure, scrub, translate
from core.azureml.service_rules import RULES
from core.azureml.sign_in_rules import NETWORK, POLICIES, SIGN_IN

AZURE = Place("Azure", "ml-dev", "rg-ml", "sub-1", "management.azure.com", False)
LOCAL = Place("the local workspace", "local", "local", "sub-0", "127.0.0.1:8765", True)


def answer(status: int, code: str, message: str, place: Place = AZURE, **headers: str) -> errors.TunedeckError:
    return explain(read_answer(status, headers, envelope(code, message)), place, "create", "compute 'gpu-1'")


def envelope(code: str, message: str) -> str:
    return json.dumps({"error": {"code": code, "message": message}})


# (status, code, the service's message, where) -> (class, what the operator reads)
CASES: list[tuple[tuple[int, str, str, Place], type[errors.TunedeckError], str]] = [
    (
        (
            400,
            "ClusterMinNodesExceedCoreQuota",
            "The specified subscription has a Standard NCADSA100v4 family vCPU "
            "quota of 0 and cannot accomodate for at least 1 requested compute node which maps to 24 vCPUs.",
            AZURE,
        ),
        errors.QuotaExceeded,
        "Quota for NCADSA100v4: needs 24 cores, 0 free.",
    ),
    (
        (400, "BadRequest", "Not enough quota available for Standard_F4s_v2 in SubscriptionId x.", AZURE),
        errors.QuotaExceeded,
        "There is not enough quota to create compute 'gpu-1'.",
    ),
    (
        (
            400,
            "BadRequest",
            '"VmSize":["Not enough quota available for Standard_F4s_v2 in SubscriptionId x. Current '
            'usage/limit: 2/6. Additional needed: 8 Please see the guide"]',
            AZURE,
        ),
        errors.QuotaExceeded,
        "Quota for Standard_F4s_v2: needs 8 cores, 4 free of 6.",
    ),
    (
        (
            401,
            "InvalidAuthenticationTokenTenant",
            "The access token is from the wrong issuer "
            "'https://sts.windows.net/contoso/'. It must match the tenant 'https://sts.windows.net/fabrikam/'.",
            AZURE,
        ),
        errors.SignInFailed,
        "The sign-in is for tenant 'contoso'; this workspace is in 'fabrikam'.",
    ),
    (
        (401, "ExpiredAuthenticationToken", "The access token expiry UTC time is earlier.", AZURE),
        errors.SignInFailed,
        "The sign-in has expired.",
    ),
    (
        (401, "ExpiredAuthenticationToken", "The access token has expired.", LOCAL),
        errors.SignInFailed,
        "The local workspace on 127.0.0.1:8765 says that this home's token has expired (401).",
    ),
    (
        (200, "OutOfCapacity", "No GPU is free.", AZURE),
        errors.ServiceRefused,
        "There is no free machine to create compute 'gpu-1'.",
    ),
    (
        (200, "ImageBuildFailure", "pip failed.", AZURE),
        errors.ServiceRefused,
        "The image for compute 'gpu-1' could not be built.",
    ),
    (
        (200, "ImageBuildFailure", "pip failed.", LOCAL),
        errors.ServiceRefused,
        "The image for compute 'gpu-1' could not be built.",
    ),
    (
        (200, "ResourceNotReady", "The probe failed.", AZURE),
        errors.ServiceRefused,
        "The container of compute 'gpu-1' did not come up: The probe failed.",
    ),
    ((401, "AuthenticationFailed", "bad", AZURE), errors.SignInFailed, "Azure did not accept the sign-in (401)."),
    (
        (401, "AuthenticationFailed", "bad", LOCAL),
        errors.SignInFailed,
        "The local workspace on 127.0.0.1:8765 did not accept this home's token (401).",
    ),
    (
        (404, "SubscriptionNotFound", "The subscription 'sub-1' could not be found.", AZURE),
        errors.NotFound,
        "Subscription 'sub-1' was not found, or you have no role in it.",
    ),
    (
        (403, "AuthorizationFailed", "The client does not have authorization.", AZURE),
        errors.AccessDenied,
        "You may not create compute 'gpu-1' in 'ml-dev'.",
    ),
    (
        (
            403,
            "AuthorizationFailed",
            "The client does not have authorization to perform action "
            "'Microsoft.Insights/metrics/read' over scope '/subscriptions/s'.",
            AZURE,
        ),
        errors.AccessDenied,
        "You may not create compute 'gpu-1' in 'ml-dev'.",
    ),
    (
        (
            403,
            "AuthorizationFailed",
            "The client does not have authorization to perform action "
            "'Microsoft.MachineLearningServices/workspaces/computes/write'.",
            AZURE,
        ),
        errors.AccessDenied,
        "You may not create compute 'gpu-1' in 'ml-dev'.",
    ),
    (
        (404, "ResourceGroupNotFound", "Resource group 'rg-ml' could not be found.", AZURE),
        errors.NotFound,
        "Resource group 'rg-ml' was not found in subscription 'sub-1'.",
    ),
    (
        (
            404,
            "ResourceNotFound",
            "The Resource 'Microsoft.MachineLearningServices/workspaces/ml-dev' under resource "
            "group 'rg-ml' was not found.",
            AZURE,
        ),
        errors.NotFound,
        "Workspace 'ml-dev' was not found in resource group 'rg-ml'.",
    ),
    (
        (
            404,
            "ResourceNotFound",
            "The Resource 'Microsoft.MachineLearningServices/workspaces/ml-dev/computes/gpu-1' was not found.",
            AZURE,
        ),
        errors.NotFound,
        "Compute 'gpu-1' was not found in workspace 'ml-dev'.",
    ),
    (
        (409, "Conflict", "busy", AZURE),
        errors.Conflict,
        "Compute 'gpu-1' is there already, or something else uses it (409).",
    ),
    (
        (412, "PreconditionFailed", "etag", AZURE),
        errors.Conflict,
        "Compute 'gpu-1' was changed by someone else in the meantime (412).",
    ),
    ((429, "TooManyRequests", "slow down", AZURE), errors.Throttled, "Azure asks for a pause (429)."),
    (
        (400, "InvalidPropertyValue", "The size 'x' is not available", AZURE),
        errors.ServiceRefused,
        "Azure refused to create compute 'gpu-1': The size 'x' is not available.",
    ),
    (
        (501, "NotImplemented", "unknown", LOCAL),
        errors.ServiceRefused,
        "The local workspace does not know how to create compute 'gpu-1' (501).",
    ),
    (
        (503, "ServiceUnavailable", "later", AZURE),
        errors.ServiceFailed,
        "Azure failed to create compute 'gpu-1' (503).",
    ),
    (
        (200, "OperationFailed", "It broke.", AZURE),
        errors.ServiceRefused,
        "Azure could not create compute 'gpu-1': It broke.",
    ),
]


@pytest.mark.parametrize(("given", "kind", "said"), CASES, ids=[f"{case[0][0]}-{case[0][1]}" for case in CASES])
def test_an_answer_becomes_a_sentence(
    given: tuple[int, str, str, Place], kind: type[errors.TunedeckError], said: str
) -> None:
    status, code, message, place = given
    error = answer(status, code, message, place)
    assert (type(error), error.message) == (kind, said)
    assert error.hint
    assert f"status {status}" in error.detail
    assert code in error.detail


def test_every_rule_of_the_table_is_the_first_that_fits_some_failure() -> None:
    failures = [
        (read_answer(status, {}, envelope(code, message)), place) for (status, code, message, place), _, _ in CASES
    ]
    unanswered = (
        core.ServiceRequestError("refused"),
        core.ServiceResponseError("('Connection aborted.', RemoteDisconnected('Remote end closed'))"),
        core.ClientAuthenticationError("no credential"),
        core.ClientAuthenticationError("A token for x was asked of the credential of y."),
        ValidationException("bad", no_personal_data_message="", target=ErrorTarget.JOB),
    )
    failures += [(read_failure(error), place) for error in unanswered for place in (AZURE, LOCAL)]
    used = {find_rule(failure, place) for failure, place in failures}
    over_the_wire = (*NETWORK, *POLICIES, *SIGN_IN)  # tests/azure/test_causes.py
    assert [rule.message for rule in RULES if rule not in used and rule not in over_the_wire] == []


def test_a_workspace_that_gives_no_answer_is_named_with_its_address() -> None:
    for error in (
        core.ServiceRequestError("refused"),
        core.ServiceResponseTimeoutError("slow"),
        requests.ConnectTimeout(),
    ):
        down = translate(error, LOCAL, "read", "runs")
        assert type(down) is errors.LocalWorkspaceDown
        assert down.message == "The local workspace does not answer on 127.0.0.1:8765."
        assert down.hint == "Start it: `python -m core.local serve`. Runs and data are kept."
    assert type(translate(requests.ConnectionError(), AZURE, "read", "runs")) is errors.Unreachable


def test_the_pause_asked_for_is_told() -> None:
    assert answer(429, "TooManyRequests", "x", **{"Retry-After": "7"}).hint.startswith("Tunedeck waits 7 s")
    assert answer(429, "TooManyRequests", "x").hint.startswith("Tunedeck waits 20 s")
    by_its_clock = {"Retry-After": "Sat, 28 Nov 2026 12:00:09 GMT", "Date": "Sat, 28 Nov 2026 12:00:00 GMT"}
    dated = answer(429, "TooManyRequests", "x", **by_its_clock)
    assert isinstance(dated, errors.Throttled)
    assert dated.pause_s == 9.0


def test_what_the_sdk_itself_refuses_is_the_operators_input() -> None:
    problem = ValidationException("Name is too long", no_personal_data_message="", target=ErrorTarget.ONLINE_ENDPOINT)
    error = translate(problem, AZURE, "create", "endpoint 'x'")
    assert type(error) is errors.BadInput
    assert error.message == "Endpoint 'x' cannot be sent as it is: Name is too long."


def test_the_registrys_envelope_is_read_to_its_innermost_code() -> None:
    body = {
        "error": {
            "code": "UserError",
            "message": "not allowed",
            "innerError": {"code": "Auth", "innerError": {"code": "UnAuthorizedRegistryAccess", "innerError": None}},
        },
        "correlation": {"operation": "d2a6"},
    }
    assert read_answer(403, {}, json.dumps(body)).code == "UserError Auth UnAuthorizedRegistryAccess"


@pytest.mark.parametrize("body", ["", "<html><b>Bad gateway</b></html>", "[1]", "null", '{"error": "text"}', "{"])
def test_an_answer_in_no_known_envelope_still_reads_as_an_error(body: str) -> None:
    error = explain(read_answer(502, {}, body), AZURE, "read", "runs")
    assert error.message == "Azure failed to read runs (502)."


@pytest.mark.parametrize(
    "secret",
    [
        "Authorization: Bearer abc.def-123",
        "https://x.blob.core.windows.net/c/b?sv=1&sig=abc%2Fdef123&se=2",
        '{"primaryKey": "abcdef123"}',
        "DefaultEndpointsProtocol=https;AccountName=x;AccountKey=abcdef123==;EndpointSuffix=core.windows.net",
        '{"sasToken":"?sv=abcdef123"}',
        "eyJhbGciOi.eyJhdWQiOi.abcdef123",
    ],
)
def test_no_secret_stays_in_a_detail(secret: str) -> None:
    assert "def" not in scrub(secret)
    error = explain(Failure(400, "X", f"Cannot read {secret} now.", secret), AZURE, "read", "x")
    assert "def" not in f"{error.message} {error.hint} {error.detail}"


def test_a_failed_long_running_operation_keeps_its_own_words() -> None:
    """It was polled with status 200, so the words are in the exception and not in the answer."""

    class Answer:
        status_code = 200
        reason = "OK"
        headers: dict[str, str] = {}  # noqa: RUF012

        def text(self, *_: Any) -> str:
            return '{"status": "Failed"}'

    error = core.HttpResponseError(message="(NodeLost) The node went away.", response=Answer())
    said = translate(error, AZURE, "create", "deployment 'demo'")
    assert said.message == "Azure could not create deployment 'demo': The node went away."

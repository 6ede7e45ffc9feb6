from __future__ import annotations

import json

import pytest
import requests
from azure.core import exceptions as core

from core import errors
from core.azureml.failures import Failure, Place
from core.azureml.service_errors import explain, read_answer, scrub, translate

AZURE = Place("Azure", "ml-dev", "rg-ml", "sub-1", "management.azure.com", False)
LOCAL = Place("the local workspace", "local", "local", "sub-0", "127.0.0.1:8765", True)


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


def test_a_pause_told_by_the_services_clock_is_counted_by_it() -> None:
    by_its_clock = {"Retry-After": "Sat, 28 Nov 2026 12:00:09 GMT", "Date": "Sat, 28 Nov 2026 12:00:00 GMT"}
    dated = explain(read_answer(429, by_its_clock, ""), AZURE, "read", "runs")
    assert isinstance(dated, errors.Throttled)
    assert dated.pause_s == 9.0


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

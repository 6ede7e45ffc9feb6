"""Checks before a start: the disk has room for three times what a run leaves there, and the model may still be used."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from core.azureml.connection import Connection
from core.catalog.base_models import to_base_model
from core.launch.drafts import Draft, create_draft
from core.launch.plan import Check
from core.launch.preflight import check_licence, check_model
from tests.chat_data import from_upload
from tests.launching import plan_launch
from tests.local_server import LocalServer, running_server
from tests.tiny_model import NAME, build_tiny_model, make_conversations

HUGE = "huge-chat"
TERABYTE = 10**12


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    base_models = tmp_path_factory.mktemp("base-models")
    build_tiny_model(base_models)
    folder = build_tiny_model(base_models, name=HUGE)
    more = folder / "more.safetensors"
    more.touch()
    os.truncate(more, 4 * TERABYTE)  # a hole: it takes no space
    with running_server(tmp_path_factory.mktemp("served"), TUNEDECK_BASE_MODELS=str(base_models)) as running:
        yield running


def disk_check(conn: Connection, model: str, **parameters: object) -> Check:
    rows = "\n".join(json.dumps(row) for row in make_conversations(24))
    dataset = from_upload("kettle", rows.encode())
    draft = create_draft("local", model=model, compute="this-machine", dataset=dataset.key, parameters=parameters)
    plan = plan_launch(conn, draft)
    found = next(check for check in plan.checks if check.title == "Disk")
    assert (found in plan.failures) == (found.state == "failed")
    return found


def test_a_run_that_would_fill_the_disk_is_refused_with_both_figures(conn: Connection) -> None:
    refused = disk_check(conn, HUGE)
    assert refused.state == "failed"
    assert "GB are free where the run writes; 13200.0 GB are needed." in refused.detail
    assert "python -m core.local usage" in refused.hint
    full = disk_check(conn, HUGE, apply_lora="false")
    assert "108000.0 GB are needed" in full.detail, "a full training keeps two states of all that learns"


def test_a_run_that_fits_says_what_it_needs(conn: Connection) -> None:
    assert disk_check(conn, NAME).state == "ok"


@pytest.mark.parametrize(
    ("wire", "ticked", "state", "said"),
    [
        ({"isArchived": True}, "m", "failed", "'m' is archived: its registry offers it no more."),
        ({"tags": {"FinetuneRetirementDate": "2025-08-30"}}, "", "failed", "retired for fine-tuning on 30 Aug 2025"),
        ({"tags": {"FinetuneRetirementDate": "2025-08-30"}}, "other", "failed", "retired for fine-tuning"),
        ({"tags": {"FinetuneRetirementDate": "2025-08-30"}}, "m", "warning", "Azure may refuse it."),
        ({"tags": {"FinetuneRetirementDate": "2999-01-01"}}, "", "ok", "m version 1"),
    ],
)
def test_an_archived_model_is_refused_and_one_that_ended_by_its_dates_is_taken_once_ticked(
    wire: dict[str, object], ticked: str, state: str, said: str
) -> None:
    model = to_base_model("m", "1", {"properties": wire})
    found = check_model(model, Draft("d", "local", model="m", retired_model=ticked))
    assert (found.state, said in found.detail) == (state, True)


def test_a_licence_that_has_to_be_accepted_is_said_before_the_start_with_the_link() -> None:
    url = "https://llama.com/license"
    wire = {"properties": {"tags": {"license": "custom", "licenseUrl": url}}}
    found = check_licence(to_base_model("m", "1", wire), "https://studio")
    assert found is not None
    assert (found.state, found.link) == ("warning", url)
    assert check_licence(to_base_model("m", "1", {"properties": {"tags": {"license": "MIT"}}}), "") is None

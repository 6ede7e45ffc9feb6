"""Copies of a run's set-up: what the run was started with, whatever became of its draft."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.azureml import tags
from core.launch.drafts import Draft, create_draft, get_draft, mark_launched, save_draft
from core.operations import copy_setup
from core.operations.launch import Launch
from core.operations.ledger import Ledger
from core.recipe import Value, from_job_inputs
from core.runs.failures import RunError
from core.runs.states import Run

pytestmark = pytest.mark.usefixtures("home")
SENT: dict[str, Value] = {"learning_rate": 1e-4, "num_train_epochs": 5}


def start(**started: object) -> tuple[Draft, Run]:
    """A run started from a draft that asked for five epochs; the learning rate is the model's own."""
    draft = create_draft(
        "local", model="SmolLM2", compute="this-machine", dataset="abc", parameters={"num_train_epochs": 5}
    )
    launch = Launch("brave-otter-1", parameters=SENT, draft=draft.id, revision=draft.revision)
    mark_launched(draft.id, Ledger().start("local", launch).id)
    kept = {tags.DRAFT: draft.id, tags.DATASET_KEY: "abc", tags.RECIPE: tags.format_recipe(SENT)}
    run = Run(
        "brave-otter-1",
        "brave-otter",
        "Completed",
        model="SmolLM2",
        model_version="1",
        compute="this-machine",
        parameters=from_job_inputs(SENT),
        tags=kept,
        **started,  # type: ignore[arg-type]
    )
    return draft, run


def test_a_run_is_copied_with_the_settings_that_its_operator_chose() -> None:
    _, run = start()
    copy = copy_setup(run, "local", "local")
    assert (copy.model, copy.model_version, copy.compute, copy.dataset) == ("SmolLM2", "1", "this-machine", "abc")
    assert copy.parameters == {"num_train_epochs": 5}


def test_a_run_of_another_machine_is_copied_from_its_tags_even_where_a_draft_here_has_the_same_id() -> None:
    draft, run = start()
    save_draft(get_draft(draft.id), dataset="other", retired_model="SmolLM2", parameters={"warmup_steps": 7})
    theirs = replace(run, tags={**run.tags, tags.MADE_BY: "another-home"})
    copy = copy_setup(theirs, "local")
    assert (copy.dataset, copy.retired_model, copy.parameters, copy.again) == ("abc", "", SENT, run.name)
    assert copy_setup(replace(theirs, tags={tags.MADE_BY: "another-home"}), "local").parameters == SENT


def test_what_was_changed_in_the_draft_after_the_start_is_not_copied() -> None:
    draft, run = start()
    launched = save_draft(get_draft(draft.id), dataset="other", parameters={"warmup_steps": 7})
    assert launched.parameters == {"warmup_steps": 7}
    copy = copy_setup(run, "local", "local")
    assert copy.dataset == "abc"
    assert copy.parameters == {**SENT, "warmup_steps": run.parameters["warmup_steps"]}


def test_another_workspace_gets_data_and_own_settings_and_chooses_model_and_compute_anew() -> None:
    _, run = start()
    copy = copy_setup(run, "local", "ml-dev")
    assert (copy.connection, copy.dataset, copy.parameters) == ("ml-dev", "abc", {"num_train_epochs": 5})
    assert (copy.model, copy.compute, copy.launched) == ("", "", "")


def test_a_failed_run_is_copied_with_what_its_error_advises() -> None:
    advice = RunError("The run stopped: out of memory.", settings={"per_device_train_batch_size": 2})
    _, run = start(error=advice)
    assert copy_setup(run, "local", "local").parameters == {"num_train_epochs": 5, "per_device_train_batch_size": 2}

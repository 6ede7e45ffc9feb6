from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from core.catalog.lifecycle import read_lifecycle

SOON = datetime.now(UTC).date() + timedelta(days=40)


def test_the_end_of_fine_tuning_and_of_inference_are_told_apart_each_with_its_source() -> None:
    wire: dict[str, Any] = {
        "tags": {"FinetuneRetirementDate": "2025-06-30", "InferenceDeprecationDate": "2025-07-01"},
        "systemMetadata": {"deprecation": {"inferenceRetirementDate": f"{SOON}T00:00:00.000000Z"}},
    }
    life = read_lifecycle(wire)
    assert (life.finetuning.retired_on, life.finetuning.is_over) == (date(2025, 6, 30), True)
    assert (life.inference.retired_on, life.inference.is_over) == (SOON, False)
    assert life.badges[0] == "retired for fine-tuning 30 Jun 2025"
    assert life.badges[1].startswith("inference ends ")
    assert life.warning("Llama") == (
        "By its registry's dates Llama is retired for fine-tuning on 30 Jun 2025 (tag FinetuneRetirementDate). "
        "Azure may refuse it."
    )
    assert life.refusal("Llama") == ""


def test_two_endings_of_one_day_are_said_once() -> None:
    assert read_lifecycle({"tags": {"RetirementDate": "2025-08-30"}}).badges == (
        "retired for fine-tuning and inference 30 Aug 2025",
    )
    (soon,) = read_lifecycle({"tags": {"RetirementDate": str(SOON)}}).badges
    assert soon.startswith("fine-tuning and inference end ")


def test_a_tag_counts_before_the_system_metadata() -> None:
    wire = {
        "tags": {"InferenceRetirementDate": "2026-01-01"},
        "systemMetadata": {"deprecation": {"inferenceRetirementDate": "2025-01-01T00:00:00Z"}},
    }
    assert read_lifecycle(wire).inference.retired_on == date(2026, 1, 1)


def test_a_date_without_a_use_ends_both_and_a_deprecation_alone_warns_of_nothing() -> None:
    life = read_lifecycle({"properties": {"retirement-date": "2025-01-31"}})
    assert [ending.use for ending in life.over] == ["fine-tuning", "inference"]
    life = read_lifecycle({"tags": {"FinetuneDeprecationDate": "2025-03-31"}})
    assert (life.badges, life.warning("m")) == (("deprecated for fine-tuning 31 Mar 2025",), "")


def test_what_the_registry_archived_is_refused_with_what_follows_it() -> None:
    life = read_lifecycle({"isArchived": True, "systemMetadata": {"deprecation": {"replacementModel": "Phi-4"}}})
    assert life.refusal("Phi-3") == "Phi-3 is archived: its registry offers it no more."
    assert life.way_out == "Pick 'Phi-4', which follows it."
    assert life.badges == ("archived", "successor: Phi-4")


@pytest.mark.parametrize(
    "wire",
    [
        {"tags": {"suggestedReplacement": "Phi-4"}},
        {"properties": {"successor": "Phi-4"}},
        {"systemMetadata": {"deprecation": {"replacementModels": [{"name": "Phi-4"}]}}},
    ],
)
def test_what_follows_a_model_is_read_wherever_a_registry_names_it(wire: dict[str, Any]) -> None:
    assert read_lifecycle(wire).successor == "Phi-4"


@pytest.mark.parametrize(
    ("wire", "preview"),
    [
        ({"tags": {"Preview": ""}}, True),
        ({"systemMetadata": {"preview": True}}, True),
        ({"systemMetadata": {"preview": False}}, False),
        ({"stage": "Preview"}, True),
        ({"stage": "Production"}, False),
        ({}, False),
    ],
)
def test_a_preview_is_marked_by_a_tag_the_metadata_or_the_stage(wire: dict[str, Any], preview: bool) -> None:
    assert ("preview" in read_lifecycle(wire).badges) is preview


@pytest.mark.parametrize("day", ["soon", "", None, "2025-02-30", 7])
def test_a_day_that_is_none_is_left_out(day: object) -> None:
    assert read_lifecycle({"tags": {"FinetuneRetirementDate": day}}).badges == ()

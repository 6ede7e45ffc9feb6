"""What is kept as JSON is read as it was, whatever was added or taken away since."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from core.stored import parse_fields, to_json


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True)
class Part:
    name: str
    colour: Colour = Colour.RED


@dataclass(frozen=True)
class Whole:
    subject: str
    parts: tuple[Part, ...] = ()
    words: tuple[str, ...] = ()
    at: datetime | None = None


def test_a_dataclass_is_read_as_it_was_kept() -> None:
    whole = Whole("x", (Part("a"), Part("b")), ("one",), datetime(2026, 11, 28, 6, 0, 0, 5, tzinfo=UTC))
    read = parse_fields(Whole, json.loads(to_json(**vars(whole))))
    assert read == whole
    assert read.parts[0].colour is Colour.RED


def test_a_missing_field_has_its_default_and_an_unknown_one_is_left_out() -> None:
    assert parse_fields(Whole, {"colour": "blue", "at": ""}, subject="x") == Whole("x")

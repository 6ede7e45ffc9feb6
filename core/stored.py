"""Frozen dataclasses as JSON: how they are kept, and how what an earlier or later Tunedeck kept is read."""

from __future__ import annotations

import json
import typing
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cache, partial
from typing import Any, TypeVar

T = TypeVar("T")


def to_json(**parts: Any) -> str:
    """Return the parts as a JSON object: dataclasses as objects, times as ISO text."""
    return json.dumps(parts, default=lambda value: value.isoformat() if isinstance(value, datetime) else asdict(value))


def parse_fields(cls: type[T], stored: Mapping[str, Any], **known: Any) -> T:
    """Return a dataclass from a JSON object, with the fields of `known` besides.

    A field that is missing has its default, an unknown one is left out. Raises ValueError, KeyError, TypeError or
    AttributeError where the object makes no sense.
    """
    parsers = _list_parsers(cls)  # type: ignore[arg-type]
    return cls(**{name: parse(stored[name]) for name, parse in parsers.items() if name in stored}, **known)


def parse_time(text: str | None) -> datetime | None:
    """Return a time in UTC from ISO text; None for none."""
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


@cache
def _list_parsers(cls: type[Any]) -> dict[str, Callable[[Any], Any]]:
    types = typing.get_type_hints(cls)
    return {each.name: _find_parser(types[each.name]) for each in fields(cls)}


def _find_parser(wanted: Any) -> Callable[[Any], Any]:
    options = typing.get_args(wanted)
    if typing.get_origin(wanted) is tuple:
        parse = _find_parser(options[0])
        return lambda values: tuple(parse(each) for each in values)
    if datetime in (wanted, *options):
        return parse_time
    if isinstance(wanted, type) and issubclass(wanted, Enum):
        return wanted
    return partial(parse_fields, wanted) if isinstance(wanted, type) and is_dataclass(wanted) else lambda value: value

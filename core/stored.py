"""Frozen dataclasses as JSON: how they are kept, and how what an earlier or later Tunedeck kept is read."""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, TypeVar

T = TypeVar("T")


def to_json(**parts: Any) -> str:
    """Return the parts as a JSON object: dataclasses as objects, times as ISO text."""
    return json.dumps(parts, default=lambda value: value.isoformat() if isinstance(value, datetime) else asdict(value))


def parse_fields(cls: type[T], stored: Mapping[str, Any], **known: Any) -> T:
    """Return a dataclass from a JSON object, `known` in front of it.

    A field that is missing has its default, an unknown one is left out. Raises ValueError, KeyError, TypeError or
    AttributeError where the object makes no sense.
    """
    types = typing.get_type_hints(cls)
    names = [each.name for each in fields(cls) if each.name in stored]  # type: ignore[arg-type]
    return cls(**{name: _parse(types[name], stored[name]) for name in names}, **known)


def _parse(wanted: Any, value: Any) -> Any:
    options = typing.get_args(wanted)
    if typing.get_origin(wanted) is tuple:
        return tuple(_parse(options[0], each) for each in value)
    if wanted is datetime or datetime in options:
        return parse_time(value)
    if isinstance(wanted, type) and issubclass(wanted, Enum):
        return wanted(value)
    return parse_fields(wanted, value) if isinstance(wanted, type) and is_dataclass(wanted) else value


def parse_time(text: str | None) -> datetime | None:
    """Return a time in UTC from ISO text; None for none."""
    return datetime.fromisoformat(text).astimezone(UTC) if text else None

"""How far a base model is in its life, as its registry says: preview, deprecated, retired, archived, and what follows.

Fine-tuning and inference end on days of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

_SUCCESSOR = re.compile(r"(?i)(suggested)?[ _-]?(replacement|successor)[ _-]?(model|name)?s?")


@dataclass(frozen=True)
class Ending:
    """When one use of a model ends."""

    use: str
    """ "fine-tuning" or "inference"."""
    deprecated_on: date | None = None
    retired_on: date | None = None
    source: str = ""
    """Where the day of retirement was read."""

    @property
    def is_over(self) -> bool:
        """Tell whether the day of retirement has come."""
        return _has_come(self.retired_on)

    @property
    def words(self) -> str:
        """Return "retired for inference 30 Aug 2025", "fine-tuning ends …", "deprecated for …", or ""."""
        if self.retired_on:
            return f"{f'retired for {self.use}' if self.is_over else f'{self.use} ends'} {day_words(self.retired_on)}"
        if self.deprecated_on:
            verb = "deprecated for" if _has_come(self.deprecated_on) else "to be deprecated for"
            return f"{verb} {self.use} {day_words(self.deprecated_on)}"
        return ""


@dataclass(frozen=True)
class Lifecycle:
    """What a registry says of a model's life."""

    archived: bool = False
    preview: bool = False
    finetuning: Ending = Ending("fine-tuning")
    inference: Ending = Ending("inference")
    successor: str = ""
    """The model that the registry names in its place."""

    @property
    def badges(self) -> tuple[str, ...]:
        """Return what a list says beside the model's name, one for both endings where they are of one day."""
        found = ["archived"] if self.archived else []
        found += ["preview"] if self.preview else []
        both, one = self.finetuning, self.inference
        if both.retired_on and both.retired_on == one.retired_on:
            found.append(
                both.words.replace(both.use, f"{both.use} and {one.use}").replace("inference ends", "inference end")
            )
        else:
            found += [ending.words for ending in (both, one) if ending.words]
        return (*found, f"successor: {self.successor}") if self.successor else tuple(found)

    @property
    def over(self) -> tuple[Ending, ...]:
        """Return what has ended by its date; that alone warns, for a service may still take it."""
        return tuple(ending for ending in (self.finetuning, self.inference) if ending.is_over)

    def refusal(self, title: str) -> str:
        """Return why a model may not be used for anything new, or ""."""
        return f"{title} is archived: its registry offers it no more." if self.archived else ""

    @property
    def way_out(self) -> str:
        """Return what to do about a model that is archived or has ended."""
        return f"Pick '{self.successor}', which follows it." if self.successor else "Pick another model."

    def warning(self, title: str) -> str:
        """Return a sentence on what has ended, with its source, or ""."""
        if not self.over:
            return ""
        ends = " and ".join(f"{ending.use} on {day_words(ending.retired_on)} ({ending.source})" for ending in self.over)
        return f"By its registry's dates {title} is retired for {ends}. Azure may refuse it."


def read_lifecycle(wire: Mapping[str, Any]) -> Lifecycle:
    """Return the lifecycle that a version's properties tell; tags count before properties before system metadata."""
    metadata = wire.get("systemMetadata") or wire.get("system_metadata") or {}
    ends = metadata.get("deprecation")
    places: list[tuple[str, Mapping[str, Any]]] = [
        ("tag", wire.get("tags") or {}),
        ("property", wire.get("properties") or {}),
        ("metadata", ends if isinstance(ends, Mapping) else {}),
    ]
    return Lifecycle(
        archived=bool(wire.get("isArchived")),
        preview=_is_preview(wire, places[0][1], metadata),
        finetuning=_read_ending("fine-tuning", ("finetune", "finetuning", ""), places),
        inference=_read_ending("inference", ("inference", ""), places),
        successor=next((name for _, said in places for key in said for name in _successor_of(key, said[key])), ""),
    )


def day_words(day: date | None) -> str:
    """Return "30 Aug 2025"."""
    return f"{day.day} {day:%b %Y}" if day else ""


def _read_ending(use: str, prefixes: tuple[str, ...], places: list[tuple[str, Mapping[str, Any]]]) -> Ending:
    deprecated_on, _ = _find_day([f"{prefix}deprecationdate" for prefix in prefixes], places)
    retired_on, source = _find_day([f"{prefix}retirementdate" for prefix in prefixes], places)
    return Ending(use, deprecated_on, retired_on, source)


def _find_day(wanted: list[str], places: list[tuple[str, Mapping[str, Any]]]) -> tuple[date | None, str]:
    for name in wanted:
        for place, said in places:
            for key, value in said.items():
                if re.sub(r"[^a-z]", "", str(key).lower()) == name and (day := _to_day(value)):
                    return day, f"{place} {key}"
    return None, ""


def _to_day(value: Any) -> date | None:
    try:
        return date.fromisoformat(str(value)[:10])
    except ValueError:
        return None


def _is_preview(wire: Mapping[str, Any], tags: Mapping[str, Any], metadata: Mapping[str, Any]) -> bool:
    said = {key.lower(): value for key, value in {**metadata, **tags}.items()}.get("preview")
    stages = (wire.get("stage"), metadata.get("lifecycle"))
    flag = said is not None and str(said).lower() not in ("false", "0")
    return flag or any(str(stage).lower() == "preview" for stage in stages)


def _successor_of(key: str, value: Any) -> Iterator[str]:
    """Yield the names that a field gives whose own name says that it names what follows."""
    if not _SUCCESSOR.fullmatch(str(key)):
        return
    for name in value if isinstance(value, list) else [value]:
        name = name.get("name") or name.get("modelName") if isinstance(name, Mapping) else name
        if name:
            yield str(name)


def _has_come(day: date | None) -> bool:
    return day is not None and day <= datetime.now(UTC).date()

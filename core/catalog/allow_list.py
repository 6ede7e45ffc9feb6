"""The sizes that a base model permits, and its own parameters, as its registry publishes them."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Value = str | int | float | bool
Use = Literal["finetune", "inference"]


@dataclass(frozen=True)
class MinimumSize:
    """The least that a size must have, where no list names the sizes; disk in GiB is not known of a size."""

    cores: int
    gpus: int
    memory_gib: int

    @property
    def words(self) -> str:
        """Return "24 cores, 1 GPU, 220 GiB"."""
        return f"{self.cores} cores, {self.gpus} GPU{'s' if self.gpus != 1 else ''}, {self.memory_gib} GiB"

    def holds(self, cores: int, gpus: int, memory_gib: float) -> bool:
        """Tell whether a size has all of it."""
        return cores >= self.cores and gpus >= self.gpus and memory_gib >= self.memory_gib


@dataclass(frozen=True)
class AllowList:
    """Sizes a model permits."""

    sizes: tuple[str, ...] | None
    """None where no list could be read; then the minimum counts, else the deny-list."""
    source: Literal["template", "tag", "property", "metadata", "published", "none"] = "none"
    """Where the list, else the minimum, was read."""
    source_name: str = ""
    """The tag's or property's own name."""
    problem: str | None = None
    """A sentence where a list is there and cannot be read."""
    hint: str = ""
    """What to do about the problem."""
    minimum: MinimumSize | None = None
    """Read only where no list could be."""

    def permits(self, size_name: str) -> bool | None:
        """Tell whether a size is in the list, case ignored; None where there is no list."""
        if self.sizes is None:
            return None
        return size_name.lower() in {size.lower() for size in self.sizes}

    @property
    def words(self) -> str:
        """Return what decides which sizes are permitted, and where it was read."""
        place = f"{self.source} {self.source_name}"
        if self.sizes is not None:
            return f"Allow-list read from: {place} ({len(self.sizes)} size{'s' if len(self.sizes) != 1 else ''})"
        if self.minimum:
            return f"Allow-list: none was found. A size needs {self.minimum.words}, read from: {place}"
        return "Allow-list: none was found. The deny-list of small GPU sizes is used."


def parse_literal(text: str) -> Any:
    """Return what a tag says: JSON, else a Python literal, else a list split at commas; ValueError where cut off."""
    text = text.strip()
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    bare = re.fullmatch(r"\[([^\[\]{}()\"':]*)\]", text)  # a list whose names have no quotes
    text = bare.group(1) if bare else text
    if re.search(r"[\[\]{}()\"':]", text):
        raise ValueError(text)
    return [part.strip() for part in text.split(",") if part.strip()]


def read_allow_list(
    use: Use, model_name: str, tags: Mapping[str, str], properties: Mapping[str, Any], metadata: Mapping[str, Any]
) -> AllowList:
    """Return the sizes a model permits, from the first place that says: tag, property, metadata, minimum.

    A list that cannot be read does not hide one that can: its problem is kept beside that.
    """
    sources: list[tuple[Literal["tag", "property", "metadata"], str, Any]] = [
        ("tag", f"{use}_compute_allow_list", tags.get(f"{use}_compute_allow_list")),
        ("tag", "computes_allow_list", tags.get("computes_allow_list")),
        ("property", f"{use}-recommended-sku", properties.get(f"{use}-recommended-sku")),
        ("metadata", f"supportedComputes.{use}Computes", dig(metadata, "supportedComputes", f"{use}Computes")),
        ("metadata", f"SKU.{use}RecommendedSkus", dig(metadata, "SKU", f"{use}RecommendedSkus")),
    ]
    problem: str | None = None
    for source, source_name, value in sources:
        if value in (None, "", []):
            continue
        try:
            return AllowList(to_names(value), source, source_name, problem, _hint(problem, found=True))
        except ValueError as cut:
            problem = (
                problem or f"The allow-list of '{model_name}' could not be read: \"{shorten(str(cut))}\" is cut off."
            )
    minimum = {
        "property": (f"{use}-min-sku-spec", properties.get(f"{use}-min-sku-spec")),
        "metadata": (f"SKU.{use}MinSkuSpec", dig(metadata, "SKU", f"{use}MinSkuSpec")),
    }
    for place, (source_name, value) in minimum.items():
        if found := re.fullmatch(r"\s*(\d{1,6})\|(\d{1,6})\|(\d{1,6})\|\d{1,6}\s*", str(value or "")):
            least = MinimumSize(*map(int, found.groups()))
            return AllowList(None, place, source_name, problem, _hint(problem, minimum=True), least)  # type: ignore[arg-type]
    return AllowList(None, problem=problem, hint=_hint(problem))


def read_defaults(model_name: str, text: str | None) -> tuple[dict[str, Value], str | None]:
    """Return a model's own parameters, and a sentence where they are there and cannot be read."""
    if not text:
        return {}, None
    try:
        found = parse_literal(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        problem = f"The defaults of '{model_name}' could not be read: \"{shorten(text)}\" is no dictionary."
        return {}, f"{problem} They are left out."
    return {str(key): value for key, value in found.items() if isinstance(value, str | int | float | bool)}, None


def to_names(value: Any) -> tuple[str, ...]:
    """Return the names that a tag, a property or a list holds; ValueError where it is cut off."""
    found = parse_literal(value) if isinstance(value, str) else value
    if isinstance(found, str):
        found = [found]
    if not isinstance(found, Iterable) or isinstance(found, Mapping):
        raise ValueError(str(value))
    return tuple(dict.fromkeys(str(name).strip() for name in found if str(name).strip()))


def dig(metadata: Mapping[str, Any], *path: str) -> Any:
    """Return what lies at a path of nested mappings, or None."""
    value: Any = metadata
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def shorten(text: str) -> str:
    """Return at most 40 characters of a text that is quoted."""
    return text if len(text) <= 40 else f"{text[:37]}…"


def _hint(problem: str | None, *, found: bool = False, minimum: bool = False) -> str:
    if problem is None:
        return ""
    if found:
        return "Another list of the model is used instead."
    if minimum:
        return "The least that the model asks of a size is used instead."
    return "The deny-list is used instead. Check the GPU memory yourself."

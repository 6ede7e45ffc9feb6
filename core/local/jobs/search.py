"""MLflow's language of filters and orders, as far as a dashboard asks: comparisons joined by `and`.

metrics.loss < 1.5 and params.optim = 'adamw' and tags."mlflow.runName" LIKE 'brave%' and attributes.status = 'FINISHED'
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core.local.wire.errors import WireError

_KEY = r"(?:(?P<sort>metrics?|params?|parameters?|tags?|attributes?|attr|run)\.)?(?P<key>\"[^\"]+\"|`[^`]+`|[\w.\-]+)"
_COMPARISON = re.compile(
    rf"\s*{_KEY}\s*(?P<operator>!=|>=|<=|=|>|<|I?LIKE)\s*(?P<value>'[^']*'|\"[^\"]*\"|[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(?P<and>and\b)?",
    re.IGNORECASE,
)
_ORDER = re.compile(rf"\s*{_KEY}\s*(?P<direction>ASC|DESC)?\s*", re.IGNORECASE)
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda left, right: bool(left == right),
    "!=": lambda left, right: bool(left != right),
    ">": lambda left, right: bool(left > right),
    "<": lambda left, right: bool(left < right),
    ">=": lambda left, right: bool(left >= right),
    "<=": lambda left, right: bool(left <= right),
    "like": lambda left, right: fnmatch.fnmatchcase(str(left), str(right).replace("%", "*").replace("_", "?")),
    "ilike": lambda left, right: fnmatch.fnmatchcase(
        str(left).lower(), str(right).lower().replace("%", "*").replace("_", "?")
    ),
}


@dataclass(frozen=True)
class Comparison:
    """One condition on a run; `sort` is metrics, params, tags or attributes."""

    sort: str
    key: str
    operator: str
    value: str | float

    def holds(self, found: Any) -> bool:
        """Tell whether a value passes; one that is missing, or of another type, does not."""
        if found is None or isinstance(found, str) != isinstance(self.value, str):
            return False
        return _OPERATORS[self.operator](found, self.value)


def read_filter(text: str) -> list[Comparison]:
    """Return the conditions of a filter; raises WireError 400 for what is not understood."""
    found, position = [], 0
    while position < len(text.rstrip()):
        match = _COMPARISON.match(text, position)
        if match is None or (not match["and"] and match.end() < len(text.rstrip())):
            raise WireError(400, "BadRequest", f"The filter '{text}' is not understood from '{text[position:]}' on.")
        raw = match["value"]
        value: str | float = raw[1:-1] if raw[0] in "'\"" else float(raw)
        found.append(Comparison(_sort_of(match["sort"]), match["key"].strip('"`'), match["operator"].lower(), value))
        position = match.end()
    return found


def value_of(run: dict[str, Any], sort: str, key: str) -> Any:
    """Return what a run in MLflow's form has under a key, None where it has nothing."""
    if sort == "attributes":
        names = {"run_name": "run_name", "Created": "start_time", "created": "start_time"}
        return run["info"].get(names.get(key, key))
    return next((each["value"] for each in run["data"][sort] if each["key"] == key), None)


def sort_runs(found: list[dict[str, Any]], clause: str) -> None:
    """Sort runs in place by one clause (`metrics.loss DESC`); those without the value come last."""
    match = _ORDER.fullmatch(clause)
    if match is None:
        raise WireError(400, "BadRequest", f"The order '{clause}' is not understood.")
    sort, key = _sort_of(match["sort"]), match["key"].strip('"`')
    having = [run for run in found if value_of(run, sort, key) is not None]
    lacking = [run for run in found if value_of(run, sort, key) is None]
    having.sort(
        key=lambda run: _orderable(value_of(run, sort, key)), reverse=(match["direction"] or "").upper() == "DESC"
    )
    found[:] = [*having, *lacking]


def _orderable(value: Any) -> tuple[bool, float, str]:
    """Return a key for numbers and texts together: a metric that is not finite is written as text."""
    return (True, 0.0, value) if isinstance(value, str) else (False, float(value), "")


def _sort_of(word: str | None) -> str:
    if not word or word.lower() in ("attribute", "attributes", "attr", "run"):
        return "attributes"
    return {"m": "metrics", "p": "params", "t": "tags"}[word[0].lower()]

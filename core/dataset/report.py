"""What a check found in one file, and keeps beside it: the findings, and counts for plots."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import numpy
from numpy.typing import NDArray

from core.dataset.findings import Finding, Severity, Unit, in_order, read_kept

ESTIMATE_UNIT = "tokens (estimate: characters / 4)"
EXACT_UNIT = "tokens"


@dataclass(frozen=True)
class Stats:
    """Counts for plots. Keys of `lengths` and `turns` are numbers, their values rows.

    length_unit: EXACT_UNIT with the model's tokenizer, ESTIMATE_UNIT without. trained_length: how many tokens of
    total_length are trained on, 0 if they were not counted.
    """

    turns: dict[int, int] = field(default_factory=dict)
    roles: dict[str, int] = field(default_factory=dict)
    lengths: dict[int, int] = field(default_factory=dict)
    length_unit: str = ""
    total_length: int = 0
    longest: int = 0
    trained_length: int = 0

    @property
    def in_tokens(self) -> bool:
        """Whether lengths are counted in the model's own tokens, not estimated."""
        return self.length_unit == EXACT_UNIT

    def count_longer(self, max_length: int) -> int:
        """Return how many rows are cut at `max_length` (-1: none)."""
        return sum(rows for length, rows in self.lengths.items() if length > max_length) if max_length > 0 else 0

    def count_cut(self, max_length: int) -> int:
        """Return how many tokens a cut at `max_length` takes from all rows (-1: none)."""
        longer = ((length - max_length) * rows for length, rows in self.lengths.items() if length > max_length)
        return sum(longer) if max_length > 0 else 0

    def histogram(self, bins: int = 40) -> list[tuple[int, int, int]]:
        """Return (from, to, rows) per bin, for a bar chart; all bins have the same width, a whole number."""
        if not self.lengths:
            return []
        low, high = min(self.lengths), max(self.lengths)
        width = max(1, -(-(high - low + 1) // bins))
        counts: Counter[int] = Counter()
        for length, rows in self.lengths.items():
            counts[(length - low) // width] += rows
        return [(low + n * width, low + (n + 1) * width, counts[n]) for n in range(max(counts) + 1)]

    def with_lengths(self, lengths: NDArray[Any], unit: str, trained_length: int = 0) -> Self:
        """Return these counts with the lengths of all rows, `(rows,)` of integers."""
        values, rows = numpy.unique(lengths, return_counts=True)
        return replace(
            self,
            lengths=dict(zip(values.tolist(), rows.tolist(), strict=True)),
            length_unit=unit,
            total_length=int(lengths.sum()),
            longest=int(values[-1]) if len(values) else 0,
            trained_length=trained_length,
        )

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """Return kept counts. Earlier versions kept `characters` as well."""
        by_number = {name: {int(key): rows for key, rows in kept[name].items()} for name in ("turns", "lengths")}
        return cls(**{name: value for name, value in kept.items() if name != "characters"} | by_number)


@dataclass(frozen=True)
class Report:
    """What a check found in a file. unit: what its rows are called by their number, "row" where lines mean nothing."""

    rows: int
    findings: tuple[Finding, ...] = ()
    stats: Stats = field(default_factory=Stats)
    unit: Unit = "line"

    @property
    def errors(self) -> int:
        """Return how many errors there are: each counts its rows, or 1 if it is about the whole file."""
        return sum(finding.count for finding in self.findings if finding.kind.severity.blocks)

    @property
    def warnings(self) -> int:
        """Return how many warnings there are, counted as errors are."""
        return sum(finding.count for finding in self.findings if finding.kind.severity is Severity.WARNING)

    @property
    def words(self) -> str:
        """Return "Fix 3 errors first. Line 7 is the first.", what is wrong with the whole file, or ""."""
        errors = [finding for finding in self.findings if finding.kind.severity.blocks]
        if not errors:
            return ""
        if not errors[0].lines:
            return errors[0].example
        count = "1 error" if self.errors == 1 else f"{self.errors:,} errors"
        if self.errors == 1:
            return f"Fix {count} first."
        first = min(finding.lines[0] for finding in errors)
        return f"Fix {count} first. {self.unit.capitalize()} {first:,} is the first."

    def with_findings(self, findings: Iterable[Finding]) -> Self:
        """Return a report with more findings; they replace those of the same kind."""
        by_code = {finding.code: finding for finding in (*self.findings, *findings)}
        return replace(self, findings=in_order(by_code.values()))

    def without(self, codes: Collection[str]) -> Self:
        """Return a report without the findings of these kinds."""
        return replace(self, findings=tuple(finding for finding in self.findings if finding.code not in codes))

    def to_json(self) -> str:
        """Return the report as it is kept beside the data."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return a kept report. Earlier versions kept more, which follows from the findings."""
        kept = json.loads(text)
        findings = tuple(read_kept(kept.get("findings", ())))
        return cls(kept["rows"], findings, Stats.from_json(kept["stats"]), kept.get("unit", "line"))


Reports = tuple[Report, Report | None]  # of the training file, and of the test file where there is one

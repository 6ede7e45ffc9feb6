"""Checks a JSONL chat file line by line: findings, counts for plots, an index of its rows. Holds one line at a time."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from core.dataset.rows import Problem, check_row, read_line
from core.dataset.tokens import LengthCounter, TemplateRefused
from core.errors import BadInput

MINIMUM_ROWS = 10  # Azure's pipeline refuses fewer
KEPT_PROBLEMS = 100  # of each severity
_BOM = b"\xef\xbb\xbf"

Progress = Callable[[int], None]  # hears how many rows are done


@dataclass(frozen=True)
class Stats:
    """Counts for plots. Keys of `lengths` and `turns` are numbers, their values rows.

    length_unit: "tokens" with the model's tokenizer, "tokens (estimate: characters / 4)" without.
    """

    turns: dict[int, int] = field(default_factory=dict)
    roles: dict[str, int] = field(default_factory=dict)
    lengths: dict[int, int] = field(default_factory=dict)
    length_unit: str = ""
    total_length: int = 0
    longest: int = 0
    characters: int = 0

    def count_longer(self, max_length: int) -> int:
        """Return how many rows are cut at `max_length` (-1: none)."""
        return sum(rows for length, rows in self.lengths.items() if length > max_length) if max_length > 0 else 0

    def histogram(self, bins: int = 40) -> list[tuple[int, int, int]]:
        """Return (from, to, rows) per bin, for a bar chart; bins are of one width, a whole number."""
        if not self.lengths:
            return []
        low, high = min(self.lengths), max(self.lengths)
        width = max(1, -(-(high - low + 1) // bins))
        counts: Counter[int] = Counter()
        for length, rows in self.lengths.items():
            counts[(length - low) // width] += rows
        return [(low + n * width, low + (n + 1) * width, counts[n]) for n in range(max(counts) + 1)]


@dataclass(frozen=True)
class Report:
    """What a check found. At most 100 problems of each severity are kept; the counts count all."""

    rows: int
    problems: tuple[Problem, ...]
    errors: int
    warnings: int
    stats: Stats

    @property
    def words(self) -> str:
        """Return "Fix 3 errors first. Line 7 is the first.", or ""."""
        if not self.errors:
            return ""
        first = self.problems[0].line
        count = "1 error" if self.errors == 1 else f"{self.errors:,} errors"
        return f"Fix {count} first." + (f" Line {first:,} is the first." if first and self.errors > 1 else "")

    def to_json(self) -> str:
        """Return the report as it is kept beside the data."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Return a kept report."""
        kept = json.loads(text)
        stats = kept.pop("stats")
        for name in ("turns", "lengths"):
            stats[name] = {int(key): rows for key, rows in stats[name].items()}
        problems = tuple(Problem(**problem) for problem in kept.pop("problems"))
        return cls(**kept, problems=problems, stats=Stats(**stats))


def check_file(
    path: Path,
    tokenizer: Path | None = None,
    minimum_rows: int = MINIMUM_ROWS,
    progress: Progress | None = None,
) -> Report:
    """Check a JSONL chat file, and write the index of its rows beside it.

    tokenizer: the folder of the chosen model; without it lengths are estimated.
    """
    check = _Check(LengthCounter(tokenizer))
    with RowIndex.writing(path) as index:
        for line, offset, raw in read_lines(path):
            if offset == 0 and _refuse_file(check, raw):
                break
            index.add(offset, line)
            check.add(line, raw)
            if progress and check.rows % 500 == 0:
                progress(check.rows)
    return check.finish(minimum_rows)


def read_lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Yield (line from 1, offset, content) of every line that is not blank."""
    with path.open("rb") as file:
        offset = 0
        for line, raw in enumerate(file, start=1):
            if raw.strip() and raw != _BOM:
                yield line, offset, raw
            offset += len(raw)


class RowIndex:
    """Where each row of a file begins, beside the file: pairs of 8-byte numbers, offset and line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers = array("Q")

    @staticmethod
    def path_of(path: Path) -> Path:
        """Return where the index of a file is."""
        return path.with_suffix(".index")

    @classmethod
    def writing(cls, path: Path) -> RowIndex:
        """Return an index to be filled inside `with`; it appears when that ends well."""
        return cls(cls.path_of(path))

    def add(self, offset: int, line: int) -> None:
        """Note where a row begins."""
        self._numbers.extend((offset, line))

    def __enter__(self) -> RowIndex:
        return self

    def __exit__(self, kind: object, *details: object) -> None:
        if kind is None:
            temporary = self._path.with_suffix(".index.part")
            with temporary.open("wb") as file:
                self._numbers.tofile(file)
            temporary.replace(self._path)

    @classmethod
    def read(cls, path: Path, first: int, count: int) -> list[tuple[int, int]]:
        """Return (offset, line) of `count` rows from row `first` (0 = the first)."""
        where = cls.path_of(path)
        if not where.exists():
            raise BadInput(f"The file {path.name} has not been checked yet.", "Check it first.")
        numbers = array("Q")
        with where.open("rb") as file:
            file.seek(first * 16)
            found = file.read(max(0, count) * 16)
        numbers.frombytes(found[: len(found) // 16 * 16])
        return list(zip(numbers[::2], numbers[1::2], strict=True))

    @classmethod
    def count(cls, path: Path) -> int:
        """Return the number of rows."""
        return cls.path_of(path).stat().st_size // 16


class _Check:
    """Adds up what is found."""

    def __init__(self, counter: LengthCounter) -> None:
        self.rows = 0
        self._counter = counter
        self._kept: dict[str, list[Problem]] = {"error": [], "warning": []}
        self._counts: Counter[str] = Counter()
        self._turns: Counter[int] = Counter()
        self._roles: Counter[str] = Counter()
        self._lengths: Counter[int] = Counter()
        self._characters = 0
        self._seen: set[bytes] = set()
        self._copies: list[int] = []

    def add(self, line: int, raw: bytes) -> None:
        """Check a row and count it."""
        self.rows += 1
        row, problem = read_line(line, raw.removeprefix(_BOM) if line == 1 else raw)
        problems = [problem] if problem else check_row(line, row or {})
        for found in problems:
            self.note(found)
        if row is None or any(found.severity == "error" for found in problems):
            return
        self._count(line, row["messages"])

    def note(self, problem: Problem) -> None:
        """Keep a finding, or only count it where there are many."""
        self._counts[problem.severity] += 1
        if len(self._kept[problem.severity]) < KEPT_PROBLEMS:
            self._kept[problem.severity].append(problem)

    def finish(self, minimum_rows: int) -> Report:
        """Return the report; findings about the whole file come first."""
        whole = self._check_whole(minimum_rows)
        for problem in whole:
            self._counts[problem.severity] += 1
        kept = sorted([*whole, *self._kept["error"], *self._kept["warning"]], key=lambda p: (p.severity, p.line))
        total = sum(length * rows for length, rows in self._lengths.items())
        stats = Stats(
            turns=dict(sorted(self._turns.items())),
            roles=dict(self._roles),
            lengths=dict(sorted(self._lengths.items())),
            length_unit=self._counter.unit,
            total_length=total,
            longest=max(self._lengths, default=0),
            characters=self._characters,
        )
        return Report(self.rows, tuple(kept), self._counts["error"], self._counts["warning"], stats)

    def _count(self, line: int, messages: Sequence[Mapping[str, Any]]) -> None:
        try:
            length = self._counter.count(messages)
        except TemplateRefused as error:
            said = f"Line {line} is refused by the model's chat template: {error}"
            self.note(Problem(line, "messages", said, "Change the order of the roles, or remove the line."))
            return
        self._lengths[length] += 1
        self._turns[len(messages)] += 1
        for message in messages:
            self._roles[message["role"]] += 1
            self._characters += len(message["content"])
        self._note_copy(line, messages)

    def _note_copy(self, line: int, messages: Sequence[Mapping[str, Any]]) -> None:
        content = "\0".join(f"{message['role']}\0{message['content']}" for message in messages)
        digest = hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        if digest in self._seen:
            self._copies.append(line)
        self._seen.add(digest)

    def _check_whole(self, minimum_rows: int) -> list[Problem]:
        found = []
        if not self.rows and not self._counts["error"]:
            found.append(Problem(0, "", "The file is empty.", "Choose a file with one conversation per line."))
        elif self.rows < minimum_rows and self.rows:
            has = "1 row" if self.rows == 1 else f"{self.rows} rows"
            found.append(Problem(0, "", f"The file has {has}; training needs at least {minimum_rows}.", "Add rows."))
        if self._copies:
            count = "1 row is a copy" if len(self._copies) == 1 else f"{len(self._copies):,} rows are copies"
            said = f"{count} of an earlier row. Line {self._copies[0]:,} is the first."
            found.append(Problem(0, "", said, "Remove copies: they are learned more strongly.", "warning"))
        return found


def _refuse_file(check: _Check, first: bytes) -> bool:
    """Note what is wrong with the file as a whole; tell whether there is no use in reading on."""
    if first.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in first[:200]:
        check.note(Problem(0, "", "The file is not UTF-8 text: it looks like UTF-16 or binary.", "Save it as UTF-8."))
        return True
    if first.startswith(_BOM):
        said = "The file begins with a byte order mark."
        fix = "Nothing: it is left out of the copy that is used."
        check.note(Problem(0, "", said, fix, "warning"))
    if first.removeprefix(_BOM).strip() in (b"[", b"[{"):
        said = "The file is one JSON list, not one object per line (JSONL)."
        check.note(Problem(0, "", said, "Write each object on a line of its own, without the list and its commas."))
        return True
    return False

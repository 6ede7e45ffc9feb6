"""Checks a JSONL chat file: findings, counts for plots, a table of its rows. Reads no line itself: see scan.py."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy

from core.dataset import table
from core.dataset.findings import CODES, Finding, flag, in_order, make_finding
from core.dataset.lengths import count_lengths
from core.dataset.model_process import BadModel
from core.dataset.progress import Meter
from core.dataset.rows import Problem
from core.dataset.scan import BOM, Scan, scan_file
from core.dataset.tokens import ESTIMATE_UNIT, TOKEN_UNIT, LengthCounter
from core.recipe import MINIMUM_ROWS

KEPT_PROBLEMS = 100  # of each severity

Told = Callable[[int], None]  # hears how many rows are done


@dataclass(frozen=True)
class Stats:
    """Counts for plots. Keys of `lengths` and `turns` are numbers, their values rows.

    length_unit: "tokens" with the model's tokenizer, "tokens (estimate: characters / 4)" without. trained_length: how
    many of total_length are learned from, 0 where they were not counted.
    """

    turns: dict[int, int] = field(default_factory=dict)
    roles: dict[str, int] = field(default_factory=dict)
    lengths: dict[int, int] = field(default_factory=dict)
    length_unit: str = ""
    total_length: int = 0
    longest: int = 0
    characters: int = 0
    trained_length: int = 0

    def count_longer(self, max_length: int) -> int:
        """Return how many rows are cut at `max_length` (-1: none)."""
        return sum(rows for length, rows in self.lengths.items() if length > max_length) if max_length > 0 else 0

    def count_cut(self, max_length: int) -> int:
        """Return how many tokens lie behind `max_length` in all rows (-1: none)."""
        longer = ((length - max_length) * rows for length, rows in self.lengths.items() if length > max_length)
        return sum(longer) if max_length > 0 else 0

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
    """What a check found. At most 100 problems of each severity are kept; counts and findings count all."""

    rows: int
    problems: tuple[Problem, ...]
    errors: int
    warnings: int
    stats: Stats
    findings: tuple[Finding, ...] = ()

    @property
    def words(self) -> str:
        """Return "Fix 3 errors first. Line 7 is the first.", what is wrong with the model, or ""."""
        if not self.errors:
            return ""
        if self.problems[0].code == "bad_model":
            return self.problems[0].message
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
        findings = tuple(finding_from_json(one) for one in kept.pop("findings", ()))
        return cls(**kept, problems=problems, stats=Stats(**stats), findings=findings)


def finding_from_json(kept: dict[str, object]) -> Finding:
    """Return a kept finding."""
    return Finding(**{**kept, "lines": tuple(kept["lines"])})  # type: ignore[arg-type]


def check_file(
    path: Path,
    tokenizer: Path | None = None,
    minimum_rows: int = MINIMUM_ROWS,
    progress: Told | None = None,
    meter: Meter | None = None,
) -> Report:
    """Check a JSONL chat file, and write the table of its rows beside it.

    tokenizer: the folder of the chosen model; without it lengths are estimated.
    """
    whole = _refuse_file(path)
    if whole and whole[0].severity == "error":
        table.write(table.path_of(path), numpy.zeros(0, table.ROW))
        return _report(path, Scan(), whole, Stats())
    total = path.stat().st_size

    def told(rows: int, done: int) -> None:
        if progress:
            progress(rows)
        if meter:
            meter.tell("Checked", rows, done=done, total=total)

    scan = scan_file(path, told)
    whole += _check_whole(path, scan, minimum_rows)
    stats = estimate_lengths(path, scan)
    if tokenizer is not None:
        stats = count_tokens(path, LengthCounter(tokenizer), stats, scan, progress, meter)
    return _report(path, scan, whole, stats)


def estimate_lengths(path: Path, scan: Scan) -> Stats:
    """Return the counts of a scanned file, its lengths a quarter of the characters."""
    chars = table.read(path)["chars"]
    lengths = (numpy.array(chars[chars > 0], dtype=numpy.int64) + 3) // 4
    turns: Counter[int] = Counter()
    roles: Counter[str] = Counter()
    for order, rows in scan.orders.items():
        turns[len(order)] += rows
        for role in order:
            roles[role] += rows
    return _with_lengths(
        Stats(turns=dict(sorted(turns.items())), roles=dict(roles), characters=int(chars.sum(dtype=numpy.int64))),
        lengths,
        ESTIMATE_UNIT,
    )


def count_tokens(
    path: Path, counter: LengthCounter, stats: Stats, scan: Scan, progress: Told | None, meter: Meter | None
) -> Stats:
    """Count every row's tokens, note in `scan` what the template refuses, and return the counts."""
    records, refused = count_lengths(path, counter, progress, meter)
    if refused:
        scan.counts["template_refused"] = len(refused)
        scan.problems["template_refused"] = refused[:KEPT_PROBLEMS]
    tokens = records["tokens"][records["tokens"] > 0].astype(numpy.int64)
    counted = _with_lengths(stats, tokens, TOKEN_UNIT)
    return Stats(**{**vars(counted), "trained_length": int(records["trained"].sum(dtype=numpy.int64))})


def _with_lengths(stats: Stats, lengths: table.Rows, unit: str) -> Stats:
    values, rows = numpy.unique(lengths, return_counts=True)
    kept = dict(zip(values.tolist(), rows.tolist(), strict=True))
    total, longest = int(lengths.sum()), int(values[-1]) if len(values) else 0
    return Stats(**{**vars(stats), "lengths": kept, "length_unit": unit, "total_length": total, "longest": longest})


def _report(path: Path, scan: Scan, whole: list[Problem], stats: Stats) -> Report:
    """Put what was found in order: whole files first, errors before warnings."""
    groups = {code: (scan.counts[code], [one.line for one in problems]) for code, problems in scan.problems.items()}
    groups |= {code: find_lines(path, code) for code in groups if code != "template_refused"}
    counts = {
        severity: sum(rows for code, (rows, _) in groups.items() if CODES[code].severity == severity)
        for severity in ("error", "warning")
    }
    kept = []
    for severity in ("error", "warning"):
        found = [one for problems in scan.problems.values() for one in problems if one.severity == severity]
        kept += sorted(found, key=lambda one: one.line)[:KEPT_PROBLEMS]
        counts[severity] += sum(one.severity == severity for one in whole)
    kept = sorted([*whole, *kept], key=lambda one: (one.severity, one.line))
    findings = [_of_code(code, *groups[code], problems[0]) for code, problems in scan.problems.items()]
    findings += [_of_whole(path, one) for one in whole]
    return Report(scan.rows, tuple(kept), counts["error"], counts["warning"], stats, in_order(findings))


def _of_code(code: str, count: int, lines: list[int], first: Problem) -> Finding:
    return make_finding(code, count, lines, first.field, first.message, first.fix)


def _of_whole(path: Path, problem: Problem) -> Finding:
    """Return a finding about the whole file, with its lines where it has some."""
    lines: list[int] = []
    count = 1
    if CODES[problem.code].bit >= 0:
        count, lines = find_lines(path, problem.code)
    return make_finding(problem.code, count, lines, problem.field, problem.message, problem.fix)


def find_lines(
    path: Path, code: str, layers: tuple[str, ...] = (), limit: int = KEPT_PROBLEMS
) -> tuple[int, list[int]]:
    """Return how many rows have a finding, and the first lines."""
    places = numpy.flatnonzero(table.read_flags(path, layers) & numpy.uint64(flag(code)))
    return len(places), [int(line) for line in table.read(path)["line"][places[:limit]]]


def mark_copies(path: Path) -> list[int]:
    """Flag the rows that are copies of an earlier one, in the table; return their lines."""
    if not table.count(path):
        return []
    rows = numpy.memmap(table.path_of(path), table.ROW, "r+")
    hashes = numpy.array(rows["hash"])
    _, first = numpy.unique(hashes, return_index=True)
    copies = numpy.ones(len(hashes), bool)
    copies[first] = False
    copies &= hashes != 0
    places = numpy.flatnonzero(copies)
    rows["flags"][places] |= numpy.uint64(flag("duplicate"))
    lines = [int(line) for line in rows["line"][places]]
    rows.flush()
    return lines


def mark_leakage(train: Path, test: Path) -> Problem | None:
    """Flag the rows of a test file that training holds too; return the finding."""
    if not table.count(test) or not table.count(train):
        return None
    known = table.read(train)["hash"]
    rows = numpy.memmap(table.path_of(test), table.ROW, "r+")
    hashes = numpy.array(rows["hash"])
    places = numpy.flatnonzero(numpy.isin(hashes, known) & (hashes != 0))
    if not len(places):
        return None
    rows["flags"][places] |= numpy.uint64(flag("leakage"))
    rows.flush()
    has = "1 row is" if len(places) == 1 else f"{len(places):,} rows are"
    said = f"{has} in the training file too. Line {int(rows['line'][places[0]]):,} is the first."
    return Problem(0, "", said, CODES["leakage"].fix, "warning", "leakage")


def with_problem(report: Report, path: Path, problem: Problem | None) -> Report:
    """Return a report with one more finding about the whole file."""
    if problem is None:
        return report
    problems = sorted([problem, *report.problems], key=lambda one: (one.severity, one.line))
    findings = in_order([_of_whole(path, problem), *report.findings])
    return Report(
        report.rows,
        tuple(problems),
        report.errors + (problem.severity == "error"),
        report.warnings + (problem.severity == "warning"),
        report.stats,
        findings,
    )


def with_findings(report: Report, findings: Iterable[Finding]) -> Report:
    """Return a report with what the longer checks found."""
    findings = tuple(findings)
    warnings = sum(one.count for one in findings if one.severity == "warning")
    known = {one.code for one in findings}
    kept = [one for one in report.findings if one.code not in known]
    return replace(report, findings=in_order([*kept, *findings]), warnings=report.warnings + warnings)


def count_file_tokens(report: Report, path: Path, tokenizer: Path, meter: Meter | None = None) -> Report:
    """Return the report of a checked file with its tokens counted, and what the model's template refuses.

    A model whose own files cannot be used is a finding as well: the data stays, and another model can be chosen.
    """
    scan = Scan()
    try:
        stats = count_tokens(path, LengthCounter(tokenizer), report.stats, scan, None, meter)
    except BadModel as error:
        return with_problem(report, path, _whole("bad_model", error.message, error.hint))
    counted = _report(path, scan, [], stats)
    problems = sorted([*report.problems, *counted.problems], key=lambda one: (one.severity, one.line))
    return replace(
        report,
        stats=stats,
        problems=tuple(problems),
        errors=report.errors + counted.errors,
        findings=in_order([*report.findings, *counted.findings]),
    )


def count_both(
    reports: tuple[Report, Report | None], train: Path, test: Path | None, tokenizer: Path, meter: Meter | None = None
) -> tuple[Report, Report | None]:
    """Return the reports of both files with their tokens counted, as count_file_tokens does."""
    first, second = count_file_tokens(reports[0], train, tokenizer, meter), reports[1]
    if second is not None and test is not None and not any(one.code == "bad_model" for one in first.findings):
        second = count_file_tokens(second, test, tokenizer, meter)
    return first, second


def _check_whole(path: Path, scan: Scan, minimum_rows: int) -> list[Problem]:
    found = []
    if not scan.rows:
        found.append(_whole("empty_file", "The file is empty.", "Choose a file with one conversation per line."))
    elif scan.rows < minimum_rows:
        has = "1 row" if scan.rows == 1 else f"{scan.rows} rows"
        found.append(
            _whole("too_few_rows", f"The file has {has}; training needs at least {minimum_rows}.", "Add rows.")
        )
    if copies := mark_copies(path):
        count = "1 row is a copy" if len(copies) == 1 else f"{len(copies):,} rows are copies"
        said = f"{count} of an earlier row. Line {copies[0]:,} is the first."
        found.append(_whole("duplicate", said, "Remove copies: they are learned more strongly."))
    return found


def _refuse_file(path: Path) -> list[Problem]:
    """Return what is wrong with a file as a whole; an error means there is no use in reading on."""
    with path.open("rb") as file:
        first = file.read(256)
    if first.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in first[:200]:
        return [_whole("not_text", "The file is not UTF-8 text: it looks like UTF-16 or binary.", "Save it as UTF-8.")]
    found = []
    if first.startswith(BOM):
        found.append(_whole("byte_order_mark", "The file begins with a byte order mark.", CODES["byte_order_mark"].fix))
    if first.removeprefix(BOM).split(b"\n")[0].strip() in (b"[", b"[{"):
        said = "The file is one JSON list, not one object per line (JSONL)."
        fix = "Write each object on a line of its own, without the list and its commas."
        return [_whole("json_list", said, fix)]
    return found


def _whole(code: str, message: str, fix: str) -> Problem:
    return Problem(0, "", message, fix, CODES[code].severity, code)

"""A data set in the home: its files, its shape, its findings."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy

from core import home
from core.dataset import files, look, repair, table
from core.dataset.check import Report, Stats, with_findings
from core.dataset.files import TEST, TRAIN
from core.dataset.findings import Finding, flag, in_order, make_finding
from core.dataset.repair import REPAIRABLE, Repairer, RepairPlan
from core.dataset.rows import Problem
from core.dataset.shapes import Shape


@dataclass(frozen=True)
class ChatDataset:
    """Chat data in the home. `key`, the hash of its content, finds it again: find_dataset(key).

    shape: what the source was recognised as. mark: the tokenizer that counted its lengths, "estimate" = none.
    """

    key: str
    name: str
    source: str
    train_path: Path
    test_path: Path | None
    train: Report
    test: Report | None
    split_note: str
    created_at: float
    shape: Shape | None = None
    mark: str = "estimate"

    @property
    def sha256(self) -> str:
        """Return the hash of the content of both files."""
        return self.key

    @property
    def rows(self) -> int:
        """Return the number of training rows."""
        return self.train.rows

    @property
    def test_rows(self) -> int:
        """Return the number of test rows."""
        return self.test.rows if self.test else 0

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Return the findings in the training file, then those in the test file; a test file's say so in `field`."""
        in_test = self.test.problems if self.test else ()
        return (*self.train.problems, *(replace(found, field=f"test {found.field}".strip()) for found in in_test))

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Return the findings of both files as groups, worst first."""
        in_test = self.test.findings if self.test else ()
        return in_order((*self.train.findings, *(replace(found, file="test") for found in in_test)))

    @property
    def errors(self) -> int:
        """Return how many errors block its use."""
        return self.train.errors + (self.test.errors if self.test else 0)

    @property
    def warnings(self) -> int:
        """Return how many findings do not block its use."""
        return self.train.warnings + (self.test.warnings if self.test else 0)

    @property
    def stats(self) -> Stats:
        """Return the counts of the training file."""
        return self.train.stats

    @property
    def usable(self) -> bool:
        """Tell whether no error blocks its use."""
        return not self.errors

    @property
    def words(self) -> str:
        """Return why it cannot be used, or ""."""
        return self.train.words or (f"In the test file: {self.test.words}" if self.test and self.test.words else "")


def find_dataset(key: str, tokenizer: Path | None = None) -> ChatDataset | None:
    """Return the data set of that key, lengths counted with `tokenizer` where that was done before, else estimated."""
    folder = files.folder_of(key)
    manifest = files.read_manifest(folder) if files.is_hash(key) else None
    if manifest is None:
        return None
    mark = files.find_report_mark(folder, files.tokenizer_mark(tokenizer))
    reports = files.read_reports(folder, mark) if mark else None
    if reports is None:
        return None
    return ChatDataset(
        key=key,
        name=manifest.name,
        source=manifest.source,
        train_path=folder / TRAIN,
        test_path=folder / TEST if manifest.has_test else None,
        train=with_findings(reports[0], files.read_findings(folder, "train")),
        test=with_findings(reports[1], files.read_findings(folder, "test")) if reports[1] else None,
        split_note=manifest.split_note,
        created_at=manifest.created_at,
        shape=Shape(**manifest.shape) if manifest.shape else None,
        mark=str(mark),
    )


def list_all() -> list[ChatDataset]:
    """Return every data set in the home, newest first, those with errors too."""
    root = home.current().datasets
    found = [find_dataset(path.name) for path in root.iterdir()] if root.is_dir() else []
    return sorted((one for one in found if one), key=lambda one: one.created_at, reverse=True)


def list_datasets() -> list[ChatDataset]:
    """Return every data set in the home that can be used, newest first."""
    return [one for one in list_all() if one.usable]


def find_tokenizer(model_name: str, model_version: str) -> Path | None:
    """Return the folder with that base model's tokenizer, if it is on this machine; both names are a registry's."""
    if not all(re.fullmatch(r"\w[\w.-]{0,254}", name, re.ASCII) for name in (model_name, model_version)):
        return None
    folder = home.current().base_models / model_name / model_version
    return folder if (folder / "tokenizer.json").is_file() else None


def list_length_findings(dataset: ChatDataset, max_length: int) -> tuple[Finding, ...]:
    """Return what a cut at `max_length` tokens does to the training rows: which lose their end, which every answer."""
    if max_length <= 0:
        return ()
    path, found = dataset.train_path, []
    for code in ("too_long", "no_trained_tokens"):
        places = look.find_places(path, code, dataset.mark, max_length)
        if len(places):
            lines = [int(line) for line in table.read(path)["line"][places[:50]]]
            cut = dataset.stats.count_cut(max_length)
            said = (
                f"{len(places):,} rows are cut at {max_length:,} {dataset.stats.length_unit}: {cut:,} are lost."
                if code == "too_long"
                else f"{len(places):,} rows hold no answer before token {max_length:,}: nothing is learned from them."
            )
            found.append(make_finding(code, len(places), lines, "messages", said))
    return tuple(found)


def list_problem_lines(report: Report) -> list[int]:
    """Return the lines with findings, in order; find_row() reads one."""
    return sorted({problem.line for problem in report.problems if problem.line})


def plan_repair(dataset: ChatDataset, codes: Collection[str] = REPAIRABLE, file: str = "train") -> RepairPlan:
    """Return what the safe repairs would do to a file, with the first 20 changes; about 0.1 ms a row with findings."""
    path = _path_of(dataset, file)
    flags = table.read_flags(path, look.LAYERS)
    wanted = flag(*codes) if codes else 0
    places = numpy.flatnonzero(flags & numpy.uint64(wanted))
    rows = table.read(path)
    lines = ((int(rows["line"][at]), table.read_line_at(path, int(rows["offset"][at]))) for at in places)
    return repair.plan(lines, _repairer(path, codes), table.count(path))


def repaired_lines(dataset: ChatDataset, codes: Collection[str] = REPAIRABLE, file: str = "train") -> Iterator[bytes]:
    """Yield the lines of the repaired copy of a file, without line ends."""
    path = _path_of(dataset, file)
    return repair.apply(_numbered(path), _repairer(path, codes))


def read_repaired(path: Path) -> bytes:
    """Return the file as UTF-8 with every safe repair made."""
    return b"".join(raw + b"\n" for raw in repair.apply(_numbered(path), _repairer(path, REPAIRABLE)))


def _path_of(dataset: ChatDataset, file: str) -> Path:
    return dataset.test_path if file == "test" and dataset.test_path else dataset.train_path


def _numbered(path: Path) -> Iterator[tuple[int, bytes]]:
    lines, at = table.read(path)["line"], 0
    for batch in table.iterate(path):
        for raw in batch:
            yield int(lines[at]), raw.removeprefix(b"\xef\xbb\xbf").strip()
            at += 1


def _repairer(path: Path, codes: Collection[str]) -> Repairer:
    flags, lines = table.read_flags(path, look.LAYERS), table.read(path)["line"]
    copies, leaked = (
        set(lines[numpy.flatnonzero(flags & numpy.uint64(flag(code)))].tolist()) for code in ("duplicate", "leakage")
    )
    return Repairer(codes, copies, leaked)

"""A data set in the home: its files, its shape, its findings."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from core import home
from core.dataset import row_index, row_pages, store
from core.dataset.columns import Columns
from core.dataset.findings import DataFile, Finding, Unit, in_order
from core.dataset.forms.row_shapes import Shape
from core.dataset.model.token_counts import NO_TOKENIZER, mark_of
from core.dataset.report import Report, Stats
from core.dataset.set_aside import NOTHING, SetAside, read_set_aside
from core.dataset.store import TEST, TRAIN, Manifest
from core.words import plural_is


@dataclass(frozen=True)
class ChatDataset:
    """Chat data in the home. `key`, the hash of its content, finds it again: find_dataset(key).

    shape: what the source was recognised as. mark: the tokenizer that counted its lengths, NO_TOKENIZER: estimates.
    aside: the kinds of finding that are no problem here, as the operator said; they stand in the reports all the same.
    of: the key of the data set that it was copied from, repaired or edited.
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
    mark: str = NO_TOKENIZER
    aside: SetAside = field(default_factory=lambda: NOTHING)
    of: str = ""

    @property
    def folder(self) -> Path:
        """Return where its files lie, and what was found in them."""
        return self.train_path.parent

    @property
    def rows(self) -> int:
        """Return the number of training rows."""
        return self.train.rows

    @property
    def test_rows(self) -> int:
        """Return the number of test rows."""
        return self.test.rows if self.test else 0

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Return the findings of both files as groups, worst first, those that are set aside too."""
        in_test = self.test.findings if self.test else ()
        return in_order((*self.train.findings, *(replace(finding, file="test") for finding in in_test)))

    def is_set_aside(self, finding: Finding) -> bool:
        """Tell whether the operator said that a group of findings is no problem here."""
        return finding.code in self.aside[finding.file]

    def look_again(self) -> Self:
        """Return the data set with what is set aside by now."""
        return replace(self, aside=read_set_aside(self.folder))

    def unit_of(self, file: DataFile) -> Unit:
        """Return what the rows of a file are called by their number: "line", or "row" where lines mean nothing."""
        return self.test.unit if file == "test" and self.test else self.train.unit

    @property
    def _standing(self) -> tuple[Report, Report]:
        """The reports of both files without what is set aside."""
        test = self.test or Report(0)
        return self.train.without(self.aside["train"]), test.without(self.aside["test"])

    @property
    def errors(self) -> int:
        """Return how many errors block its use."""
        return sum(report.errors for report in self._standing)

    @property
    def warnings(self) -> int:
        """Return how many warnings there are, which do not block its use."""
        return sum(report.warnings for report in self._standing)

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
        train, test = self._standing
        return train.words or (f"In the test file: {test.words}" if test.words else "")

    @property
    def files(self) -> dict[DataFile, Path]:
        """Return the training file, and the test file if there is one."""
        train: dict[DataFile, Path] = {"train": self.train_path}
        return {**train, "test": self.test_path} if self.test_path else train

    def path_of(self, file: DataFile) -> Path:
        """Return the path of a file, that of the training file if there is no test file."""
        return self.files.get(file, self.train_path)


def find_dataset(key: str, tokenizer: Path | None = None) -> ChatDataset | None:
    """Return the data set of that key, lengths counted with `tokenizer` where that was done before, else estimated."""
    folder = store.folder_of(key)
    manifest = store.read_manifest(folder) if store.is_hash(key) else None
    mark = store.find_report_mark(folder, mark_of(tokenizer)) if manifest else None
    reports = store.read_reports(folder, mark) if mark else None
    if manifest is None or mark is None or reports is None:
        return None
    train, test = reports
    return ChatDataset(
        key,
        manifest.name,
        manifest.source,
        folder / TRAIN,
        folder / TEST if manifest.has_test else None,
        train.with_findings((*_judge(manifest), *store.read_findings(folder, "train"))),
        test.with_findings(store.read_findings(folder, "test")) if test else None,
        manifest.split_note,
        manifest.created_at,
        manifest.shape,
        mark,
        read_set_aside(folder),
        manifest.of,
    )


def _judge(manifest: Manifest) -> list[Finding]:
    """Return what is to be said of how rows were read: a guess is not used before it is confirmed."""
    shape, mended = manifest.shape, [Finding("mended_file", " ".join(manifest.mended))] if manifest.mended else []
    if shape is None or not shape.columns or shape.is_sure:
        return mended
    return [Finding("guessed_shape" if shape.is_recognised else "unread_shape", shape.words), *mended]


def read_columns(dataset: ChatDataset) -> Columns | None:
    """Return the columns of the rows as they were given, None where an earlier version did not keep them."""
    return store.read_columns(dataset.folder)


def list_all() -> list[ChatDataset]:
    """Return every data set in the home, newest first, those with errors too."""
    datasets = [find_dataset(path.name) for path in home.current().datasets.glob("*")]
    return sorted(filter(None, datasets), key=lambda dataset: dataset.created_at, reverse=True)


def list_datasets() -> list[ChatDataset]:
    """Return every data set in the home that can be used, newest first."""
    return [dataset for dataset in list_all() if dataset.usable]


def find_tokenizer(model_name: str, model_version: str) -> Path | None:
    """Return the folder with that base model's tokenizer, if it is on this machine; both names are a registry's."""
    if not all(re.fullmatch(r"\w[\w.-]{0,254}", name, re.ASCII) for name in (model_name, model_version)):
        return None
    folder = home.current().base_models / model_name / model_version
    return folder if (folder / "tokenizer.json").is_file() else None


def count_rows(dataset: ChatDataset, findings: Iterable[Finding], max_length: int = -1) -> int:
    """Return how many rows these findings are about; each counts once. max_length: at which rows are cut."""
    found = list(findings)
    return sum(
        row_pages.count_rows(
            path, [finding.code for finding in found if finding.file == file], dataset.mark, max_length
        )
        for file, path in dataset.files.items()
    )


def list_length_findings(dataset: ChatDataset, max_length: int) -> tuple[Finding, ...]:
    """Return what a cut at `max_length` tokens does to the training rows: which lose their end, which every answer."""
    if max_length <= 0:
        return ()
    path, lost = dataset.train_path, plural_is(dataset.stats.count_cut(max_length))
    findings = []
    for code in ("too_long", "no_trained_tokens"):
        places = row_pages.find_places(path, code, dataset.mark, max_length)
        cut = f"{plural_is(len(places), 'row')} cut at {max_length:,} {dataset.stats.length_unit}: {lost} lost."
        them = "that row" if len(places) == 1 else "these rows"
        silent = f"Nothing is learned from {them}: no answer stands before token {max_length:,}."
        if len(places):
            findings.append(row_index.make_finding(path, places, code, cut if code == "too_long" else silent))
    return tuple(findings)

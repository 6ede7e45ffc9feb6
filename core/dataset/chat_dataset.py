"""A data set in the home: its files, its findings, its rows. Knows neither where it came from nor where it goes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from core import home
from core.dataset import files
from core.dataset.check import Report, RowIndex, Stats, check_file, read_lines
from core.dataset.files import TEST, TRAIN
from core.dataset.rows import Problem, check_row, read_line


@dataclass(frozen=True)
class ChatDataset:
    """Chat data in the home. `key`, the hash of its content, finds it again: find_dataset(key)."""

    key: str
    name: str
    source: str
    train_path: Path
    test_path: Path | None
    train: Report
    test: Report | None
    split_note: str
    created_at: float

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


@dataclass(frozen=True)
class Row:
    """One line as it stands in the file; `messages` is empty where it cannot be read as chat."""

    line: int
    messages: tuple[dict[str, str], ...]
    text: str


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
        train=reports[0],
        test=reports[1],
        split_note=manifest.split_note,
        created_at=manifest.created_at,
    )


def list_datasets() -> list[ChatDataset]:
    """Return every data set in the home that can be used, newest first."""
    root = home.current().datasets
    found = [find_dataset(path.name) for path in root.iterdir()] if root.is_dir() else []
    return sorted((one for one in found if one and one.usable), key=lambda one: one.created_at, reverse=True)


def count_tokens_with(dataset: ChatDataset, tokenizer: Path | None) -> ChatDataset:
    """Return the data set with lengths counted by a model's tokenizer; remembered, else about 0.2 ms a row.

    Blocks for that long: use it in a reader.
    """
    folder, mark = dataset.train_path.parent, files.tokenizer_mark(tokenizer)
    kept = files.read_reports(folder, mark)
    if kept is None:
        train = check_file(dataset.train_path, tokenizer)
        test = check_file(dataset.test_path, tokenizer, minimum_rows=1) if dataset.test_path else None
        files.write_reports(folder, mark, train, test)
        kept = train, test
    return replace(dataset, train=kept[0], test=kept[1])


def find_tokenizer(model_name: str, model_version: str) -> Path | None:
    """Return the folder with that base model's tokenizer, if it is on this machine."""
    folder = home.current().base_models / model_name / model_version
    return folder if (folder / "tokenizer.json").is_file() else None


def read_rows(path: Path, offset: int = 0, limit: int = 10) -> list[Row]:
    """Return rows `offset` to `offset + limit`, without reading the rest of the file."""
    places = RowIndex.read(path, offset, limit)
    with path.open("rb") as file:
        return [_read_row(line, _line_at(file, start)) for start, line in places]


def find_row(path: Path, line: int) -> Row | None:
    """Return the row on a line of the file, None where that is blank."""
    first, last = 0, RowIndex.count(path)
    while first < last:  # lines grow with rows, and are not the same where a file has blank lines
        middle = (first + last) // 2
        if RowIndex.read(path, middle, 1)[0][1] < line:
            first = middle + 1
        else:
            last = middle
    found = read_rows(path, first, 1)
    return found[0] if found and found[0].line == line else None


def list_problem_lines(report: Report) -> list[int]:
    """Return the lines with findings, in order; find_row() reads one."""
    return sorted({problem.line for problem in report.problems if problem.line})


def find_rows(path: Path, text: str, limit: int = 50) -> list[Row]:
    """Return the first rows that hold `text` in a message, case ignored."""
    wanted, found = text.casefold(), []
    for line, _, raw in read_lines(path):
        row = _read_row(line, raw)
        said = " ".join(message["content"] for message in row.messages) or row.text
        if wanted in said.casefold():
            found.append(row)
            if len(found) == limit:
                break
    return found


def read_repaired(path: Path) -> bytes:
    """Return the file as UTF-8 without its broken lines."""
    kept = []
    for line, _, raw in read_lines(path):
        row, problem = read_line(line, raw)
        if problem is None and not any(found.severity == "error" for found in check_row(line, row or {})):
            kept.append(raw.rstrip(b"\r\n"))
    return b"".join(raw + b"\n" for raw in kept)


def _line_at(file: BinaryIO, start: int) -> bytes:
    file.seek(start)
    return file.readline()


def _read_row(line: int, raw: bytes) -> Row:
    text = raw.decode("utf-8", "replace").strip()
    row, problem = read_line(line, raw)
    if problem or any(found.severity == "error" for found in check_row(line, row or {})):
        return Row(line, (), text)
    messages = (row or {})["messages"]
    return Row(line, tuple({"role": one["role"], "content": one["content"]} for one in messages), text)

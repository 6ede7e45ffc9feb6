"""The data sets in the home: one folder per content hash, written once.

datasets/<sha256>/      train.jsonl, test.jsonl, *.index, dataset.json, columns.json, report-<tokenizer>.json,
                        text-2.json, near.json,
                        set-aside.json
"""

from __future__ import annotations

import filecmp
import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from core import home
from core.dataset.columns import Columns
from core.dataset.findings import DataFile, Finding, read_kept
from core.dataset.forms.row_shapes import Shape
from core.dataset.model.token_counts import NO_TOKENIZER
from core.dataset.report import Report, Reports

TRAIN, TEST = "train.jsonl", "test.jsonl"
LongerCheck = Literal["text", "near"]  # whose findings are in files of their own
# A new name where a check finds more than it did: what an earlier version kept is not read.
_FILES: Mapping[LongerCheck, str] = {"text": "text-2.json", "near": "near.json"}


@dataclass(frozen=True)
class Manifest:
    """What a data set's folder says of itself. created_at: seconds since 1970. of: what it was copied from.

    mended: sentences on what was mended when the given files were read.
    """

    name: str
    source: str
    split_note: str
    has_test: bool
    created_at: float
    shape: Shape | None = None
    of: str = ""
    mended: tuple[str, ...] = ()


def folder_of(sha256: str) -> Path:
    """Return the folder of a content hash, which may not exist."""
    return home.current().datasets / sha256


def is_hash(text: str) -> bool:
    """Tell whether `text` can be a content hash: it becomes part of a path."""
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def hash_files(train: Path, test: Path | None) -> str:
    """Return the sha256 of a data set: of its training file, a zero byte, its test file, and a zero byte."""
    digest = hashlib.sha256()
    for path in (train, test):
        if path is not None:
            with path.open("rb") as file:
                hashlib.file_digest(file, lambda: digest)
        digest.update(b"\0")
    return digest.hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, without which a folder is no data set."""
    home.write_atomically(folder / "dataset.json", json.dumps(asdict(manifest), indent=2) + "\n")


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of a folder, None if it is no data set."""
    kept = _read(folder / "dataset.json")
    if kept is None:
        return None
    shape = kept.pop("shape", None)
    mended = tuple(kept.pop("mended", ()))
    return Manifest(**kept, shape=Shape.from_json(shape) if shape else None, mended=mended)


def write_columns(folder: Path, columns: Columns) -> None:
    """Keep what the columns of the given rows held."""
    home.write_atomically(folder / "columns.json", json.dumps(asdict(columns), ensure_ascii=True))


def read_columns(folder: Path) -> Columns | None:
    """Return what the columns of the given rows held, None where an earlier version did not keep it."""
    kept = _read(folder / "columns.json")
    return Columns.from_json(kept) if kept else None


def write_reports(folder: Path, mark: str, reports: Reports) -> None:
    """Keep the reports of both files. mark: of the tokenizer that counted, NO_TOKENIZER: estimates."""
    train, test = reports
    kept = {"train": train.to_json(), "test": test.to_json() if test else None}
    home.write_atomically(folder / f"report-{mark}.json", json.dumps(kept))


def find_report_mark(folder: Path, wanted: str) -> str | None:
    """Return the tokenizer mark of the best reports there are: those wanted, else estimates, else any."""
    marks = [path.stem.removeprefix("report-") for path in sorted(folder.glob("report-*.json"))]
    return next((mark for mark in (wanted, NO_TOKENIZER, *marks) if mark in marks), None)


def has_reports(folder: Path, mark: str) -> bool:
    """Tell whether there are reports with that tokenizer."""
    return (folder / f"report-{mark}.json").is_file()


def read_reports(folder: Path, mark: str) -> Reports | None:
    """Return the kept reports, None if there are none with that tokenizer."""
    kept = _read(folder / f"report-{mark}.json")
    if kept is None:
        return None
    return Report.from_json(kept["train"]), Report.from_json(kept["test"]) if kept["test"] else None


def write_findings(folder: Path, check: LongerCheck, by_file: Mapping[DataFile, Sequence[Finding]]) -> None:
    """Keep what a longer check found in the files: it has ended."""
    kept = {file: [asdict(finding) for finding in findings] for file, findings in by_file.items()}
    home.write_atomically(folder / _FILES[check], json.dumps(kept))


def has_findings(folder: Path, check: LongerCheck) -> bool:
    """Tell whether a longer check has ended."""
    return (folder / _FILES[check]).is_file()


def read_findings(folder: Path, file: DataFile) -> list[Finding]:
    """Return what the longer checks that have ended found in a file."""
    kept = [_read(folder / name) or {} for name in _FILES.values()]
    return [finding for findings in kept for finding in read_kept(findings.get(file, ()))]


def move_into_place(folder: Path, sha256: str) -> None:
    """Make a prepared folder the data set of its hash.

    If that exists, the same rows were read before: its files stay, and it takes the new name. Where the rows stood on
    other lines, what later checks said of them goes.
    """
    target = folder_of(sha256)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.rename(target)
    except OSError:  # it is there already, and not empty
        if not _are_alike(folder, target):
            for path in (*target.glob("report-*.json"), *(target / name for name in _FILES.values())):
                path.unlink(missing_ok=True)
            _replace(folder.glob("*.index"), target)
        _replace(folder.glob("*.json"), target)
        shutil.rmtree(folder, ignore_errors=True)


def _are_alike(folder: Path, target: Path) -> bool:
    """Tell whether the rows of two folders with the same content stood on the same lines, and are named by them."""
    now, before = read_reports(folder, NO_TOKENIZER), read_reports(target, NO_TOKENIZER)
    if now is None or before is None or now[0].unit != before[0].unit:
        return False
    for path in folder.glob("*.index"):
        other = target / path.name
        if not other.is_file() or not filecmp.cmp(path, other, shallow=False):
            return False
    return True


def _replace(paths: Iterable[Path], target: Path) -> None:
    for path in list(paths):
        path.replace(target / path.name)


def _read(path: Path) -> Any:
    """Return the content of a JSON file, None if there is no such file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

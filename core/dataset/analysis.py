"""The checks that take longer than reading: personal data, garbled text, near copies, tokens. In their own process.

    python -m core.dataset.analysis <key> [<tokenizer folder>]

What each finds is kept beside the data, so nothing is computed twice; a check that was ended begins again.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy
import orjson

from core import home
from core.dataset import near, table
from core.dataset.chat_dataset import ChatDataset, find_dataset
from core.dataset.check import count_both
from core.dataset.files import read_reports, tokenizer_mark, write_reports
from core.dataset.findings import CODES, ERROR_FLAGS, Finding, flag, make_finding
from core.dataset.progress import Meter, Progress
from core.dataset.text import check_texts, find_suspected

_TEXT_CODES = ("mojibake", "email", "phone", "card_number", "secret_key")
_BATCH = 64
_children: dict[str, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class Checks:
    """Which of the longer checks are through. progress: of the one that runs, None where none does."""

    text: bool
    near: bool
    tokens: bool
    running: bool
    progress: Progress | None = None

    @property
    def done(self) -> bool:
        """Tell whether all of them are through."""
        return self.text and self.near and self.tokens


def read_checks(dataset: ChatDataset, tokenizer: Path | None = None) -> Checks:
    """Return how far the longer checks of a data set are; cheap, for a live fragment."""
    folder = dataset.train_path.parent
    if child := _children.get(dataset.key):
        child.poll()
    running = _is_locked(folder)
    told = folder / "analysis.json"
    progress = Progress(**json.loads(told.read_text(encoding="utf-8"))) if running and told.is_file() else None
    tokens = tokenizer is None or (folder / f"report-{tokenizer_mark(tokenizer)}.json").is_file()
    return Checks((folder / "text.json").is_file(), (folder / "near.json").is_file(), tokens, running, progress)


def start_checks(dataset: ChatDataset, tokenizer: Path | None = None) -> Checks:
    """Start what is missing in a process of its own, where none runs; returns how far it is."""
    now = read_checks(dataset, tokenizer)
    if now.done or now.running:
        return now
    folder = dataset.train_path.parent
    environment = os.environ | {"PYTHONPATH": str(home.REPOSITORY), "TUNEDECK_HOME": str(home.current().path)}
    environment["TOKENIZERS_PARALLELISM"] = "true"
    command = [sys.executable, "-m", "core.dataset.analysis", dataset.key, *([str(tokenizer)] if tokenizer else [])]
    with (folder / "analysis.log").open("wb") as log:
        _children[dataset.key] = subprocess.Popen(
            command,
            cwd=home.REPOSITORY,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    return replace(now, running=True)


def analyse(dataset: ChatDataset, tokenizer: Path | None = None, told: Meter | None = None) -> None:
    """Run what is missing, here and now; a second one at the same time returns at once."""
    folder = dataset.train_path.parent
    with _locked(folder) as mine:
        if not mine:
            return
        meter = told or Meter(lambda now: home.write_atomically(folder / "analysis.json", json.dumps(now.to_json())))
        paths = {"train": dataset.train_path} | ({"test": dataset.test_path} if dataset.test_path else {})
        if not (folder / "text.json").is_file():
            _write(folder / "text.json", {name: _check_text(path, meter) for name, path in paths.items()})
        if tokenizer and not read_reports(folder, tokenizer_mark(tokenizer)):
            _count_tokens(dataset, tokenizer, meter)
        if not (folder / "near.json").is_file():
            _write(folder / "near.json", _check_near(paths, folder, meter))
        (folder / "analysis.json").unlink(missing_ok=True)


def _check_text(path: Path, meter: Meter) -> list[Finding]:
    """Look for personal data and garbled text in every row; writes the layer "text"."""
    rows = table.read(path)
    flags = numpy.zeros(len(rows), numpy.uint64)
    examples: dict[str, tuple[int, str]] = {}
    done = done_bytes = 0
    for lines in table.iterate(path, _BATCH):
        texts = [
            _text_of(raw) if not int(rows["flags"][done + at]) & ERROR_FLAGS else "" for at, raw in enumerate(lines)
        ]
        for at, found in enumerate(check_texts(texts)):
            if found:
                flags[done + at] = found
                for code in _TEXT_CODES:
                    if found & flag(code) and code not in examples:
                        examples[code] = (int(rows["line"][done + at]), find_suspected(texts[at], code))
        done += len(lines)
        done_bytes += sum(map(len, lines))
        meter.tell("Looked for personal data in", done, len(rows), done_bytes, path.stat().st_size)
    table.write(table.layer_path(path, "text"), flags)
    return [_finding(path, flags, code, f"Line {line} holds {shown!r}.") for code, (line, shown) in examples.items()]


def _check_near(paths: dict[str, Path], folder: Path, meter: Meter) -> dict[str, list[Finding]]:
    """Look for rows that are nearly the same, in both files together; writes the layer "near" of each."""
    counts = {name: table.count(path) for name, path in paths.items()}
    signatures = folder / "signatures.part"
    with signatures.open("wb") as file:
        for path in paths.values():
            _sign_rows(path, file, meter)
    pairs = near.find_pairs(signatures, sum(counts.values()))
    signatures.unlink()
    found: dict[str, list[Finding]] = {}
    first = 0
    for name, path in paths.items():
        flags, rows = numpy.zeros(counts[name], numpy.uint64), table.read(path)
        examples: dict[str, str] = {}
        known = rows["flags"] & numpy.uint64(flag("duplicate", "leakage"))
        for pair in pairs:
            place = pair.row - first
            if not 0 <= place < counts[name] or known[place]:
                continue
            across = pair.earlier < first
            code = "near_leakage" if across else "near_duplicate"
            flags[place] |= numpy.uint64(flag(code))
            other = (
                int(table.read(paths["train"])["line"][pair.earlier])
                if across
                else int(rows["line"][pair.earlier - first])
            )
            where = "of the training file" if across else "before it"
            examples.setdefault(code, f"Line {int(rows['line'][place])} is nearly line {other} {where}.")
        table.write(table.layer_path(path, "near"), flags)
        found[name] = [_finding(path, flags, code, said) for code, said in examples.items()]
        first += counts[name]
    return found


def _sign_rows(path: Path, file: Any, meter: Meter) -> None:
    rows, done = table.read(path), 0
    for lines in table.iterate(path, _BATCH):
        signed = [
            near.sign("" if int(rows["flags"][done + at]) & ERROR_FLAGS else _text_of(raw))
            for at, raw in enumerate(lines)
        ]
        file.write(numpy.stack(signed).tobytes())
        done += len(lines)
        meter.tell("Compared", done, len(rows))


def _count_tokens(dataset: ChatDataset, tokenizer: Path, meter: Meter) -> None:
    folder = dataset.train_path.parent
    kept = read_reports(folder, tokenizer_mark(None))
    counted = count_both(kept or (dataset.train, dataset.test), dataset.train_path, dataset.test_path, tokenizer, meter)
    write_reports(folder, tokenizer_mark(tokenizer), *counted)


def _text_of(raw: bytes) -> str:
    messages = orjson.loads(raw.removeprefix(b"\xef\xbb\xbf"))["messages"]
    return "\n".join(one.get("content") or "" for one in messages)


def _finding(path: Path, flags: Any, code: str, said: str) -> Finding:
    places = numpy.flatnonzero(flags & numpy.uint64(flag(code)))
    lines = [int(line) for line in table.read(path)["line"][places[:50]]]
    return make_finding(code, len(places), lines, "messages", said, CODES[code].fix)


def _write(path: Path, found: dict[str, list[Finding]]) -> None:
    home.write_atomically(path, json.dumps({name: [asdict(one) for one in each] for name, each in found.items()}))


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    with (folder / "analysis.lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _is_locked(folder: Path) -> bool:
    path = folder / "analysis.lock"
    if not path.exists():
        return False
    with path.open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def main(key: str, tokenizer: str = "") -> int:
    """Run the longer checks of a data set."""
    found = find_dataset(key)
    if found is None:
        return 1
    analyse(found, Path(tokenizer) if tokenizer else None)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

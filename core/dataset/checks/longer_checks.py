"""The longer checks, in a process of their own: what needs a look in the texts, near copies, tokens.

    python -m core.dataset.checks.longer_checks <key> [<tokenizer folder>]

What each finds is kept beside the data, so nothing is computed twice; an interrupted check starts over.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy

from core import home
from core.dataset import row_index, store
from core.dataset.chat_dataset import ChatDataset, find_dataset
from core.dataset.checks import near_copies
from core.dataset.checks.line_check import Problem
from core.dataset.checks.row_check import ASKED, check_rows, describe, find_rivals, text_of
from core.dataset.checks.text_check import FINDERS
from core.dataset.findings import ERROR_FLAGS, DataFile, Finding, Unit, flag
from core.dataset.model.token_counts import NO_TOKENIZER, count_both, mark_of
from core.dataset.progress import Meter, Progress
from core.locks import is_held, tried
from core.programs import start_detached

_TEXT_CODES = (*FINDERS, "cut_answer", "duplicate_keys")
_BATCH = 64
COUNTED_AT_ONCE = 2_000_000  # bytes: about 2 s on a busy core; the page waits for it
_children: dict[str, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class Checks:
    """Which of the longer checks are finished. progress: of the one that is running."""

    text: bool
    near: bool
    tokens: bool
    running: bool
    progress: Progress | None = None

    @property
    def done(self) -> bool:
        """Tell whether all of them are finished."""
        return self.text and self.near and self.tokens


def read_checks(dataset: ChatDataset, tokenizer: Path | None = None) -> Checks:
    """Return how far the longer checks of a data set are; cheap, for a live fragment."""
    folder = dataset.folder
    if child := _children.get(dataset.key):
        child.poll()
    running = is_held(folder / "analysis.lock")
    kept = folder / "analysis.json"
    progress = Progress.from_json(json.loads(kept.read_text(encoding="utf-8"))) if running and kept.is_file() else None
    tokens = tokenizer is None or store.has_reports(folder, mark_of(tokenizer))
    return Checks(store.has_findings(folder, "text"), store.has_findings(folder, "near"), tokens, running, progress)


def start_checks(dataset: ChatDataset, tokenizer: Path | None = None) -> Checks:
    """Start the missing checks in a process of their own, unless one runs; return how far they are."""
    now = read_checks(dataset, tokenizer)
    if now.done or now.running:
        return now
    arguments = ["-m", "core.dataset.checks.longer_checks", dataset.key, *([str(tokenizer)] if tokenizer else [])]
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "true"}
    log = dataset.folder / "analysis.log"
    _children[dataset.key] = start_detached(arguments, home.current(), log, environment=environment)
    return replace(now, running=True)


def count_tokens_with(dataset: ChatDataset, tokenizer: Path | None) -> ChatDataset:
    """Return the data set with lengths counted by a model's tokenizer: kept, or counted now, 1 s for a million tokens.

    Blocks for that long: use it in a reader. Over 2 MB it is counted by a process of its own (read_checks says how far
    that is), and the data set comes back with estimates, which say that they are.
    """
    if tokenizer and not store.has_reports(dataset.folder, mark_of(tokenizer)):
        if dataset.train_path.stat().st_size > COUNTED_AT_ONCE:
            start_checks(dataset, tokenizer)
            return dataset
        _count_tokens(dataset, tokenizer)
    return find_dataset(dataset.key, tokenizer) or dataset


def run_checks(dataset: ChatDataset, tokenizer: Path | None = None) -> None:
    """Run the missing checks in this process; returns at once if another process runs them."""
    folder = dataset.folder
    with tried(folder / "analysis.lock") as mine:
        if not mine:
            return
        meter = Meter(lambda now: home.write_atomically(folder / "analysis.json", json.dumps(asdict(now))))
        if not store.has_findings(folder, "text"):
            store.write_findings(
                folder,
                "text",
                {file: _check_text(path, meter, dataset.unit_of(file)) for file, path in dataset.files.items()},
            )
        if tokenizer and not store.has_reports(folder, mark_of(tokenizer)):
            _count_tokens(dataset, tokenizer, meter)
        if not store.has_findings(folder, "near"):
            store.write_findings(folder, "near", _check_near(dataset, meter))
        (folder / "analysis.json").unlink(missing_ok=True)


def _check_text(path: Path, meter: Meter, unit: Unit) -> list[Finding]:
    """Look for what needs a look in the texts of every row; writes the index's layer "text"."""
    rows = row_index.read(path)
    flags = numpy.zeros(len(rows), numpy.uint64)
    asked = numpy.zeros(len(rows), ASKED)
    examples: dict[str, str] = {}
    for first, lines in _read_lines(path, meter, "Looked at the texts of"):
        found, asked[first : first + len(lines)] = check_rows(lines)
        for at, suspected in enumerate(found):
            flags[first + at] = suspected
            for code in _TEXT_CODES if suspected else ():
                if suspected & flag(code) and code not in examples:
                    examples[code] = Problem(int(rows["line"][first + at]), code, describe(lines[at], code)).said(unit)
    rivals, (later, earlier) = find_rivals(asked)
    if len(rivals):
        flags[rivals] |= numpy.uint64(flag("two_answers"))
        first_line, line = rows["line"][earlier], rows["line"][later]
        said = f" asks what {unit} {first_line:,} asks, and has another answer."
        examples["two_answers"] = Problem(int(line), "two_answers", said).said(unit)
    return _keep(path, "text", flags, examples)


def _check_near(dataset: ChatDataset, meter: Meter) -> dict[DataFile, list[Finding]]:
    """Look for rows that are nearly the same, in both files together; writes each index's layer "near"."""
    paths, signatures = dataset.files, dataset.folder / "signatures.part"
    with signatures.open("wb") as file:
        for path in paths.values():
            for _, rows in _read_lines(path, meter, "Compared"):
                file.write(numpy.stack([near_copies.sign(text_of(row) if row else "") for row in rows]).tobytes())
    lines = numpy.concatenate([row_index.read(path)["line"] for path in paths.values()])
    pairs = near_copies.find_pairs(signatures, len(lines))
    signatures.unlink()
    findings: dict[DataFile, list[Finding]] = {}
    begin = 0
    for file_name, path in paths.items():
        copies = row_index.read(path)["flags"] & numpy.uint64(flag("duplicate", "leakage"))
        flags = numpy.zeros(len(copies), numpy.uint64)
        examples: dict[str, str] = {}
        for pair in pairs:
            place, in_training = pair.row - begin, pair.earlier < begin
            if 0 <= place < len(copies) and not copies[place]:
                code = "near_leakage" if in_training else "near_duplicate"
                flags[place] = flag(code)
                unit = dataset.unit_of("train" if in_training else file_name)
                other = f"{unit} {lines[pair.earlier]:,}" + (" of the training file" if in_training else "")
                problem = Problem(int(lines[pair.row]), code, f" is nearly the same as {other}.")
                examples.setdefault(code, problem.said(dataset.unit_of(file_name)))
        findings[file_name] = _keep(path, "near", flags, examples)
        begin += len(copies)
    return findings


def _read_lines(path: Path, meter: Meter, verb: str) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the lines of a file in batches, with the place of the first; b"" for rows with errors."""
    flags = row_index.read(path)["flags"]
    for first, lines in row_index.iterate(path, _BATCH, meter, verb):
        yield first, [b"" if int(flags[at]) & ERROR_FLAGS else raw for at, raw in enumerate(lines, first)]


def _keep(path: Path, layer: str, flags: row_index.Rows, examples: Mapping[str, str]) -> list[Finding]:
    """Write what a check found as a layer of the index, and return it as findings. examples: a sentence by code."""
    row_index.write_layer(path, layer, flags)
    return [
        row_index.make_finding(path, numpy.flatnonzero(flags & numpy.uint64(flag(code))), code, example)
        for code, example in examples.items()
    ]


def _count_tokens(dataset: ChatDataset, tokenizer: Path, meter: Meter | None = None) -> None:
    """Write the reports of both files with token counts instead of estimates."""
    reports = store.read_reports(dataset.folder, NO_TOKENIZER) or (dataset.train, dataset.test)
    counted = count_both(reports, dataset.train_path, dataset.test_path, tokenizer, meter)
    store.write_reports(dataset.folder, mark_of(tokenizer), counted)


def main(key: str, tokenizer: str = "") -> int:
    """Run the longer checks of a data set."""
    dataset = find_dataset(key)
    if dataset is None:
        return 1
    run_checks(dataset, Path(tokenizer) if tokenizer else None)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

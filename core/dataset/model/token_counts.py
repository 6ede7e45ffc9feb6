"""Counts conversations in a model's own tokens, and how many of these are trained on; kept in the row index.

While no model is chosen, file_check estimates lengths.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy
import orjson

from core import home
from core.dataset import row_index
from core.dataset.checks.line_check import Problem
from core.dataset.findings import ERROR_FLAGS, Finding, flag
from core.dataset.model.model_process import READERS, BadModel, ask, name_of
from core.dataset.progress import Meter
from core.dataset.report import EXACT_UNIT, Report, Reports
from core.engine.answers import LeftOut
from core.engine.chat_template import TemplateRefused
from core.engine.chat_tokens import has_tools
from core.errors import BadInput
from core.words import plural

NO_TOKENIZER = "estimate"
_VERSION = b"6"  # of what is counted and found: what an earlier one kept is counted anew
_BATCH = 128  # an encoding holds about 150 bytes a token: 128 rows of ultrachat take 25 MB
_SAID = {  # finding -> what follows the place in the sentence about the first such row
    "tools_left_out": " has calls, results or descriptions of tools that the model's template does not show.",
    "thoughts_left_out": " has a thought that the model's template leaves out.",
    "template_refused": " is refused by the model's chat template",
    "tools_refused": " has tools, and is refused by the model's chat template",
    "special_tokens": " has special tokens of the model in its texts",
}


class Counts(NamedTuple):
    """Tokens of a row, those that are trained on, which is the first of these, and what its template leaves out.

    special: tokens of the model that stand in the row's own texts.
    """

    tokens: int
    trained: int
    first: int
    left_out: Sequence[LeftOut] = ()
    special: Sequence[str] = ()


def mark_of(folder: Path | None) -> str:
    """Return the name under which the counts of a tokenizer and its chat template are kept."""
    if folder is None:
        return NO_TOKENIZER
    digest = hashlib.sha256(_VERSION)
    try:
        for name in ("tokenizer.json", "chat_template.jinja", "tokenizer_config.json"):
            if name == "tokenizer.json" or (folder / name).is_file():
                digest.update((folder / name).read_bytes())
    except OSError as error:
        said = f"The tokenizer of '{name_of(folder)}' cannot be read."
        raise BadInput(said, "Choose another model, or fetch this one again.", str(error)) from error
    return digest.hexdigest()[:16]


def count_both(
    reports: Reports, train: Path, test: Path | None, tokenizer: Path, meter: Meter | None = None
) -> Reports:
    """Return the reports of both checked files with their tokens counted, and what the model's template refuses.

    A model whose files cannot be used is a finding, too: the data stays, and another model can be chosen.
    """
    first, second = reports
    try:
        first = _count_file(first, train, tokenizer, meter)
        if second is not None and test is not None:
            second = _count_file(second, test, tokenizer, meter)
    except BadModel as error:
        first = first.with_findings([Finding("bad_model", error.message)])
    return first, second


def _count_file(report: Report, path: Path, tokenizer: Path, meter: Meter | None) -> Report:
    records, examples = count_lengths(path, tokenizer, meter)
    mark = mark_of(tokenizer)
    tokens = records["tokens"][records["tokens"] > 0].astype(numpy.int64)
    trained = int(records["trained"].sum(dtype=numpy.int64))
    counted = replace(report, stats=report.stats.with_lengths(tokens, EXACT_UNIT, trained))
    return counted.with_findings(
        [
            row_index.make_finding(path, row_index.find_flagged(path, code, mark=mark), code, problem.said(report.unit))
            for code, problem in examples.items()
        ]
    )


def count_lengths(path: Path, tokenizer: Path, meter: Meter | None = None) -> tuple[row_index.Rows, dict[str, Problem]]:
    """Write and return the token counts of each row, and by code the first row that has a finding with this model.

    A row with errors counts as 0, as does a single message, which is not trained on. Counts are of the whole row,
    whatever maximum length is set.
    """
    rows = row_index.read(path)
    records = numpy.zeros(len(rows), row_index.TOKENS)
    flags = numpy.zeros(len(rows), numpy.uint64)
    usable = find_usable(rows)
    examples: dict[str, Problem] = {}
    special: set[str] = set()
    emptied = 0
    for wanted, counts in _count_ahead(path, tokenizer, usable, meter):
        for (place, line), result in zip(wanted, counts.result(), strict=True):
            if isinstance(result, Counts):
                records[place] = result[:3]
                special.update(result.special)
                emptied += "answers" in result.left_out
            found = _describe(line, result)
            flags[place] = flag(*found)
            for code, said in found.items():
                examples.setdefault(code, Problem(int(rows["line"][place]), code, said))
    if emptied:
        taught = (
            f"In {plural(emptied, 'row')} a call is learned as an empty answer: the token that ends it, and no more."
        )
        left_out = examples["tools_left_out"]
        examples["tools_left_out"] = replace(left_out, message=f"{left_out.message} {taught}")
    mark = mark_of(tokenizer)
    row_index.write_tokens(path, mark, records)
    row_index.write_layer(path, mark, flags)
    home.write_atomically(_special_path(path, mark), json.dumps(sorted(special)))
    return records, examples


def _count_ahead(
    path: Path, tokenizer: Path, usable: row_index.Rows, meter: Meter | None
) -> Iterator[tuple[list[tuple[int, bytes]], Future[list[Counts | TemplateRefused]]]]:
    """Yield batches of usable rows in their order, each its place and line, and their counts to come."""
    readers = ThreadPoolExecutor(READERS)
    waiting: deque[tuple[list[tuple[int, bytes]], Future[list[Counts | TemplateRefused]]]] = deque()
    try:
        for first, lines in row_index.iterate(path, _BATCH, meter, "Counted tokens in"):
            wanted = [(place, line) for place, line in enumerate(lines, first) if usable[place]]
            waiting.append((wanted, readers.submit(count_lines, tokenizer, [line for _, line in wanted])))
            if len(waiting) == 2 * READERS:  # each reads one, and another waits for it
                yield waiting.popleft()
        yield from waiting
    finally:
        readers.shutdown(cancel_futures=True)


def _describe(line: bytes, result: Counts | TemplateRefused) -> dict[str, str]:
    """Return what a row has with the model: by the code of a finding what follows the row's place in a sentence."""
    if isinstance(result, TemplateRefused):
        code = "tools_refused" if has_tools(orjson.loads(line)) else "template_refused"
        return {code: f"{_SAID[code]}: {result.words}"}
    found = {code: said for code, said in _SAID.items() if code.removesuffix("_left_out") in result.left_out}
    if result.special:
        found["special_tokens"] = f"{_SAID['special_tokens']}: {', '.join(result.special)}."
    return found


def read_special(path: Path, mark: str) -> tuple[str, ...]:
    """Return the special tokens of a model that its count found in the texts of a file."""
    kept = _special_path(path, mark)
    return tuple(json.loads(kept.read_text(encoding="utf-8"))) if kept.is_file() else ()


def _special_path(path: Path, mark: str) -> Path:
    return path.with_suffix(f".special-{mark}.json")


def count_lines(tokenizer: Path, lines: Sequence[bytes]) -> list[Counts | TemplateRefused]:
    """Return the counts of each row, a checked line of JSON, or why the template in the model's folder refuses it.

    Raises BadModel if the model's files are at fault, and not the rows.
    """
    if not lines:
        return []
    answer = ask(tokenizer, b'{"rows":[' + b",".join(line.strip() for line in lines) + b"]}")
    return [
        TemplateRefused(*counts["refused"]) if isinstance(counts, dict) else Counts(*counts)
        for counts in answer["rows"]
    ]


def read_lengths(path: Path, mark: str) -> tuple[row_index.Rows, row_index.Rows]:
    """Return the tokens of each row that a run reads, in their order, and which token (from 0) is the first learned.

    Rows with errors and of one message alone are left out. Where the tokens were not counted they are a quarter of the
    characters, and the first of all is said to be learned.
    """
    counted = row_index.read_tokens(path, mark)
    if counted is not None:
        counted = counted[counted["tokens"] > 0]
        return counted["tokens"].astype(numpy.int64), counted["first"].astype(numpy.int64)
    rows = row_index.read(path)
    tokens = (rows["chars"][find_usable(rows)].astype(numpy.int64) + 3) // 4
    return tokens, numpy.zeros(len(tokens), numpy.int64)


def find_usable(rows: row_index.Rows) -> row_index.Rows:
    """Return which rows of an index a run reads, `(rows,)`: those without errors that are no single message."""
    usable: row_index.Rows = (rows["flags"] & numpy.uint64(ERROR_FLAGS | flag("lone_message"))) == 0
    return usable

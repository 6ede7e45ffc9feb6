"""Reads rows from lines that are not quite JSON: joined, ended by commas, over several lines, or written by Python.

What cannot be read so stays as it is. Knows nothing of conversations.
"""

from __future__ import annotations

import ast
import json
import re
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy

from core.dataset import row_index
from core.dataset.checks.line_check import to_line
from core.dataset.files.encodings import NO_UTF8
from core.dataset.files.file_formats import Reading, keep_lines
from core.dataset.forms.form import is_messages
from core.dataset.progress import Meter

LONGEST = 32 << 20  # characters of one object; no conversation is that long
_READ_AGAIN = 64 << 20  # characters; a file that needs more of this is not made of objects
_LONGEST_PYTHON = 1 << 20  # characters; ast takes hundreds of bytes for each
_MARK = "\ufeff"
_DECODE = json.JSONDecoder().raw_decode
_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"')
_LAST_COMMA = re.compile(r'("(?:[^"\\]|\\.)*+")|,(?=\s*[}\]])')
_ESCAPE = re.compile(r'(\\["\\/bfnrtu])|\\')
_BETWEEN = re.compile(r"[\s,\ufeff]*")
_SAID = {
    "joined": ("1 line held several objects.", "{:,} lines held several objects."),
    "commas": ("1 line had a comma too many.", "{:,} lines had a comma too many."),
    "lines": ("1 object was written over several lines.", "{:,} objects were written over several lines."),
    "damaged": ("The JSON list is damaged. Its objects were read one by one.",) * 2,
    "marks": ("1 line held a byte order mark.", "{:,} lines held a byte order mark."),
    "returns": ("The lines ended in carriage returns alone.", ""),
    "numbers": (
        "1 line held NaN or Infinity, which JSON does not know: they are empty.",
        "{:,} lines held NaN or Infinity, which JSON does not know: they are empty.",
    ),
    "escapes": (
        "1 line held a tab or a backslash that was not written as JSON does.",
        "{:,} lines held tabs or backslashes that were not written as JSON does.",
    ),
    "lists": ("", ""),  # a list of messages a line is a known form
    "python": ("1 line was written as Python writes it.", "{:,} lines were written as Python writes them."),
}


def mend_lines(path: Path, meter: Meter | None = None, *, is_list: bool = False) -> Reading | None:
    """Rewrite a file whose lines are not all JSON with what can be read, and keep on which lines its rows began.

    is_list: they are the lines of a JSON list that is damaged. None: nothing can be mended, and nothing is written.
    """
    own, lines, mended = row_index.read_lines(path), array("I"), path.with_suffix(".mended")
    with (
        path.open(encoding="utf-8", errors="surrogateescape") as file,
        mended.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as target,
    ):
        lenient = Lenient(file, is_list=is_list)
        for number, (line, row) in enumerate(lenient.rows()):
            lines.append(line)
            target.write(row + "\n")
            if meter and number % 1000 == 0:
                meter.tell("Looked for faults in", number)
        if "\r" in (file.newlines if isinstance(file.newlines, tuple) else (file.newlines,)):
            lenient.counts["returns"] = 1
    if not lenient.counts:
        mended.unlink()
        return None
    if own is not None:
        lines = array("I", own[numpy.searchsorted(_list_filled(path), lines)])
    mended.replace(path)
    return Reading(keep_lines(path, lines), lenient.said())


def _list_filled(path: Path) -> array[int]:
    """Return the numbers of the lines that are not blank."""
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        return array("I", (number for number, text in enumerate(file, start=1) if text.strip()))


@dataclass
class Lenient:
    """Reads the lines of a text, any of the three line ends. counts: what was mended, by its key in _SAID."""

    file: TextIO
    counts: Counter[str] = field(default_factory=Counter)
    is_list: bool = False
    _again: list[str] = field(default_factory=list)  # lines to read again, the next one last
    _read_again: int = 0
    _line: int = 0

    def rows(self) -> Iterator[tuple[int, str]]:
        """Yield each row as a line of JSON, or as it stands if it cannot be read, with the line where it begins."""
        while text := self._next():
            line = self._line
            text = _without_ends(text) if self.is_list else text
            if not text.strip(" \t\r\n" + _MARK):
                continue
            for row in self._read(text):
                yield line, row

    def said(self) -> tuple[str, ...]:
        """Return in sentences what was mended."""
        return tuple(said.format(many) for key, many in self.counts.items() if (said := _SAID[key][many > 1]))

    def _read(self, text: str) -> list[str]:
        if NO_UTF8.search(text):
            return [text.strip()]
        rows = self._take_list(text.strip()) if _reads(text) else self._read_line(text) or self._read_over_lines(text)
        self.counts["damaged"] |= self.is_list and bool(rows) and _reads(rows[0])
        self.counts = +self.counts
        return rows or [text.strip("\r\n")]

    def _take_list(self, text: str) -> list[str]:
        """Return a line of JSON; a list of messages as an object that holds it, a list of other objects as these."""
        if (numbers := _without_constants(text)) != text:
            self.counts["numbers"] += 1
            text = numbers
        value = json.loads(text) if text.startswith("[") else None
        if is_messages(value):
            self.counts["lists"] += 1
            return [f'{{"messages": {text}}}']
        if not value or not all(isinstance(one, dict) for one in value):
            return [text]
        self.counts["joined"] += 1
        return [to_line(one).decode() for one in value]

    def _read_line(self, text: str) -> list[str]:
        """Return the objects on a line, none if it holds anything else."""
        bare, without = text.replace(_MARK, ""), _without_commas(text.replace(_MARK, ""))
        for said, tried in (("", bare), ("commas", without)):
            if rows := _split(tried):
                self.counts["joined"] += len(rows) > 1
                self.counts["commas"] += said == "commas" or (not self.is_list and bare.rstrip().endswith(","))
                self.counts["marks"] += bare != text
                return rows
        if _reads(without):
            self.counts["commas"] += 1
            return self._take_list(without.strip())
        if row := _read_python(bare):
            self.counts["python"] += 1
            return self._take_list(row)
        if row := _read_unescaped(bare):
            self.counts["escapes"] += 1
            return self._take_list(row)
        return _split_begun(bare) if self.is_list else []

    def _read_over_lines(self, text: str) -> list[str]:
        """Return the object that begins on a line and ends on a later one, none if there is no such."""
        if text.lstrip(_MARK + " \t")[:1] != "{" or self._read_again > _READ_AGAIN:
            return []
        held, depth, size = [text], _depth(text), len(text)
        while depth > 0 and size < LONGEST and (more := self._next()):
            held.append(more)
            depth, size = depth + _depth(more), size + len(more)
        if (
            depth == 0
            and not NO_UTF8.search("".join(held))
            and (rows := _split(_without_commas("".join(held).replace(_MARK, ""))))
        ):
            self.counts["lines"] += not self.is_list
            return rows
        if _is_one_object(held):
            return [" ".join(line.strip() for line in held)]
        self._again += held[:0:-1]
        self._line -= len(held) - 1
        self._read_again += size
        return []

    def _next(self) -> str:
        line = self._again.pop() if self._again else self.file.readline(LONGEST)
        self._line += bool(line)
        return line


def _without_ends(text: str) -> str:
    """Return a line of a list without the bracket that opens or closes the list."""
    bare, depth = text.strip(), _depth(text)
    if not bare.strip("[], "):
        return ""
    if depth > 0 and bare.startswith("["):
        return bare[1:]
    return bare[:-1] if depth < 0 and bare.endswith("]") else text


def _is_one_object(lines: list[str]) -> bool:
    """Tell whether lines that cannot be read are those of one object, which begins on a line of its own."""
    return lines[0].strip() == "{" and lines[0] not in lines[1:]


def _reads(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _without_constants(text: str) -> str:
    """Return a line of JSON with null for NaN and Infinity, which Python writes though JSON does not know them."""
    found: list[str] = []
    if "NaN" not in text and "Infinity" not in text:
        return text
    value = json.loads(text, parse_constant=found.append)
    return to_line(value).decode() if found else text


def _read_unescaped(text: str) -> str:
    """Return a line in whose texts tabs or backslashes stand as they are as JSON, "" if it is no such."""
    doubled = _ESCAPE.sub(lambda found: found[1] or r"\\", text.strip().rstrip(","))
    try:
        value = json.loads(doubled, strict=False)
    except (ValueError, RecursionError):
        return ""
    return json.dumps(value) if isinstance(value, (dict, list)) else ""


def _split(text: str) -> list[str]:
    """Return the objects of a text each on a line of its own, none if there is anything else in it."""
    rows, at = [], _BETWEEN.match(text).end()  # type: ignore[union-attr]  # matches the empty string
    while at < len(text):
        try:
            row, end = _DECODE(text, at)
        except (ValueError, RecursionError):
            return []
        if not isinstance(row, dict):
            return []
        rows.append(json.dumps(row) if "\n" in text[at:end] else text[at:end])
        at = _BETWEEN.match(text, end).end()  # type: ignore[union-attr]
    return rows


def _split_begun(text: str) -> list[str]:
    """Return the objects with which a line of a list begins, and what follows them; none if it begins with no two."""
    rows, at = [], 1 if text.startswith("[") else 0
    while True:
        at = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]  # matches the empty string
        try:
            row, end = _DECODE(text, at)
        except (ValueError, RecursionError):
            break
        if not isinstance(row, dict):
            break
        rows.append(text[at:end])
        at = end
    return [*rows, text[at:].strip()] if len(rows) > 1 else []


def _without_commas(text: str) -> str:
    """Leave out the commas before a closing bracket, outside of strings."""
    return _LAST_COMMA.sub(lambda found: found[1] or "", text)


def _depth(text: str) -> int:
    """Return how many more brackets a line opens than it closes."""
    bare = _STRING.sub("", text)
    return bare.count("{") + bare.count("[") - bare.count("}") - bare.count("]")


def _read_python(text: str) -> str:
    """Return a dict or list that Python wrote as JSON, empty if it is none."""
    text = text.strip().rstrip(",")
    if len(text) > _LONGEST_PYTHON or text[:1] not in ("{", "[") or ("'" not in text and "None" not in text):
        return ""
    try:
        value: Any = ast.literal_eval(text)
        return json.dumps(value, allow_nan=False) if isinstance(value, (dict, list)) else ""
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return ""

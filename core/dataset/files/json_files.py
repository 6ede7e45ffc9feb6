"""Files that are one JSON value: a list of rows, or an object that holds them; a list is read a part at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from core.dataset.checks.line_check import BOM
from core.dataset.forms.message_reading import as_list
from core.errors import BadInput

CHUNK, _END = 1 << 16, "\n"
MAX_MEMBER = 32 << 20  # characters of one object; no conversation is that long
_FEWEST_NAMED = 10  # objects alike under names of their own are rows


class DamagedListError(BadInput):
    """A JSON list that cannot be read to its end, though perhaps its lines can."""


def is_list(start: bytes, whole: bool) -> bool:
    """Tell whether a file is one JSON list: it begins with a bracket, and its first line alone is not JSON."""
    text = start.removeprefix(BOM).lstrip()
    if not text.startswith(b"["):
        return False
    first, _, rest = text.partition(b"\n")
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return first.strip() in (b"[", b"[{") or b"{" in first[:CHUNK]
    return whole and not rest.strip() and first.startswith(b"[{")


def is_one_object(path: Path, start: bytes) -> bool:
    """Tell whether a file is one object, over several lines or on its only one."""
    text = start.removeprefix(BOM).lstrip()
    if text.partition(b"\n")[0].strip() == b"{":
        return True
    if not text.startswith(b"{"):
        return False
    with path.open("rb") as file:
        first, rest = file.readline(MAX_MEMBER), file.read(CHUNK)
    try:
        return not rest.strip() and isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def read_one(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the members of the list in an object, as some exports write it: {"data": [...]}."""
    if path.stat().st_size > MAX_MEMBER:
        raise BadInput("The file is one object of more than 32 MiB.", "Write one object per line.")
    try:
        text = path.read_text(encoding="utf-8-sig")
        whole = json.loads(text)
    except json.JSONDecodeError as error:
        said = f"The JSON file cannot be read at line {error.lineno}, character {error.colno}."
        raise BadInput(said, "Mend the file, or write one object per line.", str(error)) from error
    except UnicodeDecodeError as error:
        raise BadInput("The JSON file is not UTF-8 text.", "Save it as UTF-8.", str(error)) from error
    except RecursionError as error:
        raise BadInput("The JSON file is nested too deeply.", "Write one object per line.", str(error)) from error
    if rows := _turn(whole):
        yield from ((1, row) for row in rows)
        return
    lists = [key for key, value in whole.items() if isinstance(value, list)]
    if len(lists) != 1 or "messages" in whole or "conversations" in whole:
        yield 1, whole
        return
    at, line = 0, 1
    for begin, member in _members(text, lists[0]):
        line += text.count("\n", at, begin)
        at = begin
        yield line, member


def _turn(whole: dict[str, Any]) -> list[Any]:
    """Return the rows of a table that is written by its columns, as pandas does, or under its rows' names; else []."""
    values = list(whole.values())
    if len(values) < 2:
        return []
    if all(isinstance(value, list) and value and not isinstance(value[0], dict) for value in values):
        return (
            [dict(zip(whole, row, strict=True)) for row in zip(*values, strict=True)] if _same(map(len, values)) else []
        )
    if not all(isinstance(value, dict) and value for value in values) or not _same(map(tuple, values)):
        return []
    if next(iter(values[0])) == "0":
        return [{name: column[at] for name, column in whole.items()} for at in values[0]]
    return values if len(values) >= _FEWEST_NAMED else []


def _same(values: Iterable[Any]) -> bool:
    return len(set(values)) == 1


def _members(text: str, name: str) -> Iterator[tuple[int, Any]]:
    """Yield the members of the list of this name in an object that was read before, each with where it begins."""
    decode, skip = json.JSONDecoder().raw_decode, re.compile(r"[\s,:]*")
    at, key = text.index("{") + 1, None
    while key != name or text[at] != "[":  # a key may stand twice
        key, at = decode(text, skip.match(text, at).end())  # type: ignore[union-attr]  # matches the empty string
        at = skip.match(text, at).end()  # type: ignore[union-attr]
        if key != name or text[at] != "[":
            _, at = decode(text, at)
    at = skip.match(text, at + 1).end()  # type: ignore[union-attr]
    while text[at] != "]":
        member, end = decode(text, at)
        yield at, member
        at = skip.match(text, end).end()  # type: ignore[union-attr]


def read_list(path: Path, mended: list[str]) -> Iterator[tuple[int, Any]]:
    """Yield the members of a JSON list, one in memory at a time, each with the line on which it begins.

    Another list may follow, where files were joined; `mended` says so.
    """
    decoder, begin, between = json.JSONDecoder(), re.compile(r"\s*,?\s*"), re.compile(r"\][\s,]*")
    with path.open(encoding="utf-8-sig", errors="strict") as file:
        try:
            text, ended = file.read(CHUNK), False
            at = text.index("[") + 1
            line, text = 1 + text.count("\n", 0, at), text[at:]
            count = 0
            while True:
                at = begin.match(text).end()  # type: ignore[union-attr]  # matches the empty string
                line, text = line + text.count("\n", 0, at), text[at:]
                if text.startswith("]"):
                    text += file.read(CHUNK)
                    at = between.match(text).end()  # type: ignore[union-attr]  # begins with a bracket
                    if at == len(text):
                        return
                    if text[at] != "[":
                        said = f"After the JSON list more follows on line {line + text.count(_END, 0, at):,}."
                        raise DamagedListError(said, "Write one object per line.")
                    mended[:] = ["Several lists were joined in the file."]
                    line, text = line + text.count(_END, 0, at), text[at + 1 :]
                    continue
                try:
                    member, end = decoder.raw_decode(text)
                except json.JSONDecodeError as error:
                    if ended and not count and isinstance(python := as_list(f"[{text}"), list):
                        yield from ((1, member) for member in python)
                        return
                    if ended or len(text) > MAX_MEMBER:
                        raise DamagedListError(*_list_words(count, error)) from error
                    text, ended = _more(file, text)
                    continue
                yield line, member
                count, line, text = count + 1, line + text.count("\n", 0, end), text[end:]
        except RecursionError as error:
            said = f"The JSON list is nested too deeply after its object {count}."
            raise BadInput(said, "Write one object per line.", str(error)) from error
        except UnicodeDecodeError as error:
            raise BadInput("The file is not UTF-8 text.", "Save it as UTF-8.", str(error)) from error


def _more(file: TextIO, text: str) -> tuple[str, bool]:
    """Read on, doubling the buffer, so that a long member is not decoded again for every chunk of it."""
    chunk = file.read(max(CHUNK, len(text)))
    return text + chunk, not chunk


def _list_words(count: int, error: json.JSONDecodeError) -> tuple[str, str, str]:
    said = f"The JSON list cannot be read after its object {count}."
    return said, "Mend the file, or write one object per line.", str(error)[:2000]

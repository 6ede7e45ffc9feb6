"""Turns Parquet files and JSON lists into JSONL, a part at a time. Checks nothing: what is wrong shows in the rows."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from core.errors import BadInput

_BATCH_ROWS = 500
_CHUNK = 1 << 16
_PARQUET_MARK = b"PAR1"


def needs_converting(path: Path) -> bool:
    """Tell whether a file is something else than JSONL that can be read all the same."""
    return _is_parquet(path) or _is_list(path)


def convert(path: Path) -> None:
    """Put JSONL in the place of the file. Raises BadInput where it cannot be read."""
    rows = _read_parquet(path) if _is_parquet(path) else _read_list(path)
    converted = path.with_suffix(".converted")
    with converted.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
    os.replace(converted, path)


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == _PARQUET_MARK


def _is_list(path: Path) -> bool:
    """Tell whether the file is one JSON list: it begins with a bracket, and its first line alone is not JSON."""
    with path.open("rb") as file:
        first = file.readline(_CHUNK).removeprefix(b"\xef\xbb\xbf").strip()
        more = bool(file.read(1))
    if not first.startswith(b"["):
        return False
    try:
        json.loads(first)
    except ValueError:
        return True
    return not more and first.startswith(b"[{")


def _read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH_ROWS):
                yield from (_without_nulls(row) for row in batch.to_pylist())
    except pyarrow.ArrowException as error:
        raise BadInput("The Parquet file cannot be read.", "Save it again, or as JSONL.", str(error)) from error


def _without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    """Take out the null keys of messages: a table has every key in every message."""
    messages = row.get("messages")
    if isinstance(messages, list):
        row["messages"] = [
            {key: value for key, value in one.items() if value is not None or key == "content"}
            if isinstance(one, dict)
            else one
            for one in messages
        ]
    return row


def _read_list(path: Path) -> Iterator[Any]:
    """Yield the members of a JSON list, holding one of them at a time."""
    decoder = json.JSONDecoder()
    with path.open(encoding="utf-8-sig", errors="strict") as file:
        try:
            text, ended = file.read(_CHUNK).lstrip()[1:], False
            count = 0
            while True:
                text = text.lstrip().removeprefix(",").lstrip()
                if text.startswith("]"):
                    return
                try:
                    member, end = decoder.raw_decode(text)
                except json.JSONDecodeError as error:
                    if ended:
                        raise BadInput(*_list_words(count, error)) from error
                    text, ended = _more(file, text)
                    continue
                count, text = count + 1, text[end:]
                yield member
        except UnicodeDecodeError as error:
            raise BadInput("The file is not UTF-8 text.", "Save it as UTF-8.", str(error)) from error


def _more(file: TextIO, text: str) -> tuple[str, bool]:
    """Read on, doubling what is held, so that a long member is not decoded again for every chunk of it."""
    chunk = file.read(max(_CHUNK, len(text)))
    return text + chunk, not chunk


def _list_words(count: int, error: json.JSONDecodeError) -> tuple[str, str, str]:
    said = f"The JSON list cannot be read after its object {count}: {error.msg.lower()}."
    return said, "Mend the file, or write one object per line.", str(error)

"""Changes to a data set that wait for its next version: rows left out, edited and added.

Kept in the home for each data set, which itself is never changed; the copy that has them is made by sources.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core import home
from core.database import Database
from core.dataset import row_index
from core.dataset.chat_dataset import ChatDataset
from core.dataset.checks.line_check import check_row, read_line, to_line
from core.dataset.findings import DataFile
from core.dataset.repair import RowDiff, readable
from core.dataset.row_pages import Row, find_row, read_row
from core.errors import BadInput, Conflict

_MEND = "Nothing was kept yet: mend it here, and keep it again."


@dataclass(frozen=True)
class Edit:
    """A change to one row. line: where the row stands, 0: it is added. row: as it will be, None: it is left out."""

    id: int
    file: DataFile
    line: int
    row: Mapping[str, Any] | None

    @property
    def word(self) -> str:
        """Return what becomes of the row."""
        return "left out" if self.row is None else "edited" if self.line else "added"


def list_edits(key: str) -> list[Edit]:
    """Return what waits for the next version of a data set, in the order of its lines, added rows last."""
    rows = _database().rows("select id, body from edits where dataset = ? order by id", key)
    edits = [Edit(row["id"], **json.loads(row["body"])) for row in rows]
    return sorted(edits, key=lambda edit: (not edit.line, edit.file == "test", edit.line))


def find_edit(key: str, file: DataFile, line: int) -> Edit | None:
    """Return what waits for a row, None where that stays as it is."""
    return next((edit for edit in list_edits(key) if (edit.file, edit.line) == (file, line)), None)


def find_answer(key: str, asked: Sequence[Mapping[str, Any]]) -> Edit | None:
    """Return the added row that answers these messages."""
    return next((edit for edit in list_edits(key) if edit.row and not edit.line and _asks(edit.row, asked)), None)


def leave_out(key: str, file: DataFile, line: int, over: int = 0) -> None:
    """Leave a row out of the next version; see edit_row."""
    _keep(key, f"{file}-{line}", Edit(0, file, line, None), over)


def edit_row(key: str, file: DataFile, line: int, row: Mapping[str, Any], over: int = 0) -> None:
    """Give a row other content in the next version.

    over: the id of the edit that this one takes the place of, 0: of none. Raises BadInput where the row could not be
    trained on, Conflict where another edit waits for it by now.
    """
    _check(row)
    _keep(key, f"{file}-{line}", Edit(0, file, line, row), over)


def add_answer(key: str, asked: Sequence[Mapping[str, Any]], answer: str, over: int = 0) -> None:
    """Add a conversation of which the last answer alone is learned; see edit_row."""
    before = [dict(said) | ({"weight": 0} if said["role"] == "assistant" else {}) for said in asked]
    row = {"messages": [*before, {"role": "assistant", "content": answer}]}
    _check(row)
    _keep(key, f"answer-{_digest(asked)}", Edit(0, "train", 0, row), over)


def undo(edits: Sequence[Edit]) -> None:
    """Take back edits that wait; one that another has taken the place of stays."""
    with _database().write() as db:
        db.executemany("delete from edits where id = ?", [(edit.id,) for edit in edits])


def edited_rows(dataset: ChatDataset, edits: Sequence[Edit], file: DataFile = "train") -> Iterator[tuple[int, bytes]]:
    """Yield the rows of the next version of a file: the line of the operator's own file, and the row as a line.

    Added rows stand on the lines after the last.
    """
    path, waiting = dataset.path_of(file), {edit.line: edit for edit in edits if edit.file == file and edit.line}
    own_lines = row_index.read(path)["line"]
    for first, lines in row_index.iterate(path):
        for at, raw in enumerate(lines, first):
            edit = waiting.pop(int(own_lines[at]), None)
            if edit is None or edit.row is not None:
                yield int(own_lines[at]), raw.strip() if edit is None else to_line(edit.row)
    last = max(int(row_index.read(path)["line"].max(initial=0)) for path in dataset.files.values())
    added = [edit.row for edit in edits if edit.file == file and not edit.line]
    yield from ((last + number, to_line(row)) for number, row in enumerate(added, start=1))


def row_to_edit(row: Row, edit: Edit | None) -> Row:
    """Return a row as its next version has it so far; one that is left out as it is."""
    return read_row(row.line, to_line(edit.row)) if edit and edit.row is not None else row


def retype(row: Row, typed: Sequence[str]) -> dict[str, Any]:
    """Return a row with other texts in its messages; of one that is no conversation the one text is its line.

    All else of the row stays, and so does a text that a browser gives back as it was shown, with other line ends.
    Raises BadInput for a line that cannot be read.
    """
    if row.messages:
        given = row.read()
        pairs = zip(given["messages"], typed, strict=True)
        return given | {"messages": [_retype_message(message, text) for message, text in pairs]}
    parsed, problem = read_line(row.line, typed[0].encode())
    if problem:
        raise BadInput(f"This row{problem.message}", _MEND)
    return parsed or {}


def list_edited(dataset: ChatDataset, edits: Sequence[Edit]) -> list[RowDiff]:
    """Return the rows of edits before and after."""
    found = [find_row(dataset.path_of(edit.file), edit.line) if edit.line else None for edit in edits]
    return [
        RowDiff(
            edit.line,
            (),
            readable(row.text.encode()) if row else "",
            None if edit.row is None else readable(to_line(edit.row)),
        )
        for edit, row in zip(edits, found, strict=True)
    ]


def _retype_message(message: dict[str, Any], text: str) -> dict[str, Any]:
    shown = (message.get("content") or "").replace("\r\n", "\n").replace("\r", "\n")
    return message if text == shown else message | {"content": text}


def _check(row: Mapping[str, Any]) -> None:
    broken = next((problem for problem in check_row(0, dict(row)) if problem.breaks), None)
    if broken:
        raise BadInput(f"This row{broken.message}", _MEND)


def _keep(key: str, place: str, edit: Edit, over: int) -> None:
    body = json.dumps({"file": edit.file, "line": edit.line, "row": edit.row})
    with _database().write() as db:
        waiting = db.execute("select id from edits where dataset = ? and place = ?", (key, place)).fetchone()
        if (waiting["id"] if waiting else 0) != over:
            raise Conflict(
                "This row was changed elsewhere meanwhile, so yours was not kept.",
                "Look at what waits for it now. Keep yours again to put it in that place.",
            )
        db.execute("insert or replace into edits (dataset, place, body) values (?, ?, ?)", (key, place, body))


def _asks(row: Mapping[str, Any], asked: Sequence[Mapping[str, Any]]) -> bool:
    return _digest(row["messages"][:-1]) == _digest(asked)


def _digest(messages: Sequence[Mapping[str, Any]]) -> str:
    said = [(message["role"], message["content"]) for message in messages]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _database() -> Database:
    return Database.at(home.current().ledger_db)

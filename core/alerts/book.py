"""The table of alerts: what was noted once, what is to be sent, and what became of it. Knows no network.

An alert is noted in the ledger's own file, an operation's end in the transaction that writes the end. Who sends takes
it out under a lock and writes that down first: of several processes one sends, and none sends it again.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from core import home
from core.alerts.events import TEST, Alert
from core.alerts.settings import AlertSettings
from core.azureml.settings import find_settings
from core.azureml.tags import format_time
from core.database import Database
from core.words import duration

GATHER_S = 5.0  # what comes within it is one message
COOL_DOWN_S = 3600.0  # the same event of the same thing is told of once in it
SENDING_S = 60.0  # longer than a message takes: its sender ended on the way
KEPT_S = 90 * 86400.0


class AlertState(StrEnum):
    """What became of an alert."""

    NEW = "new"
    UNWANTED = "unwanted"
    """Nobody chose its event."""
    NOTED = "for open tabs"
    """There is no webhook."""
    HELD = "held back"
    DUE = "to be sent"
    SENDING = "being sent"
    SENT = "sent"
    FAILED = "not sent"
    UNKNOWN = "no answer"
    """It may have arrived, so it is not sent again."""


@dataclass(frozen=True)
class Entry:
    """An alert in the table. at: seconds since 1970."""

    number: int
    alert: Alert
    at: float
    state: AlertState
    tries: int = 0
    host: str = ""
    outcome: str = ""

    @property
    def place(self) -> str:
        """The name of its workspace."""
        known = find_settings(self.alert.connection)
        return known.workspace_name if known else self.alert.connection

    @property
    def is_news(self) -> bool:
        """Whether an open tab shows it: not what was told already, nor a test of the webhook."""
        return self.state is not AlertState.HELD and self.alert.event != TEST.name

    @property
    def at_text(self) -> str:
        """When it was noted, as ISO time in UTC."""
        return format_time(datetime.fromtimestamp(self.at, UTC))


def write_alert(db: sqlite3.Connection, alert: Alert) -> None:
    """Note an alert within a transaction of the ledger's file; one of the same key is noted already."""
    db.execute(
        "insert or ignore into alerts (connection, event, thing, key, text, at) values (?, ?, ?, ?, ?, ?)",
        (alert.connection, alert.event, alert.thing, alert.full_key, alert.text, time.time()),
    )


class AlertBook:
    """The alerts of one home."""

    def __init__(self, of: home.Home | None = None) -> None:
        self._database = Database.at((of or home.current()).ledger_db)

    def note(self, alert: Alert) -> None:
        """Note an alert, once."""
        if self._database.row("select 1 from alerts where key = ?", alert.full_key) is None:
            with self._database.write() as db:
                write_alert(db, alert)

    def list_entries(self, connection: str | None = None, *, limit: int = 50) -> list[Entry]:
        """Return what was told of or is to be, newest first. connection: of one workspace."""
        rows = self._database.rows(
            "select * from alerts where state not in ('new', 'unwanted') "
            "and (? is null or connection = ?) order by number desc limit ?",
            *(connection, connection, limit),
        )
        return list(map(_parse, rows))

    def has_work(self, now: float) -> bool:
        """Tell whether `take` would find something."""
        look = "select 1 from alerts where state = 'new' or (state in ('to be sent', 'being sent') and due_at <= ?)"
        return self._database.row(look, now) is not None

    def take(self, settings: AlertSettings, now: float) -> list[Entry]:
        """Sort what is new, then take all that is due out to be sent: whoever gets it is the only one, for good."""
        with self._database.write() as db:
            for row in db.execute("select * from alerts where state = 'new' order by number").fetchall():
                state, outcome = _sort(db, row, settings)
                _set(db, [row["number"]], state, outcome, due_at=now + GATHER_S)
            lost = db.execute("select number from alerts where state = 'being sent' and due_at <= ?", (now,)).fetchall()
            _set(db, [row["number"] for row in lost], AlertState.UNKNOWN, "its sender ended on the way")
            rows = db.execute("select * from alerts where state = 'to be sent' order by number limit 200").fetchall()
            numbers = [row["number"] for row in rows]
            if settings.webhook is None:
                _set(db, numbers, AlertState.NOTED, "no webhook is set any more")
                return []
            if not any(row["due_at"] <= now for row in rows):
                return []
            _set(db, numbers, AlertState.SENDING, "", due_at=now + SENDING_S, host=settings.webhook.host, tried=1)
            db.execute("delete from alerts where at < ?", (now - KEPT_S,))
        return list(map(_parse, rows))

    def settle(self, entries: Iterable[Entry], state: AlertState, outcome: str, due_at: float = 0.0) -> None:
        """Write down what became of what was taken."""
        with self._database.write() as db:
            _set(db, [each.number for each in entries], state, outcome, due_at=due_at)

    def begin_test(self, connection: str, host: str, now: float) -> Entry:
        """Note a message that is sent because somebody wants to see it arrive."""
        alert = Alert(connection, TEST.name, TEST.name, "This is a test. Alerts arrive here.", f"{now:.6f}")
        with self._database.write() as db:
            write_alert(db, alert)
            row = db.execute("select * from alerts where key = ?", (alert.full_key,)).fetchone()
            _set(db, [row["number"]], AlertState.SENDING, "", due_at=now + SENDING_S, host=host, tried=1)
        return _parse(row)


def _sort(db: sqlite3.Connection, row: sqlite3.Row, settings: AlertSettings) -> tuple[AlertState, str]:
    if row["event"] not in settings.events:
        return AlertState.UNWANTED, ""
    told = db.execute(
        "select at from alerts where connection = ? and event = ? and thing = ? and number < ? and at > ? "
        "and state not in ('unwanted', 'held back', 'not sent') order by number desc limit 1",
        (row["connection"], row["event"], row["thing"], row["number"], row["at"] - COOL_DOWN_S),
    ).fetchone()
    if told:
        return AlertState.HELD, f"the same was told {duration(row['at'] - told['at'])} before"
    if settings.webhook is None:
        return AlertState.NOTED, "no webhook is set"
    return AlertState.DUE, ""


def _set(
    db: sqlite3.Connection,
    numbers: Iterable[int],
    state: AlertState,
    outcome: str,
    *,
    due_at: float = 0.0,
    host: str | None = None,
    tried: int = 0,
) -> None:
    db.executemany(
        "update alerts set state = ?, outcome = ?, due_at = ?, host = coalesce(?, host), tries = tries + ? "
        "where number = ?",
        [(state, outcome, due_at, host, tried, number) for number in numbers],
    )


def _parse(row: sqlite3.Row) -> Entry:
    alert = Alert(row["connection"], row["event"], row["thing"], row["text"], row["key"])
    return Entry(row["number"], alert, row["at"], AlertState(row["state"]), row["tries"], row["host"], row["outcome"])

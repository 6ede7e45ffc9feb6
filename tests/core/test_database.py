"""The ledger's file: an older one is brought forward, a newer or foreign one refused, one broken row costs that row."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path

import pytest

from core.database import Database
from core.errors import Conflict, TunedeckError
from core.home import Home
from core.launch.drafts import get_draft
from core.operations import turns
from core.operations.cancel import Cancel
from core.operations.launch import Launch
from core.operations.ledger import Ledger
from core.operations.records import Step
from core.operations.work import SETTLE_LOOKS, Work
from core.overview import _recorded_run
from core.runs.throughput import Pace, list_paces
from core.schema import STEPS
from core.serving.transcripts import find_transcript

OLD = Path(__file__).parents[1] / "data" / "ledger_schema_0.sql"


@pytest.fixture
def old_home(home: Home) -> Home:
    execute(home, OLD.read_text(encoding="utf-8"))
    return home


def execute(home: Home, script: str) -> None:
    connection = sqlite3.connect(home.ledger_db)
    connection.executescript(script)
    connection.close()


def read_one(home: Home, sql: str) -> object:
    connection = sqlite3.connect(home.ledger_db)
    found = connection.execute(sql).fetchone()[0]
    connection.close()
    return found


def test_a_home_of_the_version_before_opens_and_carries_on(old_home: Home) -> None:
    ledger = Ledger(old_home)
    assert read_one(old_home, "pragma user_version") == len(STEPS)
    draft = get_draft("k3f9")
    assert (draft.revision, draft.launched, draft.nonce) == (3, "0a1b2c3d", "")
    newest, oldest = ledger.list_operations("local")
    assert (newest.id, oldest.id, newest.number > oldest.number) == ("4e5f6a7b", "0a1b2c3d", True)
    ((launch, is_wanted),) = ledger.list_unfinished()
    assert (launch.id, launch.step and launch.step.name, is_wanted) == ("0a1b2c3d", "submit", True)
    assert [receipt.id for receipt in ledger.list_receipts("local")] == ["R-0001"]
    assert ledger.list_seen() == ["calm-heron-1"]
    assert list_paces("local", "tiny-chat", "this-machine") == [Pace(512.5)]
    assert find_transcript("abcdef", "local") is not None
    fence = ledger.take_lease(1, "me", 60.0, holder_lives=True)
    assert fence == 8  # fences go on counting: whoever held the old lease may not write
    sent: list[str] = []
    work = Work(ledger, launch, fence)
    for _ in range(SETTLE_LOOKS):  # its request may still be on its way: looked for first, then sent
        assert work.send_once("job", "the run", lambda: False, lambda: sent.append("job")) is not None
    assert sent == []
    assert work.send_once("job", "the run", lambda: False, lambda: sent.append("job")) is None
    assert sent == ["job"]


def test_an_older_ledger_has_the_tables_of_a_new_one(old_home: Home, tmp_path: Path) -> None:
    def tables(path: Path) -> set[tuple[str, str]]:
        rows = sqlite3.connect(path).execute("select type, name from sqlite_master where name not like 'sqlite_%'")
        return set(rows.fetchall())

    Database.at(old_home.ledger_db)
    Database.at(tmp_path / "new.db")
    assert tables(old_home.ledger_db) == tables(tmp_path / "new.db")


def test_the_ledger_of_a_newer_tunedeck_is_refused_and_not_touched(old_home: Home) -> None:
    execute(old_home, f"pragma user_version = {len(STEPS) + 1}")
    before = hashlib.sha256(old_home.ledger_db.read_bytes()).hexdigest()
    with pytest.raises(Conflict, match=rf"newer Tunedeck \(schema {len(STEPS) + 1}; this one knows {len(STEPS)}\)"):
        Ledger(old_home)
    assert hashlib.sha256(old_home.ledger_db.read_bytes()).hexdigest() == before


def test_a_ledger_that_a_newer_tunedeck_took_over_meanwhile_is_not_written(home: Home) -> None:
    ledger = Ledger(home)
    execute(home, f"pragma user_version = {len(STEPS) + 1}")
    with pytest.raises(Conflict, match="newer Tunedeck"):
        ledger.start("local", Cancel("brave-otter"))
    execute(home, f"pragma user_version = {len(STEPS)}")
    assert ledger.list_operations() == []


@pytest.mark.parametrize(
    ("content", "words"), [(b"not a database, " * 100, "is no database"), (b"SQLite format 3\x00" + b"\x07" * 4096, "")]
)
def test_a_file_that_is_no_database_says_so_and_stays(home: Home, content: bytes, words: str) -> None:
    home.ledger_db.write_bytes(content)
    with pytest.raises(TunedeckError, match=r"The ledger 'ledger\.db' of this home") as told:
        Ledger(home)
    assert words in told.value.message
    assert told.value.hint
    assert home.ledger_db.read_bytes() == content


@pytest.mark.parametrize("body", ["", "[]", '{"steps": 7}', '{"steps": [], "arguments": {}', "null"])
def test_a_broken_row_costs_that_row_and_not_the_list(home: Home, body: str) -> None:
    ledger = Ledger(home)
    broken = ledger.start("local", Launch("bad"))
    good = ledger.start("local", Launch("good"))
    with ledger._database.write() as db:
        db.execute("update operations set body = ? where id = ?", (body, broken.id))
    assert [each.id for each in ledger.list_operations()] == [good.id, broken.id]
    found = ledger.get(broken.id)
    assert found.error is not None
    assert found.error.message == "This entry of the ledger cannot be read. Nothing more is done for it."
    assert [each.id for each, _ in ledger.list_unfinished()] == [good.id]
    assert [each.id for each in ledger.list_operations(active=True)] == [good.id]
    assert turns.find_older(ledger, good, Step("upload", "Send the data")) is None
    assert _recorded_run(found).state_word == "Failed"


def test_a_field_that_is_not_known_is_left_out(old_home: Home) -> None:
    ledger = Ledger(old_home)
    for table, column in (("operations", "id = '0a1b2c3d'"), ("receipts", "number = 1")):
        body = json.loads(str(read_one(old_home, f"select body from {table} where {column}")))
        body["colour"] = "blue"
        for part in body.get("steps", body.get("removed", [])):
            part["colour"] = "blue"
        with ledger._database.write() as db:
            db.execute(f"update {table} set body = ? where {column}", (json.dumps(body),))
    assert ledger.get("0a1b2c3d").steps[0].detail == "10 bytes sent"
    assert ledger.list_receipts()[0].gone[0].name == "old-ep"


def test_a_broken_receipt_costs_that_receipt(old_home: Home) -> None:
    ledger = Ledger(old_home)
    with ledger._database.write() as db:
        db.execute("insert into receipts (operation, body) values ('x', '{\"removed\": 1')")
    assert [receipt.id for receipt in ledger.list_receipts()] == ["R-0001"]


def test_a_database_that_can_be_read_anew_is_begun_anew_where_it_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "kept.db"
    path.write_bytes(b"this is no database" * 100)
    kept = Database.at(path, (("create table things (name text)",),), "catalogue", sure=False)
    assert kept.rows("select * from things") == []


def test_one_that_is_damaged_while_it_is_used_is_begun_anew_at_the_next_look(tmp_path: Path) -> None:
    path = tmp_path / "kept.db"
    path.write_bytes(b"nor is this" * 1000)
    used = Database(path, (("create table things (name text)",),), "catalogue", sure=False)
    with pytest.raises(TunedeckError, match=r"catalogue 'kept\.db' of this home is no database"):
        used.rows("select * from things")
    anew = Database.at(path, (("create table things (name text)",),), "catalogue", sure=False)
    assert anew.rows("select * from things") == []

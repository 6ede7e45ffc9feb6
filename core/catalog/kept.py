"""What is known of registries, on disk: their models' names, how far each list is, and the models looked at.

A file of its own beside the ledger, shared by the processes of a home; what is in it can be read again. A list is
written page by page: the page and where the next one is in one transaction. Names that the last whole list had stay
until the next is whole. It sends nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from sqlite3 import Row
from typing import Any, Literal

from core.database import Database
from core.errors import TunedeckError
from core.home import Home

# Facets are written with the model: a Tunedeck that reads them otherwise empties both tables in a new step.
STEPS = (
    (
        """create table registries (
            place text not null, name text not null, state text not null default 'waiting',
            generation integer not null default 0, next_link text not null default '', whole_at real, tried_at real,
            problem text not null default '', hint text not null default '', primary key (place, name)
        ) without rowid""",
        """create table names (
            place text not null, registry text not null, name text not null, version text not null,
            archived integer not null, generation integer not null, words text,
            task text not null default '', tunable integer not null default 0, tuning_ends text not null default '',
            runs_on text not null default '', publisher text not null default '', licence text not null default '',
            primary key (place, registry, name)
        ) without rowid""",
        """create table models (
            place text not null, registry text not null, name text not null, version text not null, read_at real,
            body text not null, primary key (place, registry, name, version)
        )""",
    ),
)

_SET_FACETS = """update names set words = ?, task = ?, tunable = ?, tuning_ends = ?, runs_on = ?, archived = ?,
    publisher = ?, licence = ?
    where place = ? and registry = ? and name = ? and version = ?"""
_SET_TOLD = _SET_FACETS + " and words is null"
# Each statement is made of constants of this module; the values come by name.
_MATCHES = """place = :place
    and (:registry = '' or registry = :registry)
    and (:publisher = '' or publisher = :publisher)
    and (:licence = '' or licence = :licence)
    and (not :runs_here or runs_on = '')
    and not exists (select 1 from json_each(:words) as word
        where not instr(lower(registry || '/' || name || ' ') || coalesce(words, ''), word.value))"""
_ENDED = "(archived or (tuning_ends != '' and tuning_ends <= date('now')))"
_OTHER = "(:task != '' and task != :task and words is not null)"
_SEARCH = f"""select registry, name, version, archived, count(*) over () as matches from names
    where {_MATCHES} and (not :tunable or tunable) and (not :current or not {_ENDED}) and not {_OTHER}
    order by runs_on != '', words is null, not tunable, archived, {_ENDED}, registry != :own, lower(name), registry
    limit :count offset :first"""  # noqa: S608
_UNKNOWN = f"""select registry, name, version from names where {_MATCHES} and words is null
    order by archived, not (lower(name) like '%instruct%' or lower(name) like '%chat%'), name limit :count"""  # noqa: S608  constants alone
_HIDDEN = f"""select coalesce(sum(case when words is null then :tunable end), 0) as unknown,
    coalesce(sum({_OTHER}), 0) as others,
    coalesce(sum(words is not null and not {_OTHER} and :tunable and not tunable), 0) as untunable,
    coalesce(sum(not {_OTHER} and (tunable or not :tunable) and :current and {_ENDED}), 0) as ended
    from names where {_MATCHES}"""  # noqa: S608

State = Literal["waiting", "listing", "complete", "failed"]
Key = tuple[str, str, str]
"""Registry, name, version."""


@dataclass(frozen=True)
class RegistryState:
    """How far the list of a registry is."""

    name: str
    """ "" for the list of the subscription's own registries."""
    state: State
    listed: int
    """Names known: of the list under way, or of the whole one."""
    as_of: datetime | None
    """When the list was last read whole; None where it never was."""
    problem: str = ""
    """Why it waits or failed; also of a list that goes on after a pause."""
    hint: str = ""
    next_link: str = field(default="", compare=False)
    tried_at: float = field(default=0.0, compare=False)
    """When something was last heard of it or tried, seconds since 1970."""


@dataclass(frozen=True)
class Facets:
    """What a model is searched by."""

    words: str
    task: str
    tunable: bool
    tuning_ends: str
    """ISO date, "" where no end is known."""
    runs_on: str
    archived: bool
    publisher: str
    licence: str


@dataclass(frozen=True)
class Hidden:
    """How many models have the words that are searched for and are left out, each counted once, by the reason."""

    unknown: int = 0
    """Nobody has looked at them yet."""
    others: int = 0
    """Another task."""
    untunable: int = 0
    ended: int = 0


@dataclass(frozen=True)
class Listed:
    """One model of a list."""

    registry: str
    name: str
    version: str
    archived: bool
    body: Mapping[str, Any] | None
    """The registry's answer, None where nobody has looked at it yet."""
    read_at: float
    """When, seconds since 1970; 0.0 for what the list itself said."""

    @property
    def key(self) -> Key:
        """Return what it is asked for by."""
        return self.registry, self.name, self.version


@dataclass(frozen=True)
class Wanted:
    """Which models of the list."""

    tunable: bool = False
    """Fine-tuned for chat by the pipeline; of those not looked at yet that is not known."""
    current: bool = False
    """Not archived, and no end of fine-tuning that has come."""
    runs_here: bool = False
    words: tuple[str, ...] = ()
    """Each in the registry, name, publisher, task or licence, in small letters."""
    task: str = "chat-completion"
    """The task, also of those of which it is not known yet; "" for any."""
    registry: str = ""
    publisher: str = ""
    licence: str = ""
    """Each exactly so; "" for any."""


class Kept:
    """What is known of the registries of one connection. place: its alias."""

    def __init__(self, home: Home, place: str) -> None:
        self._database = Database.at(home.catalogue / "kept.db", STEPS, "catalogue", sure=False)
        self._place = place

    def list_registries(self) -> list[RegistryState]:
        """Return how far each list is."""
        rows = self._database.rows(
            """select r.*, (select count(*) from names n where n.place = r.place and n.registry = r.name
                and (n.generation = r.generation or r.state != 'listing')) as listed
                from registries r where place = ? order by name""",
            self._place,
        )
        return [_to_state(row) for row in rows]

    def find_registry(self, name: str) -> RegistryState | None:
        """Return how far a registry's list is, None for one that is not known."""
        return next((each for each in self.list_registries() if each.name == name), None)

    def add_registries(self, names: Iterable[str]) -> None:
        """Remember that there are these."""
        with self._database.write() as db:
            sql = "insert or ignore into registries (place, name) values (?, ?)"
            db.executemany(sql, [(self._place, name) for name in names])

    def begin(self, registry: str) -> None:
        """Begin a list anew; what the last whole one had stays until this one is whole."""
        with self._database.write() as db:
            db.execute(
                """update registries set state = 'listing', generation = generation + 1, next_link = '', problem = '',
                hint = '', tried_at = ? where place = ? and name = ?""",
                (time.time(), self._place, registry),
            )

    def keep_page(self, registry: str, found: Sequence[tuple[str, str, bool]], next_link: str) -> None:
        """Keep one page of (name, newest version, archived); with no next one the list is whole."""
        sql = """insert into names (place, registry, name, version, archived, generation)
            values (?, ?, ?, ?, ?, (select generation from registries where place = ? and name = ?))
            on conflict do update set archived = excluded.archived, generation = excluded.generation,
            words = iif(version = excluded.version, words, null), version = excluded.version"""
        place, now = self._place, time.time()
        with self._database.write() as db:
            db.executemany(sql, [(place, registry, *each, place, registry) for each in found])
            db.execute(
                """update registries set state = 'listing', next_link = ?, problem = '', hint = '', tried_at = ?
                where place = ? and name = ?""",
                (next_link, now, place, registry),
            )
            if next_link:
                return
            db.execute(
                """delete from names where place = ?1 and registry = ?2 and generation <
                (select generation from registries where place = ?1 and name = ?2)""",
                (place, registry),
            )
            db.execute(
                "update registries set state = 'complete', whole_at = ? where place = ? and name = ?",
                (now, place, registry),
            )

    def note(self, registry: str, error: TunedeckError, state: State) -> None:
        """Keep what went wrong with a list."""
        with self._database.write() as db:
            db.execute(
                """update registries set state = ?, problem = ?, hint = ?, tried_at = ? where place = ? and name = ?""",
                (state, error.message, error.hint, time.time(), self._place, registry),
            )

    def keep_model(self, key: Key, body: Mapping[str, Any], facets: Facets) -> None:
        """Keep a model as its registry described it when it was looked at; the newest version is found by that."""
        with self._database.write() as db:
            db.execute("insert or replace into models values (?, ?, ?, ?, ?, ?)", self._row(key, time.time(), body))
            # Also one that no list has told of yet: it goes if the whole list does not.
            db.execute(
                """insert or ignore into names (place, registry, name, version, archived, generation)
                values (?, ?, ?, ?, 0, -1)""",
                (self._place, *key),
            )
            db.execute(_SET_FACETS, (*vars(facets).values(), self._place, *key))

    def drop_model(self, key: Key) -> None:
        """Forget a model that was deleted; a version of it that is left comes back with the next list."""
        with self._database.write() as db:
            db.execute(
                "delete from models where place = ? and registry = ? and name = ? and version = ?", (self._place, *key)
            )
            db.execute("delete from names where place = ? and registry = ? and name = ?", (self._place, *key[:2]))

    def keep_told(self, told: Iterable[tuple[Key, Mapping[str, Any], Facets]]) -> None:
        """Keep what a list says of its models, where nobody has looked at them: to look is to know more."""
        with self._database.write() as db:
            for key, body, facets in told:
                db.execute("insert or ignore into models values (?, ?, ?, ?, ?, ?)", self._row(key, 0.0, body))
                db.execute(_SET_TOLD, (*vars(facets).values(), self._place, *key))

    def _row(self, key: Key, read_at: float, body: Mapping[str, Any]) -> tuple[object, ...]:
        return self._place, *key, read_at, json.dumps(body)

    def find_model(self, key: Key) -> Listed | None:
        """Return one version of a model that was looked at, or None."""
        row = self._database.row(
            "select * from models where place = ? and registry = ? and name = ? and version = ?", self._place, *key
        )
        return Listed(*key, False, json.loads(row["body"]), row["read_at"]) if row else None

    def search(self, wanted: Wanted, first: int, count: int, own: str = "") -> tuple[list[Listed], int]:
        """Return a part of the models that match, and how many do in all.

        First are those that can be trained, among them those of the registry `own`.
        """
        rows = self._database.rows(_SEARCH, **self._named(wanted), first=first, count=count, own=own)
        found = [self._with_body(row) for row in rows]
        return found, rows[0]["matches"] if rows else 0

    def list_unknown(self, wanted: Wanted, count: int) -> list[Key]:
        """Return some models that nobody looked at yet and that may match, such as are named for chat first."""
        maybe = replace(wanted, publisher="", licence="", runs_here=False)
        rows = self._database.rows(_UNKNOWN, **self._named(maybe), count=count)
        return [(row["registry"], row["name"], row["version"]) for row in rows]

    def count_unknown(self) -> int:
        """Return of how many names nobody knows more."""
        row = self._database.row("select count(*) from names where place = ? and words is null", self._place)
        return int(row[0]) if row else 0

    def count_hidden(self, wanted: Wanted) -> Hidden:
        """Return how many models a search leaves out, and why."""
        (row,) = self._database.rows(_HIDDEN, **self._named(wanted))
        return Hidden(**dict(row))

    def list_choices(self) -> dict[str, tuple[str, ...]]:
        """Return the values that registry, publisher, task and licence have in the lists."""
        found: dict[str, tuple[str, ...]] = {}
        for column in ("registry", "publisher", "task", "licence"):
            sql = (
                f"select distinct {column} as value from names where place = ? and {column} != '' order by lower(value)"  # noqa: S608
            )
            found[column] = tuple(row["value"] for row in self._database.rows(sql, self._place))
        return found

    def _named(self, wanted: Wanted) -> dict[str, Any]:
        return {**vars(wanted), "place": self._place, "words": json.dumps(wanted.words)}

    def _with_body(self, row: Row) -> Listed:
        key = row["registry"], row["name"], row["version"]
        known = self.find_model(key)
        return Listed(*key, bool(row["archived"]), known.body if known else None, known.read_at if known else 0.0)


def _to_state(row: Row) -> RegistryState:
    as_of = datetime.fromtimestamp(row["whole_at"], UTC) if row["whole_at"] else None
    told = {name: row[name] for name in ("name", "state", "listed", "problem", "hint", "next_link")}
    return RegistryState(**told, as_of=as_of, tried_at=row["tried_at"] or 0.0)

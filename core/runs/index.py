"""All fine-tuning runs of a workspace: read page by page, kept on disk, from then on only what is new or goes on.

The service lists jobs newest first and finds them by a tag, not by their state. So those with Tunedeck's tag are read
whole once, and again every quarter of an hour for what others changed; meanwhile a look reads the newest page and what
goes on. A look reads for less than a second: of a long list the rest comes with the next ones. What a run that has
ended measured is read once, of many in one request, and kept for good. It knows no stage of a run.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

import orjson

from core.azureml import tags
from core.azureml.abreast import abreast
from core.azureml.connection import Connection
from core.database import Database
from core.errors import ServiceRefused, TunedeckError, Unreachable
from core.runs import history
from core.runs.evaluation import read_evaluation
from core.runs.history import RunRecord
from core.runs.jobs import evaluation_name, find_wire, is_fine_tuning, jobs_url, read_job, to_run
from core.runs.metrics import find_experiment, read_losses, search_runs
from core.runs.states import Run

LOOK_S = 0.2
HEAD_EVERY_S = 2.0  # the newest page, while the whole list is being read
WHOLE_EVERY_S = 900.0
OTHERS_EVERY_S = 15.0
NOTED_EVERY_S = 60.0
MOST = 20_000  # runs that are listed
OTHERS_MOST = 1000  # pipelines among which runs without our tag are looked for: the lesson's
FEW = 16  # ended runs that are asked side by side; where there are more, their experiment is searched
SETTLES_S = 3.0
BEHIND_S = 30.0
TESTED_FOR = timedelta(days=7)  # after its end: an evaluation may wait for a node
_LONG_AGO = datetime.min.replace(tzinfo=UTC)

STEPS = (
    (
        """create table runs (
            place text not null, name text not null, number integer not null, body blob not null,
            primary key (place, name)
        ) without rowid""",
        "create unique index runs_by_number on runs (place, number)",
        # whole: there is no gap in what is kept. others_at: up to when pipelines without our tag were looked through.
        """create table lists (
            place text primary key, whole integer not null default 0, whole_at real not null default 0,
            read_at real not null default 0, others_at text not null default '', note text not null default ''
        )""",
    ),
    ("delete from runs", "update lists set whole = 0"),  # read again, with how long evaluations took
)

# What is kept of a run: its `job` as of `read_job`, when it started and ended, its losses, and whether these are final.
Record = dict[str, Any]
_NEW: Record = {"final": False}
_MEASURES = ("train_loss", "eval_loss", "test_loss", "evaluated_s")


class RunList(list[Run]):
    """Runs: the active ones, then those that have ended, each newest first.

    active: how many are the former. note: where the list ends, or that it is being read; "" where it is all there is.
    complete: whether to look again at once brings nothing more. read_at: when the service was asked last.
    """

    active: int = 0
    note: str = ""
    complete: bool = True
    read_at: datetime | None = None


def list_runs(conn: Connection, look_s: float = LOOK_S, *, archived: bool = False) -> RunList:
    """Return the runs, without stages and progress, as far as one look reads; archived: those that are, and no other.

    A new process is given at once what the disk has, and asks at its second look; where `look_s` is 0 also later.
    """
    return _index_of(conn).look(look_s, archived=archived)


def note_change(conn: Connection, record: RunRecord) -> None:
    """Let the list say at once what was written to a run: its tags, and whether it is archived."""
    _index_of(conn).note(record)


def _index_of(conn: Connection) -> _Index:
    return conn.remember("run index", lambda: _Index(conn), math.inf)


class _Kept:
    """What is on disk of one workspace; a file of its own, since all of it can be read again."""

    def __init__(self, conn: Connection) -> None:
        self._database = Database.at(conn.home.runs_db, STEPS, "list of runs", sure=False)
        self._place = f"{conn.cloud.resource_manager}{conn.workspace_path}".lower()
        self._number = 0
        with self._database.write() as db:
            db.execute("insert or ignore into lists (place) values (?)", (self._place,))

    def read_new(self) -> list[Record]:
        """Return what was kept since the last call, also by other processes."""
        sql = "select number, body from runs where place = ? and number > ? order by number"
        rows = self._database.rows(sql, self._place, self._number)
        self._number = rows[-1]["number"] if rows else self._number
        return [orjson.loads(row["body"]) for row in rows]

    def put(self, records: Sequence[Record]) -> None:
        """Keep runs; `read_new` gives them once more where another process was first."""
        rows = [(record["job"]["name"], orjson.dumps(record)) for record in records]
        with self._database.write() as db:
            sql = "select coalesce(max(number), 0) from runs where place = ?"
            (newest,) = db.execute(sql, (self._place,)).fetchone()
            numbered = [(self._place, name, newest + at, body) for at, (name, body) in enumerate(rows, 1)]
            db.executemany("insert or replace into runs values (?, ?, ?, ?)", numbered)
        if newest == self._number:
            self._number += len(rows)

    def remove(self, names: Iterable[str]) -> None:
        """Forget runs that are gone."""
        with self._database.write() as db:
            db.executemany("delete from runs where place = ? and name = ?", [(self._place, name) for name in names])

    def read_state(self) -> dict[str, Any]:
        """Return how far the list is: the columns of `lists`."""
        return dict(self._database.rows("select * from lists where place = ?", self._place)[0])

    def set_state(self, **values: Any) -> None:
        """Change some of that."""
        names = ", ".join(f"{name} = ?" for name in values)
        with self._database.write() as db:
            db.execute(f"update lists set {names} where place = ?", (*values.values(), self._place))  # noqa: S608


class _Page(NamedTuple):
    """One page of a list of jobs. names: of all on it; oldest: when the last of them was created."""

    jobs: list[dict[str, Any]]
    names: set[str]
    oldest: datetime
    following: str


@dataclass
class _Listing:
    """The reading of the whole list: where it goes on, what was known before, what is there."""

    following: str
    before: frozenset[str]
    found: set[str]
    oldest: datetime = _LONG_AGO


@dataclass
class _Search:
    """The reading of what an experiment's runs measured. found: by root run; last: roots of the page before."""

    experiment: str
    number: str
    token: str = ""
    found: dict[str, Record] = field(default_factory=dict)
    last: set[str] = field(default_factory=set)


class _Index:
    """The runs of one connection."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._kept = _Kept(conn)
        self._lock = threading.Lock()
        self._has_looked = False
        self._records: dict[str, Record] = {}
        self._runs: dict[str, Run] = {}
        self._lists: dict[bool, RunList] = {}
        """By whether they are archived; made anew after a change."""
        self._due: dict[str, float] = {}
        """Ended runs whose outcome is not final, and when to ask for it, of the monotonic clock."""
        self._alone: set[str] = set()
        """Of those, the ones that their experiment's search does not find."""
        self._written: dict[str, float] = {}
        """When something was written to runs from here: a list may be behind it for a while."""
        self._listing: _Listing | None = None
        self._search: _Search | None = None
        self._head_due = self._others_due = self._noted_at = 0.0

    def look(self, look_s: float, *, archived: bool) -> RunList:
        with self._lock:
            self._remember(self._kept.read_new())
            asks = self._has_looked or not self._runs
            self._has_looked = True
            if asks and look_s:
                self._read(time.monotonic() + look_s)
            return self._to_list(archived=archived, asked=asks)

    def note(self, record: RunRecord) -> None:
        with self._lock:
            self._remember(self._kept.read_new())
            if known := self._records.get(record.run_id):
                self._written[record.run_id] = time.monotonic()
                self._keep([{**known, "job": {**known["job"], "tags": dict(record.tags), "archived": record.hidden}}])

    # The list -----------------------------------------------------------------------------------------------------

    def _read(self, until: float) -> None:
        """Read the newest page, some more where the whole list is wanted, what goes on, and what has ended."""
        if self._listing is not None and time.monotonic() < self._head_due:
            self._read_more(until)
            return
        self._head_due = time.monotonic() + HEAD_EVERY_S
        state = self._kept.read_state()
        page = self._get_page(jobs_url(self._conn, jobType="Pipeline", listViewType="All", tag=tags.TITLE))
        has_gap = not state["whole"] or bool(page.following and self._records.keys().isdisjoint(page.names))
        if self._listing is None and (has_gap or time.time() - state["whole_at"] > WHOLE_EVERY_S):
            self._listing = _Listing(page.following, frozenset(self._records), page.names)
            self._kept.set_state(whole=int(not has_gap))  # who is killed before the last page reads all of them anew
        self._take(page)
        self._read_more(until)
        if state["others_at"] and time.monotonic() > self._others_due:
            self._read_others(tags.parse_time(state["others_at"]) or _LONG_AGO)
        since = page.oldest if page.following else _LONG_AGO
        self._ask(
            name
            for name, run in self._runs.items()
            if name not in page.names and (not run.finished or (_made(run) > since and tags.TITLE in run.tags))
        )
        self._measure(until)
        if time.monotonic() - self._noted_at > NOTED_EVERY_S:
            self._noted_at = time.monotonic()
            self._kept.set_state(read_at=time.time())

    def _read_more(self, until: float) -> None:
        while self._listing is not None:
            self._read_next(self._listing)
            if time.monotonic() > until:
                return

    def _read_next(self, listing: _Listing) -> None:
        """Read one more page of the whole list; after the last one, what was not seen is asked for."""
        if listing.following and len(listing.found) < MOST:
            try:
                page = self._get_page(listing.following)
            except ServiceRefused:
                self._listing = None  # the address of a page may be too old
                raise
            listing.found |= self._take(page)
            listing.following, listing.oldest = page.following, page.oldest
            return
        ends = listing.oldest if listing.following else _LONG_AGO
        said = [f"The list ends at {MOST:,} runs; older ones are not read."] if listing.following else []
        since = self._read_others(_LONG_AGO, listing.found)
        if since > _LONG_AGO:
            among = f"the newest {OTHERS_MOST:,} pipelines, back to {since.day} {since:%B %Y}"
            said.append(f"Runs without Tunedeck's tag were looked for among {among}.")
        gone = (name for name in listing.before - listing.found if name in self._runs)
        self._ask(name for name in gone if _made(run := self._runs[name]) > (ends if tags.TITLE in run.tags else since))
        self._kept.set_state(whole=1, whole_at=time.time(), note=" ".join(said))
        self._listing = None

    def _read_others(self, since: datetime, found: set[str] | None = None) -> datetime:
        """Read all pipelines that were made since then; return when the last was made that was looked at, if not all.

        found: gets the names of those that are runs.
        """
        following, looked_at, newest = jobs_url(self._conn, jobType="Pipeline", listViewType="All"), 0, ""
        while following:
            page = self._get_page(following)
            names, following = self._take(page), page.following
            if found is not None:
                found |= names
            looked_at += len(page.jobs)
            newest = newest or str((page.jobs[0].get("systemData") or {}).get("createdAt") if page.jobs else "")
            if page.oldest <= since or looked_at >= OTHERS_MOST:
                break
        self._others_due = time.monotonic() + OTHERS_EVERY_S
        self._kept.set_state(others_at=newest or tags.format_time(datetime.now(UTC)))
        return page.oldest if following else _LONG_AGO

    def _get_page(self, url: str) -> _Page:
        [answer] = abreast(self._conn, [lambda: self._conn.http("GET", url, what="the runs")])
        told = orjson.loads(answer.content)
        jobs = [job for job in told.get("value") or [] if job.get("properties")]
        made = tags.parse_time((jobs[-1].get("systemData") or {}).get("createdAt")) if jobs else None
        return _Page(jobs, {str(job["name"]) for job in jobs}, made or _LONG_AGO, told.get("nextLink") or "")

    def _take(self, page: _Page) -> set[str]:
        """Keep what is new or changed of a page; return the names of its runs."""
        read, changed = [job for job in map(read_job, page.jobs) if is_fine_tuning(job)], list[Record]()
        for job in read:
            known = self._records.get(job["name"], _NEW)
            if time.monotonic() - self._written.get(job["name"], -BEHIND_S) < BEHIND_S:
                job |= {name: known["job"][name] for name in ("tags", "archived")}
            if known.get("job") != job:
                changed.append({**known, "job": job})
        self._keep(changed)
        return {job["name"] for job in read}

    def _ask(self, names: Iterable[str]) -> None:
        """Read runs one by one, side by side; those that the workspace has no more are forgotten."""
        asked = list(names)
        found = abreast(self._conn, (partial(find_wire, self._conn, name) for name in asked))
        jobs = dict(zip(asked, found, strict=True))
        self._take(_Page([job for job in jobs.values() if job], set(), _LONG_AGO, ""))
        if gone := [name for name, job in jobs.items() if not job]:
            self._kept.remove(gone)
            for name in gone:
                del self._records[name], self._runs[name]
                self._due.pop(name, None)
            self._lists.clear()

    def _keep(self, records: Sequence[Record]) -> None:
        if records:
            self._kept.put(records)
            self._remember(records)

    def _remember(self, records: Iterable[Record]) -> None:
        for record in records:
            job = record["job"]
            times = {name: tags.parse_time(record.get(name)) for name in ("started_at", "ended_at")}
            run = to_run(job, **times, **{name: record[name] for name in _MEASURES if name in record})
            self._records[run.name], self._runs[run.name] = record, run
            if run.finished and not record["final"]:
                self._due.setdefault(run.name, 0.0)
            else:
                self._due.pop(run.name, None)
            self._lists.clear()

    def _to_list(self, *, archived: bool, asked: bool) -> RunList:
        known = self._lists.get(archived)
        if known is None:
            wanted = [run for run in self._runs.values() if run.archived == archived]
            known = RunList(sorted(wanted, key=lambda run: (not run.finished, _made(run)), reverse=True))
            known.active = sum(not run.finished for run in wanted)
            self._lists[archived] = known
        state, found = self._kept.read_state(), RunList(known)
        found.active, found.note, found.complete = known.active, state["note"], asked
        found.read_at = datetime.fromtimestamp(state["read_at"], UTC) if state["read_at"] else None
        if not asked and found.read_at:
            found.note = f"As of {found.read_at.day} {found.read_at:%B %H:%M} UTC."
        if self._listing is not None and not state["whole"]:
            found.note, found.complete = "Reading the rest.", False
        return found

    # What has ended -----------------------------------------------------------------------------------------------

    def _measure(self, until: float) -> None:
        """Read when runs that have ended began and ended, and their losses, the newest first."""
        if self._listing is not None:
            return  # a search finds all that the list brings
        now = time.monotonic()
        due = sorted((name for name, at in self._due.items() if at <= now), key=lambda name: _made(self._runs[name]))
        unread = [name for name in due if not self._records[name].get("measured") and name not in self._alone]
        if self._search is None and len(unread) > FEW:
            self._search = self._begin_search(unread)
        while self._search is not None:
            self._read_search(self._search)
            if self._search is None or time.monotonic() > until:
                return
        while due:
            chunk = [due.pop() for _ in range(min(FEW, len(due)))]
            self._keep(abreast(self._conn, (partial(self._read_outcome, self._records[name]) for name in chunk)))
            if time.monotonic() > until:
                return

    def _begin_search(self, unread: Sequence[str]) -> _Search | None:
        experiment = Counter(self._runs[name].experiment for name in unread).most_common(1)[0][0]
        number = find_experiment(self._conn, experiment)
        if number is None:
            self._alone |= {name for name in unread if self._runs[name].experiment == experiment}
        return _Search(experiment, number) if number is not None else None

    def _read_search(self, search: _Search) -> None:
        """Read a page of the runs of an experiment, their steps among them, and keep what is whole by now.

        A step that measured stands on the page of its run, or on the one before or after it.
        """
        [(rows, search.token)] = abreast(self._conn, [partial(search_runs, self._conn, search.number, search.token)])
        roots = set[str]()
        for row in rows:
            root = search.found.setdefault(row.root, {})
            if row.run == row.root:
                roots.add(row.root)
                root |= {"started_at": row.started_at, "ended_at": row.ended_at, **row.losses, "measured": True}
            else:
                search.found[row.root] = {**row.losses, **root}
        whole = search.last if search.token else search.last | roots
        search.last = roots
        ended = whole & self._due.keys()
        self._keep([self._with_outcome(self._records[name], search.found[name]) for name in ended])
        search.found = {root: found for root, found in search.found.items() if root not in whole}
        if not search.token:
            left = (name for name in self._due if not self._records[name].get("measured"))
            self._alone |= {name for name in left if self._runs[name].experiment == search.experiment}
            self._search = None

    def _read_outcome(self, record: Record) -> Record:
        """Ask for one run what is missing; a run that is gone has what it has."""
        name = record["job"]["name"]
        if record.get("measured"):
            return self._with_outcome(record, self._read_test(name))
        told = history.find_record(self._conn, name)
        times = {"started_at": told.started_at, "ended_at": told.ended_at} if told else {}
        return self._with_outcome(record, {**times, **read_losses(self._conn, name), "measured": True})

    def _read_test(self, name: str) -> Record:
        try:
            found = read_evaluation(self._conn, name)
        except Unreachable:
            raise
        except TunedeckError:
            return {}  # who may not read the files has no number of them
        if found is None:
            return {}
        told = history.find_record(self._conn, evaluation_name(name))
        took = told.ended_at - told.started_at if told and told.started_at and told.ended_at else timedelta()
        return {"test_loss": found.tuned.loss, "evaluated_s": took.total_seconds()}

    def _with_outcome(self, record: Record, outcome: Record) -> Record:
        """Return the record with what was read; not final while more may come, and then asked for later."""
        run = self._runs[record["job"]["name"]]
        new = {**record, **outcome}
        age = datetime.now(UTC) - (tags.parse_time(new.get("ended_at")) or _made(run))
        new["measured"] = settled = age.total_seconds() > SETTLES_S
        tests = run.completed and bool(run.inputs.get("test_file_path")) and new.get("test_loss") is None
        new["final"] = settled and not (tests and age < TESTED_FOR)
        later_s = SETTLES_S
        if settled:  # its test at once, and again as long as it may come
            later_s = max(30.0, age.total_seconds() / 10) if record.get("measured") else 0.0
        self._due[run.name] = time.monotonic() + later_s
        return new


def _made(run: Run) -> datetime:
    return run.created_at or _LONG_AGO

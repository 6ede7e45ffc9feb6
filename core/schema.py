"""The tables of ledger.db: drafts, operations, transcripts, paces, edits, rates, alerts, recipes."""

from __future__ import annotations

# What leads from version n to n + 1. A version that was released is never changed: what differs becomes another step.
STEPS: tuple[tuple[str, ...], ...] = (
    (
        """create table if not exists drafts (
            id text primary key, connection text not null, body text not null, revision integer not null,
            updated_at text not null
        )""",
        """create table if not exists operations (
            id text primary key, kind text not null, connection text not null, subject text not null,
            key text not null, state text not null, body text not null, user text not null, created_at text not null,
            updated_at text not null, due_at real not null, cancel_wanted integer not null default 0
        )""",
        "create index if not exists operations_by_subject on operations (connection, subject)",
        """create table if not exists lease (
            name text primary key, pid integer not null, start_time real not null, expires_at real not null,
            fence integer not null
        )""",
        """create table if not exists receipts (
            number integer primary key autoincrement, operation text unique, body text
        )""",
        """create table if not exists timers (
            connection text not null, kind text not null, name text not null, delete_at text not null,
            primary key (connection, kind, name)
        )""",
        "create table if not exists seen (run text primary key)",
        """create table if not exists speeds (
            run text primary key, connection text not null, model text not null, compute text not null,
            tokens_per_s real not null, at text not null
        )""",
        """create table if not exists transcripts (
            id text primary key, connection text not null, endpoint text not null, turns text not null,
            updated_at text not null
        )""",
    ),
    # Operations are counted: their order is no matter of the clock. due_at 0: something new is wanted of it.
    # A lease names its holder by a word and ends in seconds since the machine's start. Fences go on counting.
    (
        """create table numbered (
            number integer primary key autoincrement, id text not null unique, kind text not null,
            connection text not null, subject text not null, key text not null, state text not null,
            body text not null, user text not null, created_at text not null, updated_at text not null,
            due_at real not null, cancel_wanted integer not null default 0
        )""",
        """insert into numbered (id, kind, connection, subject, key, state, body, user, created_at, updated_at, due_at,
            cancel_wanted) select id, kind, connection, subject, key, state, body, user, created_at, updated_at, 0,
            cancel_wanted from operations order by rowid""",
        "drop table operations",
        "alter table numbered rename to operations",
        "create index operations_by_subject on operations (connection, subject)",
        "create index operations_by_key on operations (connection, key)",
        """create table held (
            name text primary key, pid integer not null, start_time text not null, expires_at real not null,
            fence integer not null
        )""",
        "insert into held (name, pid, start_time, expires_at, fence) select name, 0, '', 0, fence from lease",
        "drop table lease",
        "alter table held rename to lease",
    ),
    # What a run measured: more than its speed. Of an old one the length of its rows is not known.
    (
        """create table paces (
            run text primary key, connection text not null, model text not null, compute text not null,
            body text not null, at text not null
        )""",
        """insert into paces (run, connection, model, compute, body, at)
            select run, connection, model, compute,
            '{"tokens_per_s": ' || printf('%!.17g', tokens_per_s) || '}', at from speeds""",
        "drop table speeds",
    ),
    # What waits for the next version of a data set; one edit for each place in it.
    (
        """create table edits (
            id integer primary key autoincrement, dataset text not null, place text not null, body text not null,
            unique (dataset, place)
        )""",
    ),
    # When something is deleted is a fact of the resource's own tags; nothing is kept of it here.
    ("drop table timers",),
    # What was seen to bill: a row for each change of a resource. Times in seconds since 1970, by the workspace's clock;
    # per_hour: of one node, null for an unknown price.
    (
        """create table rates (
            connection text not null, key text not null, created_at real not null, begun_at real not null,
            seen_at real not null, nodes integer, per_hour real, currency text not null, factor real not null,
            state text not null, primary key (connection, key, created_at, begun_at)
        )""",
    ),
    # What an operator is told of, once for each key. at, due_at: seconds since 1970; host: of the webhook's address.
    (
        """create table alerts (
            number integer primary key autoincrement, connection text not null, event text not null,
            thing text not null, key text not null unique, text text not null, at real not null,
            state text not null default 'new', due_at real not null default 0, tries integer not null default 0,
            host text not null default '', outcome text not null default ''
        )""",
        "create index alerts_by_state on alerts (state, due_at)",
        "create index alerts_by_thing on alerts (connection, event, thing)",
    ),
    (
        """create table recipes (
            id integer primary key autoincrement, name text not null collate nocase unique, body text not null,
            updated_at text not null
        )""",
    ),
)

-- A ledger as it was before its versions were counted: what every table held, with a run and a teardown under way.
create table drafts (
    id text primary key, connection text not null, body text not null, revision integer not null,
    updated_at text not null
);
create table operations (
    id text primary key, kind text not null, connection text not null, subject text not null, key text not null,
    state text not null, body text not null, user text not null, created_at text not null, updated_at text not null,
    due_at real not null, cancel_wanted integer not null default 0
);
create index operations_by_subject on operations (connection, subject);
create table lease (
    name text primary key, pid integer not null, start_time real not null, expires_at real not null,
    fence integer not null
);
create table receipts (number integer primary key autoincrement, operation text unique, body text);
create table timers (
    connection text not null, kind text not null, name text not null, delete_at text not null,
    primary key (connection, kind, name)
);
create table seen (run text primary key);
create table speeds (
    run text primary key, connection text not null, model text not null, compute text not null,
    tokens_per_s real not null, at text not null
);
create table transcripts (
    id text primary key, connection text not null, endpoint text not null, turns text not null, updated_at text not null
);
insert into drafts values ('k3f9', 'local', '{"id": "k3f9", "connection": "local", "model": "tiny-chat", "model_version": "1", "compute": "this-machine", "dataset": "abc", "parameters": {"max_steps": 5}, "launched": "0a1b2c3d", "revision": 3, "updated_at": "2026-11-20T10:00:00.000+00:00"}', 3, '2026-11-20T10:00:00.000+00:00');
insert into operations values ('0a1b2c3d', 'launch', 'local', 'brave-otter-3f2a91', 'launch:k3f9:3', 'running', '{"steps": [{"name": "upload", "title": "Send the data", "state": "done", "detail": "10 bytes sent", "started": "2026-11-20T10:00:01+00:00", "ended": "2026-11-20T10:00:02+00:00"}, {"name": "submit", "title": "Start the run", "state": "running", "detail": "", "started": "2026-11-20T10:00:02+00:00", "ended": null}], "arguments": {"title": "brave-otter", "dataset_key": "abc"}, "facts": {"sent_job": 1795168802.5, "unconfirmed": "the run"}, "error": null, "note": ""}', 'ana', '2026-11-20T10:00:00+00:00', '2026-11-20T10:00:02+00:00', 1795168803.5, 0);
insert into operations values ('4e5f6a7b', 'teardown', 'local', 'old-ep', 'teardown:endpoint:old-ep', 'done', '{"steps": [{"name": "remove endpoint:old-ep", "title": "Delete endpoint old-ep", "state": "done", "detail": "Gone", "started": null, "ended": null}], "arguments": {"items": []}, "facts": {"receipt": "R-0001"}, "error": null, "note": ""}', 'ana', '2026-11-19T10:00:00+00:00', '2026-11-19T10:01:00+00:00', 0, 0);
insert into lease values ('runner', 4242, 1795160000.25, 1795168815.0, 7);
insert into receipts values (1, '4e5f6a7b', '{"id": "R-0001", "connection": "local", "at": "2026-11-19T10:01:00+00:00", "removed": [{"kind": "endpoint", "name": "old-ep", "version": "", "what": "delete", "at": "2026-11-19T10:00:59+00:00", "checks": ["2026-11-19T10:00:58+00:00", "2026-11-19T10:00:59+00:00"], "bytes_freed": null}], "kept": [], "per_hour_before": 0.0, "per_hour_after": 0.0, "notes": [], "operation": "4e5f6a7b", "currency": "USD"}');
insert into timers values ('local', 'endpoint', 'bell-ep', '2030-01-01T00:00:00Z');
insert into seen values ('calm-heron-1');
insert into speeds values ('calm-heron-1', 'local', 'tiny-chat', 'this-machine', 512.5, '2026-11-18T10:00:00+00:00');
insert into transcripts values ('abcdef', 'local', 'bell-ep', '[{"role": "user", "content": "Hello"}]', '2026-11-19T09:00:00+00:00');

-- A home of before schema versions were counted (`PRAGMA user_version` is 0), as sqlite3's .dump writes it.
BEGIN TRANSACTION;
CREATE TABLE documents (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL, key TEXT NOT NULL, parent TEXT NOT NULL, body TEXT NOT NULL,
    created_at TEXT NOT NULL, modified_at TEXT NOT NULL,
    UNIQUE (kind, key)
);
INSERT INTO "documents" VALUES(1,'job','brave-fox','','{"name": "brave-fox", "status": "Completed"}','2026-11-01T08:00:00.000001+00:00','2026-11-01T09:00:00.000001+00:00');
INSERT INTO "documents" VALUES(2,'deployment','clerk/blue','clerk','{"endpoint": "clerk", "name": "blue"}','2026-11-02T08:00:00.000001+00:00','2026-11-02T08:00:00.000001+00:00');
INSERT INTO "documents" VALUES(3,'compute','GPU-One','','{"name": "GPU-One"}','2026-11-02T08:00:00.000001+00:00','2026-11-02T08:00:00.000001+00:00');
CREATE TABLE ingest_offsets (source TEXT PRIMARY KEY, offset INTEGER NOT NULL);
INSERT INTO "ingest_offsets" VALUES('brave-fox_2/metrics.jsonl',120);
CREATE TABLE metrics (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id TEXT NOT NULL, key TEXT NOT NULL, value REAL, step INTEGER NOT NULL, timestamp_ms INTEGER NOT NULL
);
INSERT INTO "metrics" VALUES(1,'brave-fox','loss',2.5,1,1000);
INSERT INTO "metrics" VALUES(2,'brave-fox','loss',NULL,2,2000);
CREATE TABLE run_fields (
    run_id TEXT NOT NULL, sort TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (run_id, sort, key)
);
INSERT INTO "run_fields" VALUES('brave-fox','param','lr','0.1');
CREATE INDEX documents_by_parent ON documents (kind, parent, sequence);
CREATE INDEX metrics_by_key ON metrics (run_id, key, id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('documents',3);
INSERT INTO "sqlite_sequence" VALUES('metrics',2);
COMMIT;

-- Buckets whose notifications may be older than the permission that they need now: it is granted once, at a start.

CREATE TABLE ungranted (
    bucket_id TEXT PRIMARY KEY REFERENCES buckets (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

INSERT INTO ungranted SELECT id FROM buckets WHERE notification <> '[]';

-- Buckets: their objects, uploads in parts, what is to be told of them, and how much each tenant has stored.

CREATE TABLE buckets (
    id            TEXT PRIMARY KEY,           -- never used again, unlike the name
    tenant_id     TEXT NOT NULL,
    name          TEXT NOT NULL,              -- a tenant's own: two tenants may have buckets of one name
    notification  TEXT NOT NULL DEFAULT '[]', -- JSON: whom to tell of what
    created_ms    INTEGER NOT NULL,
    UNIQUE (tenant_id, name)
) STRICT;

CREATE TABLE objects (
    id          INTEGER PRIMARY KEY,          -- the sequencer of its writing
    bucket_id   TEXT NOT NULL REFERENCES buckets (id),
    key         TEXT NOT NULL,
    size        INTEGER NOT NULL,
    etag        TEXT NOT NULL,
    modified_ms INTEGER NOT NULL,
    attributes  TEXT NOT NULL,                -- JSON: headers, metadata and checksums
    UNIQUE (bucket_id, key)
) STRICT;

-- An object's content is these files, one after the other.
CREATE TABLE segments (
    object_id INTEGER NOT NULL REFERENCES objects (id) ON DELETE CASCADE,
    place     INTEGER NOT NULL,
    blob      TEXT NOT NULL,
    size      INTEGER NOT NULL,
    PRIMARY KEY (object_id, place)
) STRICT, WITHOUT ROWID;

CREATE TABLE uploads (
    id         TEXT PRIMARY KEY,
    bucket_id  TEXT NOT NULL REFERENCES buckets (id),
    key        TEXT NOT NULL,
    attributes TEXT NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX uploads_of_bucket ON uploads (bucket_id, key, id);

CREATE TABLE parts (
    upload_id   TEXT NOT NULL REFERENCES uploads (id) ON DELETE CASCADE,
    number      INTEGER NOT NULL,
    blob        TEXT NOT NULL,
    size        INTEGER NOT NULL,
    etag        TEXT NOT NULL,
    modified_ms INTEGER NOT NULL,
    PRIMARY KEY (upload_id, number)
) STRICT, WITHOUT ROWID;

-- Grows with every change, so that changes have an order.
CREATE TABLE sequencer (value INTEGER NOT NULL) STRICT;
INSERT INTO sequencer VALUES (0);

CREATE TABLE stored (
    tenant_id TEXT PRIMARY KEY,
    bytes     INTEGER NOT NULL,
    objects   INTEGER NOT NULL                -- parts of uploads included
) STRICT;

-- Events that the queue of invocations has yet to accept; written with the change that they tell of.
CREATE TABLE outbox (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id  TEXT NOT NULL,
    function   TEXT NOT NULL,
    qualifier  TEXT NOT NULL,
    request_id TEXT NOT NULL,
    payload    BLOB NOT NULL
) STRICT;

CREATE INDEX outbox_of_tenant ON outbox (tenant_id, id);

-- Doors through which stores elsewhere tell of changes.
CREATE TABLE hooks (
    id           TEXT PRIMARY KEY,
    tenant_id    TEXT NOT NULL,
    name         TEXT NOT NULL,
    function     TEXT NOT NULL,
    qualifier    TEXT NOT NULL,
    token_sha256 TEXT NOT NULL,
    created_ms   INTEGER NOT NULL,
    UNIQUE (tenant_id, name)
) STRICT;

-- Tenants, their keys, and their functions.

CREATE TABLE settings (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE tenants (
    id         TEXT PRIMARY KEY,          -- twelve digits: it is the account in ARNs
    name       TEXT NOT NULL UNIQUE,
    created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE access_keys (
    access_key TEXT PRIMARY KEY,
    secret     TEXT NOT NULL,             -- in clear: HMAC signatures cannot be checked with a hash of it
    tenant_id  TEXT NOT NULL REFERENCES tenants (id),
    created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE functions (
    id           TEXT PRIMARY KEY,        -- never used again, unlike the name
    tenant_id    TEXT NOT NULL REFERENCES tenants (id),
    name         TEXT NOT NULL,
    next_version INTEGER NOT NULL DEFAULT 1,
    tags         TEXT NOT NULL DEFAULT '{}',
    created_ms   INTEGER NOT NULL,
    UNIQUE (tenant_id, name)
) STRICT;

CREATE TABLE versions (
    function_id    TEXT NOT NULL REFERENCES functions (id) ON DELETE CASCADE,
    version        TEXT NOT NULL,         -- $LATEST, which changes, or a number, which never does
    revision_id    TEXT NOT NULL,
    modified_ms    INTEGER NOT NULL,
    description    TEXT NOT NULL,
    runtime_name   TEXT NOT NULL,         -- as the client wrote it
    handler        TEXT NOT NULL,
    memory_mib     INTEGER NOT NULL,
    timeout_s      INTEGER NOT NULL,
    environment    TEXT NOT NULL,         -- JSON object
    role           TEXT NOT NULL,
    isolation      TEXT NOT NULL,
    network        INTEGER NOT NULL,
    package_sha256 TEXT NOT NULL,         -- hex, of the zip
    package_bytes  INTEGER NOT NULL,
    image_digest   TEXT NOT NULL,         -- hex, of the squashfs
    PRIMARY KEY (function_id, version)
) STRICT;

CREATE TRIGGER published_versions_are_immutable
BEFORE UPDATE ON versions WHEN OLD.version <> '$LATEST'
BEGIN
    SELECT RAISE(ABORT, 'a published version is immutable');
END;

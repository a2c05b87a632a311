-- HTTP: URLs of functions, hosts that tenants hold, and what is served there.

CREATE TABLE function_urls (
    id          TEXT PRIMARY KEY,        -- 32 characters that nobody can guess; never used again
    function_id TEXT NOT NULL REFERENCES functions (id) ON DELETE CASCADE,
    qualifier   TEXT NOT NULL,           -- empty: $LATEST
    auth        TEXT NOT NULL,           -- NONE or AWS_IAM
    mode        TEXT NOT NULL,           -- BUFFERED or RESPONSE_STREAM
    cors        TEXT NOT NULL,           -- JSON object; empty: none
    created_ms  INTEGER NOT NULL,
    modified_ms INTEGER NOT NULL,
    UNIQUE (function_id, qualifier)
) STRICT;

-- A host belongs to the tenant that asked for it first, with all names under it, until it is given up.
CREATE TABLE hosts (
    name       TEXT PRIMARY KEY,
    tenant_id  TEXT NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE routes (
    host       TEXT NOT NULL,            -- a name, or *. and a name
    path       TEXT NOT NULL,            -- a prefix of whole segments; empty: every path
    name       TEXT NOT NULL REFERENCES hosts (name) ON DELETE CASCADE,
    function   TEXT NOT NULL,
    qualifier  TEXT NOT NULL,
    auth       TEXT NOT NULL,
    mode       TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    PRIMARY KEY (host, path)
) STRICT;

CREATE INDEX routes_by_name ON routes (name);

-- Relations of Baidu CFC: what calls a function, in that service's words.

CREATE TABLE relations (
    id         TEXT PRIMARY KEY,
    tenant_id  TEXT NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    function   TEXT NOT NULL,
    qualifier  TEXT NOT NULL,           -- empty: $LATEST
    source     TEXT NOT NULL,           -- as the client wrote it
    data       TEXT NOT NULL,           -- JSON object
    endpoint   TEXT NOT NULL,           -- where it is reached by HTTP: 32 characters that nobody can guess; else empty
    secret     TEXT NOT NULL,           -- signs what is sent there; in clear, for HMACs cannot be checked otherwise
    created_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX relations_of_function ON relations (tenant_id, function);

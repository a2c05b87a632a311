-- Event source mappings: what is read from a queue or stream and handed to a function.

CREATE TABLE mappings (
    uuid        TEXT PRIMARY KEY,
    tenant_id   TEXT NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    function    TEXT NOT NULL,           -- its name; a mapping outlives its function, as on AWS
    qualifier   TEXT NOT NULL,
    source      TEXT NOT NULL,           -- the same for mappings that read the same
    spec        TEXT NOT NULL,           -- JSON object
    enabled     INTEGER NOT NULL,
    deleting    INTEGER NOT NULL,        -- what it left at the source is being removed
    created_ms  INTEGER NOT NULL,
    modified_ms INTEGER NOT NULL,
    UNIQUE (tenant_id, source, function, qualifier)
) STRICT;

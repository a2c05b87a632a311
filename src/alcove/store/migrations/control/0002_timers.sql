-- Timers: what they call, when, and up to which instant that is done.

CREATE TABLE timers (
    id          TEXT PRIMARY KEY,        -- never used again, unlike the name: request ids are derived from it
    tenant_id   TEXT NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    name        TEXT NOT NULL,
    function    TEXT NOT NULL,
    qualifier   TEXT NOT NULL,
    schedule    TEXT NOT NULL,
    zone        TEXT NOT NULL,
    input       TEXT NOT NULL,           -- JSON that is the event; empty: the event is made for each run
    shape       TEXT NOT NULL,           -- aws or cfc
    enabled     INTEGER NOT NULL,
    start_ms    INTEGER,                 -- nothing is due before
    end_ms      INTEGER,                 -- nothing is due after
    anchor_ms   INTEGER NOT NULL,        -- a rate counts from here
    handled_ms  INTEGER NOT NULL,        -- instants up to this one are accepted, given up, or not meant
    last_error  TEXT NOT NULL,           -- why the last run was not accepted
    created_ms  INTEGER NOT NULL,
    UNIQUE (tenant_id, name)
) STRICT;

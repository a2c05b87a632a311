-- Asynchronous invocations that were accepted and are not done.

CREATE TABLE events (
    sequence       INTEGER PRIMARY KEY AUTOINCREMENT,
    request_id     TEXT NOT NULL UNIQUE,
    tenant_id      TEXT NOT NULL,
    function       TEXT NOT NULL,
    qualifier      TEXT NOT NULL,
    payload        BLOB NOT NULL,
    source         TEXT NOT NULL,             -- who asked: invoke, or a kind of trigger
    trace_id       TEXT NOT NULL,
    client_context TEXT NOT NULL,
    accepted_ms    INTEGER NOT NULL,
    due_ms         INTEGER NOT NULL,
    failures       INTEGER NOT NULL DEFAULT 0,  -- answers that were errors of the function
    refusals       INTEGER NOT NULL DEFAULT 0   -- times that there was no room for it
) STRICT;

CREATE INDEX events_due ON events (due_ms);
CREATE INDEX events_of_function ON events (tenant_id, function, due_ms);

-- Ids that a caller gave and that are done: given again, they are not accepted again.
CREATE TABLE finished (
    request_id  TEXT PRIMARY KEY,
    finished_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX finished_by_age ON finished (finished_ms);

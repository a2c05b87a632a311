-- What becomes of asynchronous invocations, for each function and qualifier, and where a version sends what it failed at.

CREATE TABLE invoke_configs (
    function_id TEXT NOT NULL REFERENCES functions (id) ON DELETE CASCADE,
    qualifier   TEXT NOT NULL,           -- $LATEST, a version, an alias
    retries     INTEGER,                 -- NULL: the default
    max_age_s   INTEGER,                 -- NULL: the default
    on_success  TEXT NOT NULL,           -- an ARN; empty: nowhere
    on_failure  TEXT NOT NULL,
    modified_ms INTEGER NOT NULL,
    PRIMARY KEY (function_id, qualifier)
) STRICT;

ALTER TABLE versions ADD COLUMN dead_letter TEXT NOT NULL DEFAULT '';  -- ARN of a queue

-- What others may do with a function: statements of its policy.

CREATE TABLE permissions (
    function_id  TEXT NOT NULL REFERENCES functions (id) ON DELETE CASCADE,
    qualifier    TEXT NOT NULL,           -- a version or alias; empty: the function as it is called without one
    statement_id TEXT NOT NULL,
    place        INTEGER NOT NULL,        -- they are shown in the order in which they were made
    principal    TEXT NOT NULL,
    action       TEXT NOT NULL,
    conditions   TEXT NOT NULL,           -- JSON object
    PRIMARY KEY (function_id, qualifier, statement_id)
) STRICT;

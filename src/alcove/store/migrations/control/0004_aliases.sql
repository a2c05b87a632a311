-- Names for versions of a function, which may share their calls between two of them.

CREATE TABLE aliases (
    function_id    TEXT NOT NULL REFERENCES functions (id) ON DELETE CASCADE,
    name           TEXT NOT NULL,
    version        TEXT NOT NULL,
    second_version TEXT NOT NULL,         -- empty: all calls go to version
    second_share   REAL NOT NULL,         -- 0 to 1: of the calls, for second_version
    description    TEXT NOT NULL,
    revision_id    TEXT NOT NULL,
    created_ms     INTEGER NOT NULL,
    modified_ms    INTEGER NOT NULL,
    PRIMARY KEY (function_id, name)
) STRICT;

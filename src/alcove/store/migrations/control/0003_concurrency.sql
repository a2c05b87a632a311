-- Concurrency that is set aside: for a function, and within it for a version or alias.

CREATE TABLE reserved_concurrency (
    function_id TEXT PRIMARY KEY REFERENCES functions (id) ON DELETE CASCADE,
    calls       INTEGER NOT NULL
) STRICT;

CREATE TABLE provisioned_concurrency (
    function_id TEXT NOT NULL REFERENCES functions (id) ON DELETE CASCADE,
    qualifier   TEXT NOT NULL,           -- a version's number, or an alias
    calls       INTEGER NOT NULL,
    modified_ms INTEGER NOT NULL,
    PRIMARY KEY (function_id, qualifier)
) STRICT;

CREATE TRIGGER provisioned_concurrency_goes_with_its_version
AFTER DELETE ON versions
BEGIN
    DELETE FROM provisioned_concurrency WHERE function_id = OLD.function_id AND qualifier = OLD.version;
END;

-- What the automatic checks found in a package. What waits is not listed: it is every package of a version that has no
-- row by the scanners of today, so nothing is to be queued again after a crash.

CREATE TABLE scans (
    package_sha256 TEXT PRIMARY KEY,
    scanner        TEXT NOT NULL,        -- names the scanners and their settings: others check it anew
    attempts       INTEGER NOT NULL,     -- counted before each, so that one that kills its host ends
    report         TEXT NOT NULL,        -- JSON; empty while it is being checked
    changed_ms     INTEGER NOT NULL
) STRICT;

-- What was used, summed by month, tenant and function. Rows outlive the tenant and the function.

CREATE TABLE usage (
    month          TEXT NOT NULL,       -- 2026-11, UTC, by the end of the call
    tenant_id      TEXT NOT NULL,
    function       TEXT NOT NULL,
    calls          INTEGER NOT NULL,
    errors         INTEGER NOT NULL,    -- of the calls: those that the function answered with an error
    billed_ms      INTEGER NOT NULL,
    mib_ms         INTEGER NOT NULL,    -- billed milliseconds x memory: whole numbers, so that sums are exact
    streamed_bytes INTEGER NOT NULL,
    PRIMARY KEY (month, tenant_id, function)
) STRICT, WITHOUT ROWID;

-- One row: segments of the journal up to this one are in the sums.
CREATE TABLE folded (
    segment INTEGER NOT NULL
) STRICT;

INSERT INTO folded VALUES (0);

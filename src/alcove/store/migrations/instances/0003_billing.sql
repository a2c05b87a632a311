-- Time that pods are billed for: one row for each sandbox in which a container has started. Rows outlive the pod.
CREATE TABLE pod_intervals (
    sandbox TEXT PRIMARY KEY,           -- the runtime's id of it
    uid TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    name TEXT NOT NULL,
    milli_cpus INTEGER NOT NULL,
    memory_mib INTEGER NOT NULL,
    disk_mib INTEGER NOT NULL,
    begin_ms INTEGER NOT NULL,          -- the first container's start
    ended_ms INTEGER NOT NULL,          -- the latest end of a container that the runtime told
    until_ms INTEGER NOT NULL,          -- up to here it is in the sums
    received_bytes INTEGER NOT NULL,    -- of its interface, as far as they are in the sums
    sent_bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX pod_intervals_age ON pod_intervals (tenant_id, until_ms);

-- The sums of those, changed in the transaction that moves until_ms on. Whole numbers, so that they are exact.
CREATE TABLE pod_usage (
    month TEXT NOT NULL,                -- 2026-11, UTC
    tenant_id TEXT NOT NULL,
    name TEXT NOT NULL,                 -- of the pod; empty: all beyond as many names as are kept
    run_ms INTEGER NOT NULL,
    milli_cpu_ms INTEGER NOT NULL,
    mib_ms INTEGER NOT NULL,
    disk_mib_ms INTEGER NOT NULL,
    received_bytes INTEGER NOT NULL,
    sent_bytes INTEGER NOT NULL,
    PRIMARY KEY (month, tenant_id, name)
) STRICT, WITHOUT ROWID;

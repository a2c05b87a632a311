-- Pods as they are wanted, and what was last seen of them. A row is written before anything of the pod is made, and goes
-- after all of it is gone.
CREATE TABLE pods (
    uid TEXT PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    name TEXT NOT NULL,
    manifest TEXT NOT NULL,             -- JSON, as it was accepted
    isolation TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    deleted_ms INTEGER NOT NULL,        -- 0: it is wanted
    grace_s INTEGER NOT NULL,           -- what its containers get to end in
    memory TEXT NOT NULL,               -- JSON: numbers of attempts, pauses between them
    status TEXT NOT NULL,               -- JSON, as Kubernetes says it
    UNIQUE (tenant_id, name)
) STRICT;

CREATE TABLE pod_events (
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL REFERENCES pods (uid) ON DELETE CASCADE,
    type TEXT NOT NULL,                 -- Normal or Warning
    reason TEXT NOT NULL,
    message TEXT NOT NULL,
    count INTEGER NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX pod_events_uid ON pod_events (uid, id);

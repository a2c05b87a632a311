-- Flows of tenants, what of them runs or ran, and where each branch of what runs stands.
CREATE TABLE flows (
    tenant_id TEXT NOT NULL,
    name TEXT NOT NULL,
    definition TEXT NOT NULL,
    description TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    modified_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, name)
) WITHOUT ROWID;

CREATE TABLE executions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id TEXT NOT NULL,
    flow TEXT NOT NULL,
    name TEXT NOT NULL,
    definition TEXT NOT NULL,
    input TEXT NOT NULL,
    status TEXT NOT NULL,
    output TEXT NOT NULL,
    started_ms INTEGER NOT NULL,
    stopped_ms INTEGER NOT NULL,
    events INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    UNIQUE (tenant_id, flow, name)
);
CREATE INDEX executions_by_age ON executions (tenant_id, flow, id);
CREATE INDEX executions_running ON executions (id) WHERE status = 'Running';
CREATE INDEX executions_ended ON executions (stopped_ms) WHERE status != 'Running';

CREATE TABLE checkpoints (
    execution_id INTEGER NOT NULL REFERENCES executions (id) ON DELETE CASCADE,
    branch TEXT NOT NULL,
    state TEXT NOT NULL,
    visit INTEGER NOT NULL,
    entered INTEGER NOT NULL,
    data TEXT NOT NULL,
    attempts TEXT NOT NULL,
    due_ms INTEGER NOT NULL,
    PRIMARY KEY (execution_id, branch)
) WITHOUT ROWID;

CREATE TABLE execution_events (
    execution_id INTEGER NOT NULL REFERENCES executions (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    state TEXT NOT NULL,
    type TEXT NOT NULL,
    detail TEXT NOT NULL,
    time_ms INTEGER NOT NULL,
    PRIMARY KEY (execution_id, number)
) WITHOUT ROWID;

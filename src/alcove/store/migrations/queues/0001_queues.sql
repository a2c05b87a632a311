-- Queues of tenants and the messages in them.

CREATE TABLE queues (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id   TEXT NOT NULL,
    name        TEXT NOT NULL,
    attributes  TEXT NOT NULL,            -- JSON object: those that were set, as SQS names them
    created_ms  INTEGER NOT NULL,
    modified_ms INTEGER NOT NULL,
    UNIQUE (tenant_id, name)
) STRICT;

CREATE TABLE messages (
    sequence       INTEGER PRIMARY KEY AUTOINCREMENT,
    queue_id       INTEGER NOT NULL REFERENCES queues (id) ON DELETE CASCADE,
    message_id     TEXT NOT NULL,
    body           TEXT NOT NULL,
    attributes     TEXT NOT NULL,          -- JSON object, as SQS names its parts; binary values in base64
    size           INTEGER NOT NULL,       -- bytes, of body and attributes
    sent_ms        INTEGER NOT NULL,
    visible_ms     INTEGER NOT NULL,       -- nobody receives it before
    received       INTEGER NOT NULL DEFAULT 0,
    first_ms       INTEGER NOT NULL DEFAULT 0,
    receipt        TEXT NOT NULL DEFAULT '',  -- secret of the last receipt handle; empty: never received
    dead_letter_of TEXT NOT NULL DEFAULT ''   -- ARN of the queue that gave it up
) STRICT;

CREATE INDEX messages_visible ON messages (queue_id, visible_ms, sequence);
CREATE INDEX messages_by_age ON messages (queue_id, sent_ms);

-- Message ids that their sender gave: given again, they are not accepted again.
CREATE TABLE given (
    message_id  TEXT PRIMARY KEY,
    accepted_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX given_by_age ON given (accepted_ms);

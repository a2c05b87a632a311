-- FIFO queues: messages in groups, and what was accepted lately.

ALTER TABLE messages ADD COLUMN group_id TEXT NOT NULL DEFAULT '';          -- '' in a standard queue
ALTER TABLE messages ADD COLUMN deduplication_id TEXT NOT NULL DEFAULT '';

CREATE INDEX messages_of_group ON messages (queue_id, group_id, sequence) WHERE group_id <> '';
-- Those that were received: few.
CREATE INDEX messages_taken ON messages (queue_id, group_id, visible_ms) WHERE group_id <> '' AND receipt <> '';

-- Groups with messages: when the next one of each can be received. None of it can while one is in flight.
CREATE TABLE message_groups (
    queue_id INTEGER NOT NULL REFERENCES queues (id) ON DELETE CASCADE,
    group_id TEXT NOT NULL,
    ready_ms INTEGER NOT NULL,
    first    INTEGER NOT NULL,             -- sequence of its oldest message
    PRIMARY KEY (queue_id, group_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX message_groups_ready ON message_groups (queue_id, ready_ms, first);

CREATE TABLE deduplicated (
    queue_id    INTEGER NOT NULL REFERENCES queues (id) ON DELETE CASCADE,
    name        TEXT NOT NULL,             -- the deduplication id, with its group where that counts
    message_id  TEXT NOT NULL,
    sequence    INTEGER NOT NULL,
    accepted_ms INTEGER NOT NULL,
    PRIMARY KEY (queue_id, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX deduplicated_by_age ON deduplicated (accepted_ms);

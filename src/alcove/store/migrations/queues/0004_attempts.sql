-- Receives of FIFO queues that may be tried again: each message says under which id it was received, when, and with how
-- many others. What changes a message takes that away.

ALTER TABLE messages ADD COLUMN attempt TEXT NOT NULL DEFAULT '';
ALTER TABLE messages ADD COLUMN attempt_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN attempt_size INTEGER NOT NULL DEFAULT 0;

CREATE INDEX messages_of_attempt ON messages (queue_id, attempt) WHERE attempt <> '';

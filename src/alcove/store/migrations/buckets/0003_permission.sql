-- On whose behalf a function is called: its policy must allow that. Empty: it was asked before.

ALTER TABLE outbox ADD COLUMN source_arn TEXT NOT NULL DEFAULT '';

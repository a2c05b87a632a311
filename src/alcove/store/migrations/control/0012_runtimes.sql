-- What a version's sandbox gives it beside memory: the quota of /tmp, and how its own log lines are written.

ALTER TABLE versions ADD COLUMN scratch_mib INTEGER NOT NULL DEFAULT 512;
ALTER TABLE versions ADD COLUMN log_format TEXT NOT NULL DEFAULT 'Text';        -- Text or JSON
ALTER TABLE versions ADD COLUMN log_level TEXT NOT NULL DEFAULT '';             -- of the function's lines, with JSON
ALTER TABLE versions ADD COLUMN system_log_level TEXT NOT NULL DEFAULT '';      -- of the platform's lines, with JSON

-- How many destinations an event has come through: chains of functions that call each other end.

ALTER TABLE events ADD COLUMN depth INTEGER NOT NULL DEFAULT 0;

-- Items of outside sources whose function failed, until they are done: how often.

CREATE TABLE attempts (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    mapping    TEXT NOT NULL,            -- its uuid
    item       TEXT NOT NULL,            -- what tells it apart at its source; equal messages have the same
    failures   INTEGER NOT NULL,
    counted_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX attempts_of_mapping ON attempts (mapping, counted_ms);

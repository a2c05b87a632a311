-- Checksums of uploads in parts and of the parts of objects, and when an upload began.

-- JSON: algorithm and kind, as its client chose them; empty where it did not.
ALTER TABLE uploads ADD COLUMN plan TEXT NOT NULL DEFAULT '';
-- By the upload's algorithm, base64; empty where none was computed.
ALTER TABLE parts ADD COLUMN checksum TEXT NOT NULL DEFAULT '';
ALTER TABLE segments ADD COLUMN checksum TEXT NOT NULL DEFAULT '';

CREATE INDEX uploads_by_age ON uploads (created_ms);

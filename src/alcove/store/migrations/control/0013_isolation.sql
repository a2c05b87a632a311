-- Why a version runs in its tier. Its code and configuration never change once it is published; where it runs may,
-- with the operator's rules.

ALTER TABLE versions ADD COLUMN asked TEXT NOT NULL DEFAULT '';   -- the tier that the operator chose for it
ALTER TABLE versions ADD COLUMN cause TEXT NOT NULL DEFAULT '';   -- the case of the rules that decided
ALTER TABLE versions ADD COLUMN reason TEXT NOT NULL DEFAULT '';  -- in words
ALTER TABLE versions ADD COLUMN kernel TEXT NOT NULL DEFAULT '';  -- digest of a kernel of its own

DROP TRIGGER published_versions_are_immutable;

-- Before there were rules another tier was chosen in words: by the operator, where no tag says so.
UPDATE versions SET asked = isolation WHERE isolation <> 'vm' AND NOT EXISTS (
    SELECT 1 FROM functions WHERE id = function_id AND json_extract(tags, '$."alcove:isolation"') IS NOT NULL
);

CREATE TRIGGER published_versions_are_immutable
BEFORE UPDATE OF function_id, version, revision_id, modified_ms, description, runtime_name, handler, memory_mib,
    timeout_s, environment, role, network, package_sha256, package_bytes, image_digest, dead_letter, layers, scratch_mib,
    log_format, log_level, system_log_level, asked, kernel
ON versions WHEN OLD.version <> '$LATEST'
BEGIN
    SELECT RAISE(ABORT, 'a published version is immutable');
END;

CREATE TABLE isolation_floors (
    tenant_id TEXT PRIMARY KEY REFERENCES tenants (id) ON DELETE CASCADE,
    floor     TEXT NOT NULL             -- nothing of the tenant runs in a weaker tier
) STRICT;

-- Layers: packages that several functions share. A version notes what it needs of its layers, so that they can be deleted.

CREATE TABLE layers (
    id           TEXT PRIMARY KEY,
    tenant_id    TEXT NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    name         TEXT NOT NULL,
    next_version INTEGER NOT NULL DEFAULT 1,  -- kept when all versions are gone: no number is used twice
    UNIQUE (tenant_id, name)
) STRICT;

CREATE TABLE layer_versions (
    layer_id       TEXT NOT NULL REFERENCES layers (id) ON DELETE CASCADE,
    version        INTEGER NOT NULL,
    created_ms     INTEGER NOT NULL,
    description    TEXT NOT NULL,
    license        TEXT NOT NULL,
    runtimes       TEXT NOT NULL,         -- JSON array, as the client wrote it
    architectures  TEXT NOT NULL,         -- the same
    package_sha256 TEXT NOT NULL,
    package_bytes  INTEGER NOT NULL,
    PRIMARY KEY (layer_id, version)
) STRICT;

CREATE TABLE layer_permissions (
    layer_id     TEXT NOT NULL,
    version      INTEGER NOT NULL,
    statement_id TEXT NOT NULL,
    place        INTEGER NOT NULL,
    principal    TEXT NOT NULL,
    action       TEXT NOT NULL,
    PRIMARY KEY (layer_id, version, statement_id),
    FOREIGN KEY (layer_id, version) REFERENCES layer_versions (layer_id, version) ON DELETE CASCADE
) STRICT;

ALTER TABLE versions ADD COLUMN layers TEXT NOT NULL DEFAULT '[]'; -- JSON array of [arn, package_sha256, package_bytes]

CREATE TRIGGER usage_by_a_new_layer_version AFTER INSERT ON layer_versions
BEGIN
    UPDATE usage SET code_bytes = code_bytes + NEW.package_bytes
    WHERE tenant_id = (SELECT tenant_id FROM layers WHERE id = NEW.layer_id);
END;

CREATE TRIGGER usage_by_a_layer_version_that_goes AFTER DELETE ON layer_versions
BEGIN
    UPDATE usage SET code_bytes = code_bytes - OLD.package_bytes
    WHERE tenant_id = (SELECT tenant_id FROM layers WHERE id = OLD.layer_id);
END;

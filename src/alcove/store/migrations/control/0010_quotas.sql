-- What each tenant may have, what it has, and which tenants are being removed.

ALTER TABLE tenants ADD COLUMN removing INTEGER NOT NULL DEFAULT 0;

-- NULL: the operator's default.
CREATE TABLE quotas (
    tenant_id   TEXT PRIMARY KEY REFERENCES tenants (id) ON DELETE CASCADE,
    functions   INTEGER,
    code_bytes  INTEGER,
    concurrency INTEGER,
    timers      INTEGER,
    events      INTEGER
) STRICT;

-- Counted as it changes: a sum over a tenant's versions would cost by their number with each change.
CREATE TABLE usage (
    tenant_id  TEXT PRIMARY KEY REFERENCES tenants (id) ON DELETE CASCADE,
    functions  INTEGER NOT NULL DEFAULT 0,
    code_bytes INTEGER NOT NULL DEFAULT 0
) STRICT;

INSERT INTO usage
SELECT t.id, COUNT(DISTINCT f.id), COALESCE(SUM(v.package_bytes), 0)
FROM tenants t LEFT JOIN functions f ON f.tenant_id = t.id LEFT JOIN versions v ON v.function_id = f.id
GROUP BY t.id;

CREATE TRIGGER usage_of_a_tenant AFTER INSERT ON tenants
BEGIN
    INSERT INTO usage (tenant_id) VALUES (NEW.id);
END;

CREATE TRIGGER usage_by_a_new_function AFTER INSERT ON functions
BEGIN
    UPDATE usage SET functions = functions + 1 WHERE tenant_id = NEW.tenant_id;
END;

-- Its versions go after it, by cascade, when nothing tells whose they were.
CREATE TRIGGER usage_by_a_function_that_goes BEFORE DELETE ON functions
BEGIN
    UPDATE usage
    SET functions = functions - 1,
        code_bytes = code_bytes - (SELECT COALESCE(SUM(package_bytes), 0) FROM versions WHERE function_id = OLD.id)
    WHERE tenant_id = OLD.tenant_id;
END;

CREATE TRIGGER usage_by_a_new_version AFTER INSERT ON versions
BEGIN
    UPDATE usage SET code_bytes = code_bytes + NEW.package_bytes
    WHERE tenant_id = (SELECT tenant_id FROM functions WHERE id = NEW.function_id);
END;

CREATE TRIGGER usage_by_a_version_that_goes AFTER DELETE ON versions
BEGIN
    UPDATE usage SET code_bytes = code_bytes - OLD.package_bytes
    WHERE tenant_id = (SELECT tenant_id FROM functions WHERE id = OLD.function_id);
END;

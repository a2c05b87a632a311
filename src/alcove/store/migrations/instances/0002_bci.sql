-- What the BCI face needs: ids that clients may see, lists by age, groups, idempotent requests, registries' credentials,
-- caches of images.
ALTER TABLE pods ADD COLUMN instance_id TEXT GENERATED ALWAYS AS ('p-' || substr(replace(uid, '-', ''), 1, 16)) VIRTUAL;
ALTER TABLE pods ADD COLUMN group_id TEXT NOT NULL DEFAULT '';   -- of copies of one pod: the first one's uid
CREATE UNIQUE INDEX pods_instance ON pods (tenant_id, instance_id);
CREATE INDEX pods_listed ON pods (tenant_id, created_ms, instance_id, name);
CREATE INDEX pods_group ON pods (tenant_id, group_id) WHERE group_id != '';

CREATE TABLE client_tokens (
    tenant_id TEXT NOT NULL,
    token TEXT NOT NULL,
    digest TEXT NOT NULL,               -- of the parameters that came with it
    answer TEXT NOT NULL,               -- JSON: ids of what was made
    created_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, token)
) STRICT, WITHOUT ROWID;
CREATE INDEX client_tokens_age ON client_tokens (tenant_id, created_ms);

CREATE TABLE pull_secrets (
    uid TEXT PRIMARY KEY REFERENCES pods (uid) ON DELETE CASCADE,
    secrets TEXT NOT NULL               -- JSON: server, user, password
) STRICT;

CREATE TABLE image_caches (
    cache_id TEXT PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    name TEXT NOT NULL,
    images TEXT NOT NULL,               -- JSON: names
    secrets TEXT NOT NULL,              -- as above; gone once all is fetched
    state TEXT NOT NULL,                -- creating, ready, failed
    done INTEGER NOT NULL,              -- images that are here
    message TEXT NOT NULL,              -- why it failed
    created_ms INTEGER NOT NULL,
    matched_ms INTEGER NOT NULL         -- when a pod last used one of its images; 0: never
) STRICT;
CREATE INDEX image_caches_tenant ON image_caches (tenant_id, created_ms, cache_id);

-- Repositories that a tenant has asked for with credentials. Who is not granted one must ask its registry; rows are
-- never removed, for that would open the images that are here to all.
CREATE TABLE private_repositories (
    repository TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    granted_ms INTEGER NOT NULL,        -- when the registry last let the tenant have it; 0: never
    PRIMARY KEY (repository, tenant_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX private_repositories_tenant ON private_repositories (tenant_id);

-- Images that were not here before a cache asked for them: they go with the last one that does.
CREATE TABLE cached_images (image TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;

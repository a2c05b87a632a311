-- Container instances that a tenant may have. NULL: the operator's default.

ALTER TABLE quotas ADD COLUMN instances INTEGER;

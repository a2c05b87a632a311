-- Flows that a tenant may have, and executions of it that may run at once. NULL: the operator's default.

ALTER TABLE quotas ADD COLUMN flows INTEGER;
ALTER TABLE quotas ADD COLUMN executions INTEGER;

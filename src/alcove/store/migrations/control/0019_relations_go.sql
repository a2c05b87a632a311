-- A relation is found by its function alone, so it goes with it, as URLs, aliases and policies do, and its timer with it.

DELETE FROM relations
WHERE NOT EXISTS (SELECT 1 FROM functions f WHERE f.tenant_id = relations.tenant_id AND f.name = relations.function);

-- Timers of this shape are made for relations alone.
DELETE FROM timers
WHERE shape = 'cfc' AND NOT EXISTS (SELECT 1 FROM relations r WHERE timers.name = 'relation.' || r.id);

CREATE TRIGGER relations_of_a_function_that_goes AFTER DELETE ON functions
BEGIN
    DELETE FROM relations WHERE tenant_id = OLD.tenant_id AND function = OLD.name;
END;

CREATE TRIGGER timer_of_a_relation_that_goes AFTER DELETE ON relations
BEGIN
    DELETE FROM timers WHERE tenant_id = OLD.tenant_id AND name = 'relation.' || OLD.id AND shape = 'cfc';
END;

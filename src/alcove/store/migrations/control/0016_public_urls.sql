-- Who does not sign needs a statement of the function's policy: URLs from before, which let everyone in, get one.

INSERT OR IGNORE INTO permissions (function_id, qualifier, statement_id, place, principal, action, conditions)
SELECT u.function_id, u.qualifier, 'FunctionURLAllowPublicAccess',
       (SELECT 1 + COALESCE(MAX(p.place), 0) FROM permissions p
        WHERE p.function_id = u.function_id AND p.qualifier = u.qualifier),
       '*', 'lambda:InvokeFunctionUrl', '{"url_auth_type": "NONE"}'
FROM function_urls u WHERE u.auth = 'NONE';

-- CORS rules of custom routes: a JSON object; empty: none.
ALTER TABLE routes ADD COLUMN cors TEXT NOT NULL DEFAULT '';

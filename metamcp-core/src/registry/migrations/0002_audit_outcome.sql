-- What an audit entry is about, and how far the work came, which stood behind the action.
ALTER TABLE mcp_audit ADD COLUMN outcome TEXT NOT NULL DEFAULT 'done';
ALTER TABLE mcp_audit ADD COLUMN subject TEXT;
UPDATE mcp_audit SET outcome = 'begun', action = substr(action, 1, length(action) - 6) WHERE action LIKE '% begun';
UPDATE mcp_audit SET outcome = 'failed', action = substr(action, 1, length(action) - 7) WHERE action LIKE '% failed';
UPDATE mcp_audit SET outcome = 'refused', action = substr(action, 1, length(action) - 8) WHERE action LIKE '% refused';

-- The registry. Plain SQLite that D1 accepts too: no triggers, no BEGIN, one statement up to each `;` at a line's end.
-- `details` holds, as JSON, what the other columns have no room for. Times are ISO 8601 in UTC.

CREATE TABLE mcp_servers (
  id TEXT PRIMARY KEY NOT NULL,
  name TEXT NOT NULL UNIQUE,
  description TEXT NOT NULL,
  version TEXT NOT NULL,
  created_at DATETIME NOT NULL,
  updated_at DATETIME NOT NULL,
  status TEXT NOT NULL,
  deployment_url TEXT,
  container_id TEXT,
  details TEXT NOT NULL
);
CREATE INDEX idx_servers_status ON mcp_servers (status, name);
CREATE INDEX idx_servers_updated_at ON mcp_servers (updated_at);

CREATE TABLE mcp_tools (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  server_id TEXT NOT NULL REFERENCES mcp_servers (id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  description TEXT NOT NULL,
  parameters TEXT NOT NULL,
  implementation TEXT NOT NULL,
  created_at DATETIME NOT NULL,
  updated_at DATETIME NOT NULL,
  details TEXT NOT NULL
);
CREATE UNIQUE INDEX idx_tools_server_id ON mcp_tools (server_id, name);

CREATE TABLE mcp_resources (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  server_id TEXT NOT NULL REFERENCES mcp_servers (id) ON DELETE CASCADE,
  uri TEXT NOT NULL,
  name TEXT NOT NULL,
  description TEXT NOT NULL,
  mime_type TEXT,
  implementation TEXT NOT NULL,
  created_at DATETIME NOT NULL,
  updated_at DATETIME NOT NULL,
  details TEXT NOT NULL
);
CREATE UNIQUE INDEX idx_resources_server_id ON mcp_resources (server_id, name);

CREATE TABLE mcp_prompts (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  server_id TEXT NOT NULL REFERENCES mcp_servers (id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  description TEXT NOT NULL,
  template TEXT,
  arguments TEXT NOT NULL,
  created_at DATETIME NOT NULL,
  updated_at DATETIME NOT NULL,
  details TEXT NOT NULL
);
CREATE UNIQUE INDEX idx_prompts_server_id ON mcp_prompts (server_id, name);

CREATE TABLE mcp_client_connections (
  id TEXT PRIMARY KEY NOT NULL,
  name TEXT NOT NULL UNIQUE,
  server_id TEXT NOT NULL REFERENCES mcp_servers (id) ON DELETE CASCADE,
  config TEXT NOT NULL,
  capabilities TEXT NOT NULL,
  tools_count INTEGER NOT NULL,
  resources_count INTEGER NOT NULL,
  prompts_count INTEGER NOT NULL,
  last_connected DATETIME,
  created_at DATETIME NOT NULL,
  updated_at DATETIME NOT NULL,
  details TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX idx_connections_server_id ON mcp_client_connections (server_id, name);

CREATE TABLE mcp_versions (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  server_id TEXT NOT NULL REFERENCES mcp_servers (id) ON DELETE CASCADE,
  version TEXT NOT NULL,
  revision INTEGER NOT NULL,
  artifact TEXT NOT NULL,
  created_at DATETIME NOT NULL,
  updated_at DATETIME NOT NULL
);
CREATE UNIQUE INDEX idx_versions_server_id ON mcp_versions (server_id, version);

-- A version's definition as JSON text, cut into parts: D1 takes no value over 2 MB.
CREATE TABLE mcp_version_parts (
  version_id INTEGER NOT NULL REFERENCES mcp_versions (id) ON DELETE CASCADE,
  position INTEGER NOT NULL,
  content TEXT NOT NULL,
  PRIMARY KEY (version_id, position)
);

CREATE TABLE mcp_deployments (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  server_id TEXT NOT NULL REFERENCES mcp_servers (id) ON DELETE CASCADE,
  kind TEXT NOT NULL,
  step TEXT NOT NULL,
  revision INTEGER NOT NULL,
  version TEXT,
  previous TEXT,
  error TEXT,
  write_id TEXT NOT NULL,
  created_at DATETIME NOT NULL,
  updated_at DATETIME NOT NULL
);
CREATE INDEX idx_deployments_server_id ON mcp_deployments (server_id, created_at, sequence);
CREATE INDEX idx_deployments_pending ON mcp_deployments (created_at, sequence) WHERE step NOT IN ('live', 'failed');

-- A released lease keeps its row, so that its fencing number only grows.
CREATE TABLE mcp_leases (
  name TEXT PRIMARY KEY NOT NULL,
  holder TEXT NOT NULL,
  fence INTEGER NOT NULL,
  token TEXT NOT NULL,
  expires_at DATETIME NOT NULL,
  created_at DATETIME NOT NULL,
  updated_at DATETIME NOT NULL
);

CREATE TABLE mcp_api_keys (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  hash TEXT NOT NULL UNIQUE,
  scopes TEXT NOT NULL,
  servers TEXT NOT NULL,
  expires_at DATETIME,
  revoked_at DATETIME,
  created_at DATETIME NOT NULL,
  updated_at DATETIME NOT NULL
);

CREATE TABLE mcp_audit (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  at DATETIME NOT NULL,
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  server TEXT,
  before TEXT,
  after TEXT,
  created_at DATETIME NOT NULL,
  updated_at DATETIME NOT NULL
);

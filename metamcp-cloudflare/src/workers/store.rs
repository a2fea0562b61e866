//! Versions and their modules, kept in D1 beside the registry: whatever is listed can be uploaded again.
//!
//! Modules are stored once for all versions that have them, so a new version of a server adds its bodies and its
//! definition, not the runtime.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use metamcp_core::registry::sql::{SqlExecutor, SqlValue, Statement};
use metamcp_core::{
    Artifact, Digest, Error, ErrorKind, Module, ModuleKind, Result, ServerId, VersionId, WorkerSettings,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::d1::D1Executor;

/// A row of D1 holds at most 2 MB.
const CHUNK: usize = 1_000_000;
/// Parameters of one statement.
const PARAMETERS: usize = 100;

const TABLES: [&str; 2] = [
    "CREATE TABLE IF NOT EXISTS worker_modules (
        digest TEXT NOT NULL, part INTEGER NOT NULL, content TEXT NOT NULL,
        used_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (digest, part))",
    "CREATE TABLE IF NOT EXISTS worker_versions (
        server_id TEXT NOT NULL, version TEXT NOT NULL, artifact TEXT NOT NULL, manifest TEXT NOT NULL,
        created_at TEXT NOT NULL, PRIMARY KEY (server_id, version))",
];

/// Modules that no version has; one that was stored a day ago or later may belong to a version that is being written.
const REMOVE_UNUSED: &str = "DELETE FROM worker_modules WHERE used_at < datetime('now', '-1 day') AND digest NOT IN (
    SELECT digest FROM worker_modules WHERE part = 0 AND used_at >= datetime('now', '-1 day') UNION ALL
    SELECT json_extract(module.value, '$.digest') FROM worker_versions, json_each(manifest, '$.modules') AS module)";

/// Where versions are kept.
#[derive(Debug, Clone)]
pub(super) struct Store {
    database: D1Executor,
}

/// A version without its modules.
#[derive(Debug)]
pub(super) struct StoredVersion {
    pub(super) version: VersionId,
    pub(super) artifact: Digest,
    pub(super) created_at: OffsetDateTime,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    main_module: String,
    modules: BTreeMap<String, ModuleEntry>,
    settings: WorkerSettings,
}

#[derive(Serialize, Deserialize)]
struct ModuleEntry {
    kind: ModuleKind,
    digest: Digest,
}

impl Store {
    pub(super) async fn open(database: D1Executor) -> Result<Self> {
        database.execute(TABLES.map(|sql| Statement::new(sql, [])).into()).await?;
        Ok(Self { database })
    }

    /// Keeps a version: first its modules, so that a version that is listed is whole.
    pub(super) async fn put(&self, server: ServerId, version: &VersionId, artifact: &Artifact) -> Result<()> {
        let mut missing: BTreeMap<String, &Bytes> =
            artifact.modules.values().map(|module| (digest(&module.content).to_string(), &module.content)).collect();
        for stored in self.stored(missing.keys().cloned().collect()).await? {
            missing.remove(&stored);
        }
        for (digest, content) in missing {
            self.put_module(&digest, content).await?;
        }
        let manifest = serde_json::to_string(&Manifest::of(artifact)).unwrap_or_default();
        let created_at = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        let insert = Statement::new(
            "INSERT INTO worker_versions (server_id, version, artifact, manifest, created_at) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT DO NOTHING",
            [server.to_string(), version.to_string(), artifact.digest().to_string(), manifest, created_at],
        );
        self.database.execute(vec![insert]).await.map(drop)
    }

    /// Which of these modules are there, whole: parts are written from the last to the first. They are kept from now on.
    async fn stored(&self, digests: Vec<String>) -> Result<Vec<String>> {
        let updates = digests.chunks(PARAMETERS).map(|digests| Statement {
            sql: format!(
                "UPDATE worker_modules SET used_at = CURRENT_TIMESTAMP WHERE part = 0 AND digest IN ({}) RETURNING digest",
                vec!["?"; digests.len()].join(", ")
            )
            .into(),
            params: digests.to_vec(),
        });
        let rows = self.database.execute(updates.collect()).await?;
        rows.iter().flatten().map(|row| Ok(text(row, 0)?.to_owned())).collect()
    }

    async fn put_module(&self, digest: &str, content: &Bytes) -> Result<()> {
        let content = STANDARD.encode(content);
        // An empty module has one part too.
        let parts = content.len().div_ceil(CHUNK).max(1);
        for part in (0..parts).rev() {
            let chunk = &content[part * CHUNK..content.len().min((part + 1) * CHUNK)];
            let insert = Statement::new(
                "INSERT INTO worker_modules (digest, part, content) VALUES (?, CAST(? AS INTEGER), ?)
                 ON CONFLICT DO UPDATE SET used_at = CURRENT_TIMESTAMP",
                [digest.to_owned(), part.to_string(), chunk.to_owned()],
            );
            self.database.execute(vec![insert]).await?;
        }
        Ok(())
    }

    /// A server's versions, newest first.
    pub(super) async fn list(&self, server: ServerId) -> Result<Vec<StoredVersion>> {
        let select = Statement::new(
            "SELECT version, artifact, created_at FROM worker_versions WHERE server_id = ? ORDER BY rowid DESC",
            [server.to_string()],
        );
        let rows = self.database.execute(vec![select]).await?;
        rows.iter().flatten().map(|row| stored_version(row)).collect()
    }

    /// A version's artifact, checked against its digest; `None` if it is not listed.
    pub(super) async fn artifact(&self, server: ServerId, version: &VersionId) -> Result<Option<Artifact>> {
        let key = [server.to_string(), version.to_string()];
        let select =
            Statement::new("SELECT artifact, manifest FROM worker_versions WHERE server_id = ? AND version = ?", key);
        let rows = self.database.execute(vec![select]).await?;
        let Some(row) = rows.iter().flatten().next() else { return Ok(None) };
        let manifest: Manifest =
            serde_json::from_str(text(row, 1)?).map_err(|error| damaged(version).with_source(error))?;
        let mut modules = BTreeMap::new();
        for (name, entry) in manifest.modules {
            modules.insert(name, Module { kind: entry.kind, content: self.module(entry.digest, version).await? });
        }
        let artifact = Artifact { modules, main_module: manifest.main_module, settings: manifest.settings };
        if artifact.digest().to_string() == text(row, 0)? { Ok(Some(artifact)) } else { Err(damaged(version)) }
    }

    async fn module(&self, digest: Digest, version: &VersionId) -> Result<Bytes> {
        let select =
            Statement::new("SELECT content FROM worker_modules WHERE digest = ? ORDER BY part", [digest.to_string()]);
        let rows = self.database.execute(vec![select]).await?;
        let parts: Vec<&str> = rows.iter().flatten().map(|row| text(row, 0)).collect::<Result<_>>()?;
        STANDARD.decode(parts.concat()).map(Bytes::from).map_err(|error| damaged(version).with_source(error))
    }

    /// Forgets a version; an absent one succeeds.
    pub(super) async fn remove(&self, server: ServerId, version: &VersionId) -> Result<()> {
        let key = [server.to_string(), version.to_string()];
        let delete = Statement::new("DELETE FROM worker_versions WHERE server_id = ? AND version = ?", key);
        self.database.execute(vec![delete, Statement::new(REMOVE_UNUSED, [])]).await.map(drop)
    }

    /// Forgets all versions of a server.
    pub(super) async fn remove_all(&self, server: ServerId) -> Result<()> {
        let delete = Statement::new("DELETE FROM worker_versions WHERE server_id = ?", [server.to_string()]);
        self.database.execute(vec![delete, Statement::new(REMOVE_UNUSED, [])]).await.map(drop)
    }
}

impl Manifest {
    fn of(artifact: &Artifact) -> Self {
        let entry = |module: &Module| ModuleEntry { kind: module.kind, digest: digest(&module.content) };
        Self {
            main_module: artifact.main_module.clone(),
            modules: artifact.modules.iter().map(|(name, module)| (name.clone(), entry(module))).collect(),
            settings: artifact.settings.clone(),
        }
    }
}

fn digest(content: &Bytes) -> Digest {
    Digest::of_parts([content.as_ref()])
}

fn stored_version(row: &[SqlValue]) -> Result<StoredVersion> {
    let unreadable = |what: &str| Error::new(ErrorKind::Unexpected, format!("the database holds an unreadable {what}"));
    Ok(StoredVersion {
        version: text(row, 0)?.parse().map_err(|error| unreadable("version id").with_source(error))?,
        artifact: text(row, 1)?.parse().map_err(|error| unreadable("digest").with_source(error))?,
        created_at: OffsetDateTime::parse(text(row, 2)?, &Rfc3339)
            .map_err(|error| unreadable("time").with_source(error))?,
    })
}

fn text(row: &[SqlValue], column: usize) -> Result<&str> {
    match row.get(column) {
        Some(SqlValue::Text(text)) => Ok(text),
        other => Err(Error::new(ErrorKind::Unexpected, format!("the database holds {other:?} where a text belongs"))),
    }
}

fn damaged(version: &VersionId) -> Error {
    Error::new(
        ErrorKind::Unexpected,
        format!("version {version} is kept in D1 with other bytes than it was stored with"),
    )
    .with_help("deploy the server again")
}

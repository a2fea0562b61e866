//! Versions and their modules, kept in D1 beside the registry: whatever is listed can be uploaded again.
//!
//! Modules are stored once for all versions that have them, so a new version of a server adds its bodies and its
//! definition, not the runtime.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use metamcp_core::registry::sql::{Rows, SqlExecutor, SqlValue, Statement};
use metamcp_core::{
    Artifact, Digest, Error, ErrorKind, Module, ModuleKind, PublishedVersion, Result, ServerId, ServerName, VersionId,
    WorkerSettings,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::config::Placement;
use crate::d1::D1Executor;

/// A row of D1 holds at most 2 MB.
const CHUNK: usize = 1_000_000;
/// Parameters of one statement.
const PARAMETERS: usize = 100;

/// Modules above this size are asked for before they are sent.
const LARGE: usize = 64 * 1024;
/// Digests that are remembered; beyond that it begins anew.
const REMEMBERED: usize = 10_000;

const TABLES: [&str; 4] = [
    "CREATE TABLE IF NOT EXISTS worker_modules (
        digest TEXT NOT NULL, part INTEGER NOT NULL, content TEXT NOT NULL,
        used_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (digest, part))",
    "CREATE TABLE IF NOT EXISTS worker_versions (
        server_id TEXT NOT NULL, version TEXT NOT NULL, artifact TEXT NOT NULL, manifest TEXT NOT NULL,
        created_at TEXT NOT NULL, PRIMARY KEY (server_id, version))",
    // What the outbound Worker of a dispatch namespace reads.
    "CREATE TABLE IF NOT EXISTS worker_egress (server TEXT PRIMARY KEY, rules TEXT NOT NULL)",
    // Where all of these versions are published.
    "CREATE TABLE IF NOT EXISTS worker_placement (
        id INTEGER PRIMARY KEY CHECK (id = 1), placement TEXT NOT NULL)",
];

/// Takes the database for a placement unless it has versions of another one.
const CLAIM_PLACEMENT: &str = "INSERT INTO worker_placement (id, placement) VALUES (1, ?)
    ON CONFLICT DO UPDATE SET placement = excluded.placement WHERE NOT EXISTS (SELECT 1 FROM worker_versions)";
const SELECT_PLACEMENT: &str = "SELECT placement FROM worker_placement";

/// Modules that no version has; one that was stored a day ago or later may belong to a version that is being written.
const REMOVE_UNUSED: &str = "DELETE FROM worker_modules WHERE used_at < datetime('now', '-1 day') AND digest NOT IN (
    SELECT digest FROM worker_modules WHERE part = 0 AND used_at >= datetime('now', '-1 day') UNION ALL
    SELECT json_extract(module.value, '$.digest') FROM worker_versions, json_each(manifest, '$.modules') AS module)";

/// Where versions are kept.
#[derive(Debug, Clone)]
pub(super) struct Store {
    database: D1Executor,
    placement: Placement,
    /// Modules that were there when they were last used.
    known: Arc<Mutex<BTreeSet<Digest>>>,
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
    /// [`ErrorKind::ConfigInvalid`] while the database has versions that are published elsewhere.
    pub(super) async fn open(database: D1Executor, placement: Placement) -> Result<Self> {
        let claim = Statement::new(CLAIM_PLACEMENT, [written(&placement)]);
        let tables = TABLES.map(|sql| Statement::new(sql, []));
        let rows = database.execute(tables.into_iter().chain([claim, select_placement()]).collect()).await?;
        let store = Self { database, placement, known: Arc::default() };
        store.check_last(&rows)?;
        Ok(store)
    }

    /// Whether the database still is for this placement: without versions, another program may have taken it for
    /// another one since it was opened. [`ErrorKind::ConfigInvalid`] if so.
    pub(super) async fn check_placement(&self) -> Result<()> {
        self.check_last(&self.database.execute(vec![select_placement()]).await?)
    }

    /// The same, where the placement was selected last.
    fn check_last(&self, rows: &[Rows]) -> Result<()> {
        let recorded = rows.last().and_then(|rows| rows.first()).map(|row| text(row, 0)).transpose()?;
        match recorded {
            Some(recorded) if recorded == written(&self.placement) => Ok(()),
            recorded => Err(elsewhere(recorded.map(read), &self.placement)),
        }
    }

    /// Keeps a version: first its modules, so that a version that is listed is whole. One request for a version whose
    /// large modules were used before. After an error it is not listed, also if only the answer was lost.
    pub(super) async fn put(&self, server: ServerId, version: &VersionId, artifact: &Artifact) -> Result<()> {
        let stored = self.put_whole(server, version, artifact).await;
        if stored.is_err()
            && let Err(error) = self.remove(server, version).await
        {
            tracing::warn!(%error, %version, "a version that may have been kept could not be forgotten");
        }
        stored
    }

    async fn put_whole(&self, server: ServerId, version: &VersionId, artifact: &Artifact) -> Result<()> {
        let all: BTreeMap<Digest, &Bytes> =
            artifact.modules.values().map(|module| (digest(&module.content), &module.content)).collect();
        let (mut known, mut missing): (Vec<_>, BTreeMap<_, _>) = (Vec::new(), all.clone());
        {
            let remembered = self.known();
            known.extend(all.keys().filter(|digest| remembered.contains(digest)).copied());
        }
        missing.retain(|digest, _| !known.contains(digest));
        if missing.values().any(|content| content.len() > LARGE) {
            for stored in self.stored(missing.keys().copied().collect()).await? {
                missing.remove(&stored);
            }
        }
        let (large, small): (BTreeMap<_, _>, BTreeMap<_, _>) =
            missing.into_iter().partition(|(_, content)| content.len() > LARGE);
        for (digest, content) in large {
            self.put_module(digest, content).await?;
        }
        let keeping = touch(&known);
        let kept = keeping.len();
        let inserts = small.into_iter().flat_map(|(digest, content)| inserts(digest, content));
        let batch = keeping
            .into_iter()
            .chain(inserts)
            .chain([insert_version(server, version, artifact, &self.placement), select_placement()]);
        let rows = self.database.execute(batch.collect()).await?;
        self.check_last(&rows)?;
        let present = digests(&rows[..kept])?;
        for digest in known.iter().filter(|digest| !present.contains(digest)) {
            // It was removed since it was last used.
            self.put_module(*digest, all[digest]).await?;
        }
        self.remember(all.into_keys());
        Ok(())
    }

    /// Which of these modules are there, whole: parts are written from the last to the first. They are kept from now on.
    async fn stored(&self, asked: Vec<Digest>) -> Result<Vec<Digest>> {
        digests(&self.database.execute(touch(&asked)).await?)
    }

    async fn put_module(&self, digest: Digest, content: &Bytes) -> Result<()> {
        for insert in inserts(digest, content) {
            self.database.execute(vec![insert]).await?;
        }
        Ok(())
    }

    fn remember(&self, digests: impl Iterator<Item = Digest>) {
        let mut known = self.known();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.extend(digests);
    }

    fn known(&self) -> MutexGuard<'_, BTreeSet<Digest>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what a server's requests may reach, in the outbound Worker's words.
    pub(super) async fn put_rules(&self, server: &ServerName, rules: &str) -> Result<()> {
        let upsert = Statement::new(
            "INSERT INTO worker_egress (server, rules) VALUES (?, ?)
             ON CONFLICT DO UPDATE SET rules = excluded.rules",
            [server.to_string(), rules.to_owned()],
        );
        self.database.execute(vec![upsert]).await.map(drop)
    }

    /// Forgets what a server's requests may reach: nothing.
    pub(super) async fn remove_rules(&self, server: &ServerName) -> Result<()> {
        let delete = Statement::new("DELETE FROM worker_egress WHERE server = ?", [server.to_string()]);
        self.database.execute(vec![delete]).await.map(drop)
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
        let rows = self.database.execute(vec![select, select_placement()]).await?;
        self.check_last(&rows)?;
        let Some(row) = rows.first().and_then(|rows| rows.first()) else { return Ok(None) };
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

impl StoredVersion {
    /// As the publisher shows it, given the version that is live.
    pub(super) fn published(self, live: Option<&VersionId>) -> PublishedVersion {
        let active = live == Some(&self.version);
        PublishedVersion { version: self.version, artifact: self.artifact, active, created_at: self.created_at }
    }
}

/// Keeps modules that are there, and answers which are.
fn touch(asked: &[Digest]) -> Vec<Statement> {
    let statements = asked.chunks(PARAMETERS).map(|digests| Statement {
        sql: format!(
            "UPDATE worker_modules SET used_at = CURRENT_TIMESTAMP WHERE part = 0 AND digest IN ({}) RETURNING digest",
            vec!["?"; digests.len()].join(", ")
        )
        .into(),
        params: digests.iter().map(Digest::to_string).collect(),
    });
    statements.collect()
}

/// A module's parts, the last one first: where the first is, all are.
fn inserts(digest: Digest, content: &Bytes) -> Vec<Statement> {
    let content = STANDARD.encode(content);
    // An empty module has one part too.
    let parts = content.len().div_ceil(CHUNK).max(1);
    let insert = |part: usize| {
        let chunk = &content[part * CHUNK..content.len().min((part + 1) * CHUNK)];
        Statement::new(
            "INSERT INTO worker_modules (digest, part, content) VALUES (?, CAST(? AS INTEGER), ?)
             ON CONFLICT DO UPDATE SET used_at = CURRENT_TIMESTAMP",
            [digest.to_string(), part.to_string(), chunk.to_owned()],
        )
    };
    (0..parts).rev().map(insert).collect()
}

fn select_placement() -> Statement {
    Statement::new(SELECT_PLACEMENT, [])
}

/// A placement as the database has it.
fn written(placement: &Placement) -> String {
    match placement {
        Placement::AccountScripts => "account".to_owned(),
        Placement::DispatchNamespace(name) => format!("namespace {name}"),
    }
}

fn read(written: &str) -> Placement {
    match written.strip_prefix("namespace ") {
        Some(name) => Placement::DispatchNamespace(name.to_owned()),
        None => Placement::AccountScripts,
    }
}

fn elsewhere(recorded: Option<Placement>, configured: &Placement) -> Error {
    let Some(recorded) = recorded else {
        return Error::new(ErrorKind::Unexpected, "the database does not tell where its servers are published")
            .with_help("open it again");
    };
    let message =
        format!("this registry's servers are published in {recorded}, and the configuration names {configured}");
    let way_out = match &recorded {
        Placement::AccountScripts => "unset CLOUDFLARE_DISPATCH_NAMESPACE".to_owned(),
        Placement::DispatchNamespace(name) => format!("set CLOUDFLARE_DISPATCH_NAMESPACE={name}"),
    };
    Error::new(ErrorKind::ConfigInvalid, message).with_help(format!("{way_out}, or remove the servers first"))
}

/// Nothing is inserted once the database is for another placement.
fn insert_version(server: ServerId, version: &VersionId, artifact: &Artifact, placement: &Placement) -> Statement {
    let manifest = serde_json::to_string(&Manifest::of(artifact)).unwrap_or_default();
    let created_at = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
    Statement::new(
        "INSERT INTO worker_versions (server_id, version, artifact, manifest, created_at) SELECT ?, ?, ?, ?, ?
         WHERE EXISTS (SELECT 1 FROM worker_placement WHERE placement = ?) ON CONFLICT DO NOTHING",
        [
            server.to_string(),
            version.to_string(),
            artifact.digest().to_string(),
            manifest,
            created_at,
            written(placement),
        ],
    )
}

fn digests(rows: &[Rows]) -> Result<Vec<Digest>> {
    let unreadable =
        |error| Error::new(ErrorKind::Unexpected, "the database holds an unreadable digest").with_source(error);
    rows.iter().flatten().map(|row| text(row, 0)?.parse().map_err(unreadable)).collect()
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

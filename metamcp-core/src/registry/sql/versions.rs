//! Versions with the definition each was made from.

use super::deployments::DeploymentWrite;
use super::row::{Row, stamp};
use super::{MAX_PARAMETER_BYTES, Rows, SqlExecutor, SqlRegistry, Statement, now};
use crate::name::{ServerId, VersionId};
use crate::registry::{DeploymentRecord, Lease, Revision, VersionRecord, version_not_found};
use crate::{Error, ErrorKind, Result};

/// All three follow the write of the deployment by its write id.
const UPSERT: &str = concat!(
    "INSERT INTO mcp_versions (server_id, version, revision, artifact, created_at, updated_at)
     SELECT server_id, ?, CAST(? AS INTEGER), ?, ?, ",
    now!(),
    " FROM mcp_deployments WHERE id = ? AND write_id = ?
     ON CONFLICT (server_id, version) DO UPDATE SET revision = excluded.revision, artifact = excluded.artifact,
     created_at = excluded.created_at, updated_at = excluded.updated_at"
);
const DELETE_PARTS: &str = "DELETE FROM mcp_version_parts WHERE version_id =
     (SELECT v.id FROM mcp_deployments AS d JOIN mcp_versions AS v ON v.server_id = d.server_id
     WHERE d.id = ? AND d.write_id = ? AND v.version = ?)";
const INSERT_PART: &str = "INSERT INTO mcp_version_parts (version_id, position, content)
     SELECT v.id, CAST(? AS INTEGER), ? FROM mcp_deployments AS d JOIN mcp_versions AS v ON v.server_id = d.server_id
     WHERE d.id = ? AND d.write_id = ? AND v.version = ?";
const COUNT: &str = "SELECT count(*) FROM mcp_versions WHERE server_id = ?";

macro_rules! select_versions {
    ($where:literal) => {
        [
            concat!(
                "SELECT v.id, v.version, v.revision, v.artifact, v.created_at FROM mcp_versions AS v WHERE ",
                $where,
                " ORDER BY v.created_at DESC, v.id DESC"
            ),
            concat!(
                "SELECT v.id, p.content FROM mcp_versions AS v JOIN mcp_version_parts AS p ON p.version_id = v.id WHERE ",
                $where,
                " ORDER BY v.created_at DESC, v.id DESC, p.position"
            ),
        ]
    };
}

const SELECT_ALL: [&str; 2] = select_versions!("v.server_id = ?");
const SELECT_ONE: [&str; 2] = select_versions!("v.server_id = ? AND v.version = ?");

impl<E: SqlExecutor> SqlRegistry<E> {
    pub(super) async fn write_version(
        &self,
        record: &VersionRecord,
        deployment: &DeploymentRecord,
        lease: &Lease,
    ) -> Result<u32> {
        let results = self.write_with(deployment, lease, |write| version_batch(record, write)).await?;
        let count = results.last().and_then(|rows| rows.first()).map(|row| Row(row).integer(0)).transpose()?;
        Ok(count.and_then(|count| u32::try_from(count).ok()).unwrap_or(u32::MAX))
    }

    pub(super) async fn read_versions(&self, id: ServerId) -> Result<Vec<VersionRecord>> {
        let [versions, parts] = self.run(SELECT_ALL.map(|sql| Statement::new(sql, [id.to_string()]))).await?;
        records(id, &versions, &parts)
    }

    pub(super) async fn read_version(&self, id: ServerId, version: &VersionId) -> Result<VersionRecord> {
        let key = [id.to_string(), version.to_string()];
        let [versions, parts] = self.run(SELECT_ONE.map(|sql| Statement::new(sql, key.clone()))).await?;
        let record = records(id, &versions, &parts)?.pop();
        record.ok_or_else(|| version_not_found(id, version))
    }

    pub(super) async fn delete_version(&self, id: ServerId, version: &VersionId) -> Result<()> {
        let sql = "DELETE FROM mcp_versions WHERE server_id = ? AND version = ?";
        self.run([Statement::new(sql, [id.to_string(), version.to_string()])]).await?;
        Ok(())
    }
}

fn version_batch(record: &VersionRecord, write: &DeploymentWrite) -> Result<Vec<Statement>> {
    let definition = serde_json::to_string(&record.definition)
        .map_err(|source| Error::new(ErrorKind::Unexpected, "a definition did not serialize").with_source(source))?;
    let version = record.version.to_string();
    let (revision, artifact) = (record.revision.to_string(), record.artifact.to_string());
    let written = || [write.deployment.clone(), write.id.clone()];
    let [deployment, write_id] = written();
    let upsert = [version.clone(), revision, artifact, stamp(record.created_at), deployment, write_id];
    let [deployment, write_id] = written();
    let mut batch =
        vec![Statement::new(UPSERT, upsert), Statement::new(DELETE_PARTS, [deployment, write_id, version.clone()])];
    for (position, part) in parts(&definition, MAX_PARAMETER_BYTES).enumerate() {
        let [deployment, write_id] = written();
        let insert = [position.to_string(), part.to_owned(), deployment, write_id, version.clone()];
        batch.push(Statement::new(INSERT_PART, insert));
    }
    batch.push(Statement::new(COUNT, [record.server_id.to_string()]));
    Ok(batch)
}

/// Versions with the parts of their definitions; both come in the same order of versions.
fn records(server_id: ServerId, versions: &Rows, parts: &Rows) -> Result<Vec<VersionRecord>> {
    let mut parts = parts.iter().map(|row| Row(row)).peekable();
    let mut records = Vec::with_capacity(versions.len());
    for row in versions {
        let row = Row(row);
        let id = row.integer(0)?;
        let mut definition = String::new();
        while let Some(part) = parts.next_if(|part| part.integer(0).is_ok_and(|of| of == id)) {
            definition.push_str(part.text(1)?);
        }
        records.push(VersionRecord {
            server_id,
            version: row.parsed(1)?,
            revision: Revision(row.integer(2)?),
            artifact: row.parsed(3)?,
            definition: serde_json::from_str(&definition).map_err(|source| {
                Error::new(ErrorKind::Unexpected, "a version's definition does not read").with_source(source)
            })?,
            created_at: row.time(4)?,
        });
    }
    Ok(records)
}

/// The text in parts of at most so many bytes, which end between characters.
pub(super) fn parts(text: &str, max: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = rest.len().min(max);
        let boundary = (0..=end).rev().find(|index| rest.is_char_boundary(*index)).unwrap_or(end);
        let (part, behind) = rest.split_at(boundary);
        rest = behind;
        (!part.is_empty()).then_some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_end_between_characters_and_give_the_text_back() {
        let text = "€".repeat(MAX_PARAMETER_BYTES);
        let cut: Vec<&str> = parts(&text, MAX_PARAMETER_BYTES).collect();
        assert!(cut.iter().all(|part| part.len() <= MAX_PARAMETER_BYTES));
        assert_eq!(cut.concat(), text);
    }
}

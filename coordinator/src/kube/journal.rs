//! The journal as `ConfigMaps` of the workload's namespace: one record a line, in parts that are
//! small enough to be written again with each record.
//!
//! A record is appended only to what this coordinator wrote or read last: a part that somebody
//! else has changed is not changed, so of two coordinators one cannot go on. An append of which no
//! answer came is looked for before it is tried again.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use ::kube::api::PostParams;
use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use livmig_engine::record::{Record, SCHEMA, spec_of};
use livmig_proto::ids::Epoch;
use serde_json::json;

use super::{
    amend::patch,
    cluster::{Cluster, ClusterError, call},
    names::{FIELD_MANAGER, MIGRATION, NAME, Names, ROLE},
};
use crate::journal::{Journal, JournalError};

/// The key of the records.
const RECORDS: &str = "records";

/// Bytes of records in one part. A part is sent whole with each append, and an object must stay
/// well below etcd's limit of 1.5 MiB.
const PART_MAX: usize = 96 << 10;

/// Parts that are read; more is no journal of ours.
const PARTS_MAX: usize = 4096;

/// How long an append is tried while the API server cannot be reached, and the pause between. Whoever
/// gives up leaves the workload as it is, perhaps stopped; a server that is restarted or moved is back
/// within minutes.
const PATIENCE: Duration = Duration::from_mins(10);
const PAUSE: Duration = Duration::from_secs(1);

/// The role of the journal's parts.
pub const JOURNAL_ROLE: &str = "journal";

/// The journal of one migration.
pub struct ConfigMapJournal {
    cluster: Cluster,
    names: Names,
    /// The last part as it was last read or written.
    head: Option<ConfigMap>,
    /// How many parts there are.
    parts: usize,
    /// The labels of every part, from the first record on.
    labels: BTreeMap<String, String>,
}

impl ConfigMapJournal {
    /// The journal of the migration with these names.
    pub fn new(cluster: Cluster, names: Names) -> Self {
        Self {
            cluster,
            names,
            head: None,
            parts: 0,
            labels: BTreeMap::new(),
        }
    }

    /// Appends `lines`, each with its line feed, by one write.
    async fn write(&mut self, lines: &str) -> Result<(), ClusterError> {
        let api = self.cluster.api::<ConfigMap>();
        if let Some(head) = &self.head
            && text(head).len() + lines.len() <= PART_MAX
        {
            let name = self.names.journal(self.parts.saturating_sub(1));
            let change = json!({"data": {RECORDS: format!("{}{lines}", text(head))}});
            self.head = Some(patch(&api, "journal", &name, head, change).await?);
            return Ok(());
        }
        let name = self.names.journal(self.parts);
        let part = ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(self.labels.clone()),
                ..ObjectMeta::default()
            },
            data: Some(
                [
                    ("schema".to_owned(), SCHEMA.to_string()),
                    (RECORDS.to_owned(), lines.to_owned()),
                ]
                .into(),
            ),
            ..ConfigMap::default()
        };
        let parameters = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let what = format!("create the journal {name}");
        self.head = Some(call(what, api.create(&parameters, &part)).await?);
        self.parts += 1;
        Ok(())
    }

    /// Whether `lines` turn out to be stored although the answer to their append said nothing of it.
    /// When nobody else has written either, the head is fresh and the append can be tried again.
    async fn is_stored(&mut self, lines: &str) -> Result<Option<bool>, ClusterError> {
        let api = self.cluster.api::<ConfigMap>();
        let read = async |part: usize| {
            let name = self.names.journal(part);
            call(format!("read the journal {name}"), api.get_opt(&name)).await
        };
        // A part that was being made.
        if let Some(made) = read(self.parts).await? {
            let ours = text(&made) == lines;
            self.head = Some(made);
            self.parts += 1;
            return Ok(ours.then_some(true));
        }
        let Some(last) = self.parts.checked_sub(1) else {
            return Ok(Some(false));
        };
        let Some(now) = read(last).await? else {
            return Ok(None);
        };
        let before = self.head.as_ref().map(text).unwrap_or_default().to_owned();
        let found = text(&now).to_owned();
        self.head = Some(now);
        Ok(if found == format!("{before}{lines}") {
            Some(true)
        } else if found == before {
            Some(false)
        } else {
            None
        })
    }
}

/// The epoch of whoever wrote the last record of the journal; none when there is no journal.
///
/// # Errors
/// When it cannot be read.
pub async fn last_epoch(cluster: &Cluster, names: &Names) -> Result<Option<Epoch>, JournalError> {
    let mut journal = ConfigMapJournal::new(cluster.clone(), names.clone());
    let records = journal.load().await?;
    Ok(records.last().map(|record| record.epoch))
}

impl Journal for ConfigMapJournal {
    async fn load(&mut self) -> Result<Vec<Record>, JournalError> {
        let failed = |error| JournalError::because("Could not read the journal", error);
        let api = self.cluster.api::<ConfigMap>();
        let mut records = Vec::new();
        for part in 0..PARTS_MAX {
            let name = self.names.journal(part);
            let found = call(format!("read the journal {name}"), api.get_opt(&name)).await;
            let Some(found) = found.map_err(failed)? else {
                break;
            };
            for (number, line) in text(&found).lines().enumerate() {
                records.push(Record::decode(line).map_err(|error| {
                    JournalError::because(
                        format!("The journal {name} is damaged at line {}", number + 1),
                        error,
                    )
                })?);
            }
            if part == 0 {
                self.labels = found.metadata.labels.clone().unwrap_or_default();
            }
            self.head = Some(found);
            self.parts = part + 1;
        }
        Ok(records)
    }

    async fn append(&mut self, record: &Record) -> Result<(), JournalError> {
        self.append_all(std::slice::from_ref(record)).await
    }

    async fn append_all(&mut self, records: &[Record]) -> Result<(), JournalError> {
        let mut lines = String::new();
        for record in records {
            let line = record
                .encode()
                .map_err(|error| JournalError::because("Could not encode a record", error))?;
            lines.push_str(&line);
            lines.push('\n');
        }
        if let Some(spec) = spec_of(records) {
            self.labels = [
                (MIGRATION, spec.uid.to_string()),
                (NAME, spec.name.to_string()),
                (ROLE, JOURNAL_ROLE.to_owned()),
            ]
            .map(|(key, value)| (key.to_owned(), value))
            .into();
        }
        let begun = Instant::now();
        loop {
            let error = match self.write(&lines).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if !error.is_transient() || begun.elapsed() >= PATIENCE {
                return Err(JournalError::because(
                    "Could not append to the journal",
                    error,
                ));
            }
            tracing::warn!(%error, "append in doubt");
            if !error.is_conflict() {
                tokio::time::sleep(PAUSE).await;
            }
            match self.is_stored(&lines).await {
                Ok(Some(true)) => return Ok(()),
                // Not stored, or not known: tried again, on what was read last.
                Ok(Some(false)) | Err(_) => {}
                Ok(None) => return Err(JournalError::taken_over()),
            }
        }
    }
}

fn text(part: &ConfigMap) -> &str {
    part.data
        .as_ref()
        .and_then(|data| data.get(RECORDS))
        .map(String::as_str)
        .unwrap_or_default()
}

//! The journal as `ConfigMaps` of the workload's namespace: one record a line, in parts that are
//! small enough to be written again with each record.
//!
//! A record is appended only to what this coordinator wrote or read last: a part that somebody
//! else has changed is not changed, so of two coordinators one cannot go on. Where a part ends it
//! is the same: it is closed for good, as it was read, before there is a next one. Whoever finds it
//! closed knows all of it, and of all who begin the next part one can. An append of which no answer
//! came is looked for before it is tried again.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use ::kube::api::PostParams;
use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use livmig_engine::record::{Record, SCHEMA, spec_of};
use livmig_proto::ids::Epoch;
use serde_json::json;

use crate::kube::api::{
    amend::patch,
    cluster::{Cluster, ClusterError, call},
    names::{FIELD_MANAGER, MIGRATION, NAME, Names, ROLE},
};
use crate::{
    journal::{Doubts, Journal, JournalError},
    movers::failure::chain,
};

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
    doubts: Doubts,
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
            doubts: Doubts::default(),
        }
    }

    /// Appends `lines`, each with its line feed, all of them by one write.
    async fn write(&mut self, lines: &str) -> Result<(), ClusterError> {
        let api = self.cluster.api::<ConfigMap>();
        if let Some(head) = &self.head
            && !is_closed(head)
        {
            let name = self.names.journal(self.parts.saturating_sub(1));
            let fits = text(head).len() + lines.len() <= PART_MAX;
            let change = if fits {
                json!({"data": {RECORDS: format!("{}{lines}", text(head))}})
            } else {
                // From here on the server itself refuses every record in it, whoever writes one.
                json!({"immutable": true})
            };
            self.head = Some(patch(&api, "journal", &name, head, change).await?);
            if fits {
                return Ok(());
            }
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
    /// When nobody else has written either, the head is fresh and the append can be tried again; a
    /// head that somebody has closed, and no more, holds what it held.
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
        let appended = self.append_lines(&lines).await;
        self.doubts.tell(None);
        appended
    }

    fn tell(&mut self, doubts: Doubts) {
        self.doubts = doubts;
    }
}

impl ConfigMapJournal {
    /// Appends `lines`, and tries for as long as it may help.
    async fn append_lines(&mut self, lines: &str) -> Result<(), JournalError> {
        let begun = Instant::now();
        loop {
            let error = match self.write(lines).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let lost = error.is_conflict();
            let given_up = !error.is_transient() || begun.elapsed() >= PATIENCE;
            let error = JournalError::because("Could not append to the journal", error);
            if given_up {
                return Err(error);
            }
            tracing::warn!(error = %chain(&error), "append in doubt");
            if !lost {
                self.doubts.tell(Some(chain(&error)));
                tokio::time::sleep(PAUSE).await;
            }
            match self.is_stored(lines).await {
                Ok(Some(true)) => return Ok(()),
                // Not stored, or not known: tried again, on what was read last.
                Ok(Some(false)) | Err(_) => {}
                Ok(None) => return Err(JournalError::taken_over()),
            }
        }
    }
}

/// Whether the part takes no more records.
fn is_closed(part: &ConfigMap) -> bool {
    part.immutable == Some(true)
}

fn text(part: &ConfigMap) -> &str {
    part.data
        .as_ref()
        .and_then(|data| data.get(RECORDS))
        .map(String::as_str)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use livmig_engine::{record::Event, spec::MigrationName, time::Timestamp};

    use super::*;
    use crate::kube::testing::{
        objects::object,
        server::{Course, MemoryServer},
    };

    /// So many records fit into one part with room for a few more.
    const MANY: u64 = 1400;

    fn records(epoch: u64, from: u64, count: u64) -> Vec<Record> {
        (from..from + count)
            .map(|seq| Record {
                schema: SCHEMA,
                seq,
                epoch: Epoch(epoch),
                at: Timestamp(seq),
                event: Event::Adopted,
            })
            .collect()
    }

    async fn journal(server: &MemoryServer) -> ConfigMapJournal {
        let name = MigrationName::try_from("m".to_owned()).unwrap();
        ConfigMapJournal::new(server.cluster().await, Names::new(&name))
    }

    async fn loaded(server: &MemoryServer) -> (ConfigMapJournal, Vec<Record>) {
        let mut journal = journal(server).await;
        let records = journal.load().await.unwrap();
        (journal, records)
    }

    /// A journal whose only part has room for a few records and not for many.
    async fn nearly_full() -> MemoryServer {
        let server = MemoryServer::start().await;
        let mut first = journal(&server).await;
        first.append_all(&records(1, 0, MANY)).await.unwrap();
        let room = PART_MAX - part(&server, 0).unwrap().len();
        assert!((200..20_000).contains(&room), "{room}");
        server
    }

    fn part(server: &MemoryServer, part: usize) -> Option<String> {
        let name = Names::new(&MigrationName::try_from("m".to_owned()).unwrap()).journal(part);
        let found = server.get(&format!("/configmaps/{name}"))?;
        Some(found["data"][RECORDS].as_str().unwrap().to_owned())
    }

    #[tokio::test]
    async fn what_keeps_an_append_waiting_is_told_and_that_it_is_over() {
        let server = MemoryServer::start().await;
        let mut first = journal(&server).await;
        let (telling, told) = std::sync::mpsc::channel();
        first.tell(Doubts::new(move |doubt| telling.send(doubt).unwrap()));
        let mut call = server.hold("POST", "/configmaps/livmig-m");
        let appending =
            tokio::spawn(async move { first.append_all(&records(1, 0, 1)).await.unwrap() });
        call.arrived().await;
        call.go(Course::Lost).await;
        appending.await.unwrap();
        let told: Vec<Option<String>> = told.iter().collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].as_ref().unwrap().contains("journal"), "{told:?}");
        assert_eq!(told[1], None);
    }

    #[tokio::test]
    async fn whoever_was_replaced_begins_no_part() {
        let server = nearly_full().await;
        let (mut asleep, _) = loaded(&server).await;
        let (mut second, _) = loaded(&server).await;
        second.append_all(&records(2, MANY, 1)).await.unwrap();
        let woken = asleep.append_all(&records(1, MANY, MANY)).await;
        assert!(woken.unwrap_err().taken_over);
        assert_eq!(part(&server, 1), None);
        second
            .append_all(&records(2, MANY + 1, MANY))
            .await
            .unwrap();
        let (_, all) = loaded(&server).await;
        assert!(all.iter().map(|record| record.seq).eq(0..=2 * MANY));
    }

    #[tokio::test]
    async fn whoever_takes_over_sees_that_a_part_was_begun_meanwhile() {
        let server = nearly_full().await;
        let (mut first, _) = loaded(&server).await;
        let (mut second, _) = loaded(&server).await;
        first.append_all(&records(1, MANY, MANY)).await.unwrap();
        let adopted = second.append_all(&records(2, MANY, 1)).await;
        assert!(adopted.unwrap_err().taken_over);
        let (_, all) = loaded(&server).await;
        assert_eq!(all, records(1, 0, 2 * MANY));
    }

    #[tokio::test]
    async fn a_closed_part_without_a_next_one_is_gone_on_from() {
        let server = nearly_full().await;
        let (mut first, _) = loaded(&server).await;
        // One that has looked before the part was closed, and one that looks after.
        let (mut early, _) = loaded(&server).await;
        let mut next = server.hold("POST", "/configmaps/livmig-m-1");
        let dying = tokio::spawn(async move {
            let appended = first.append_all(&records(1, MANY, MANY)).await;
            (first, appended)
        });
        next.arrived().await;
        let (mut late, all) = loaded(&server).await;
        assert_eq!(all, records(1, 0, MANY));
        early.append_all(&records(2, MANY, 1)).await.unwrap();
        let mut adopted = records(2, MANY, 1);
        adopted[0].at = Timestamp(MANY + 1);
        let adopted = late.append_all(&adopted).await;
        assert!(adopted.unwrap_err().taken_over);
        // The first one was not dead.
        next.go(Course::Answered).await;
        let (_, appended) = dying.await.unwrap();
        assert!(appended.unwrap_err().taken_over);
        early.append_all(&records(2, MANY + 1, 1)).await.unwrap();
        let (_, all) = loaded(&server).await;
        assert_eq!(all, [records(1, 0, MANY), records(2, MANY, 2)].concat());
    }

    #[tokio::test]
    async fn whatever_answer_is_lost_a_part_is_closed_and_the_next_begun_once() {
        let calls = [
            ("PATCH", "/configmaps/livmig-m"),
            ("POST", "/configmaps/livmig-m-1"),
        ];
        let doubts = calls.into_iter().flat_map(|(method, path)| {
            [Course::Unanswered, Course::Lost].map(|course| (method, path, course))
        });
        let all = doubts.map(async |(method, path, course)| {
            let server = nearly_full().await;
            let (mut journal, _) = loaded(&server).await;
            let mut call = server.hold(method, path);
            let appending = tokio::spawn(async move {
                journal.append_all(&records(1, MANY, MANY)).await.unwrap();
                journal.append_all(&records(1, 2 * MANY, 1)).await.unwrap();
            });
            call.arrived().await;
            call.go(course).await;
            appending.await.unwrap();
            let (_, all) = loaded(&server).await;
            assert_eq!(all, records(1, 0, 2 * MANY + 1), "{method} {course:?}");
        });
        join_all(all).await;
    }

    #[tokio::test]
    async fn parts_that_were_never_closed_are_read_and_gone_on_from() {
        let server = MemoryServer::start().await;
        for (name, from) in [("livmig-m", 0), ("livmig-m-1", 2)] {
            let records = records(1, from, 2);
            let lines = records.iter().map(|record| record.encode().unwrap() + "\n");
            let lines: String = lines.collect();
            let part = json!({"metadata": {"name": name}, "data": {RECORDS: lines}});
            server.store(&object::<ConfigMap>(part));
        }
        let (mut journal, all) = loaded(&server).await;
        assert_eq!(all, records(1, 0, 4));
        journal.append_all(&records(2, 4, 1)).await.unwrap();
        let (_, all) = loaded(&server).await;
        assert_eq!(all.len(), 5);
    }
}

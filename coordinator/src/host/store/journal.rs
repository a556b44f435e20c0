//! The journal as a file: one record a line, flushed to the device before an append returns.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use livmig_engine::record::{Record, RecordError};

use super::{
    file::sync_parent,
    folder::{Lock, MigrationFolder},
};
use crate::journal::{Journal, JournalError};

/// The journal of one migration, held by this coordinator.
#[derive(Debug)]
pub struct FileJournal {
    path: PathBuf,
    /// Opened by the first append, so that a migration that never begins leaves no journal.
    file: Option<File>,
    /// Held as long as the journal is.
    _lock: Lock,
}

/// What the file holds.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Every whole record.
    pub records: Vec<Record>,
    /// Bytes of a last line that a crash cut off, or that is being written right now.
    pub torn: usize,
}

/// Why the file is no journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalReadError {
    /// It could not be read.
    #[error("Could not read the journal {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A whole line is no record. A crash does not do that; something else wrote there.
    #[error("The journal {} is damaged at line {line}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// Why.
        #[source]
        source: RecordError,
    },
}

impl FileJournal {
    /// The journal in `folder`, whose lock is `lock`.
    pub fn new(folder: &MigrationFolder, lock: Lock) -> Self {
        Self {
            path: folder.journal(),
            file: None,
            _lock: lock,
        }
    }

    /// Opens the file for appending and cuts off what a crash tore, at the first append.
    fn open(path: &Path) -> io::Result<File> {
        let exists = path.exists();
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .mode(0o600)
            .open(path)?;
        if exists {
            let whole = fs::read(path)?
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |newline| newline + 1);
            let whole = u64::try_from(whole).unwrap_or(u64::MAX);
            if file.metadata()?.len() != whole {
                file.set_len(whole)?;
            }
        }
        file.flush()?;
        file.sync_all()?;
        sync_parent(path)?;
        Ok(file)
    }
}

impl Journal for FileJournal {
    async fn load(&mut self) -> Result<Vec<Record>, JournalError> {
        let loaded = read(&self.path).map_err(|error| {
            let message = error.to_string();
            match error {
                JournalReadError::Io { source, .. } => JournalError::because(message, source),
                JournalReadError::Damaged { source, .. } => JournalError::because(message, source),
            }
        })?;
        if loaded.torn > 0 {
            tracing::warn!(
                journal = %self.path.display(),
                bytes = loaded.torn,
                "the journal's last line was cut off by a crash and is left out"
            );
        }
        Ok(loaded.records)
    }

    async fn append(&mut self, record: &Record) -> Result<(), JournalError> {
        self.append_all(std::slice::from_ref(record)).await
    }

    async fn append_all(&mut self, records: &[Record]) -> Result<(), JournalError> {
        let failed = |source: io::Error| {
            JournalError::because(
                format!("Could not append to the journal {}", self.path.display()),
                source,
            )
        };
        let mut lines = String::new();
        for record in records {
            let line = record.encode().map_err(|error| {
                JournalError::because("Could not encode a record of the journal", error)
            })?;
            lines.push_str(&line);
            lines.push('\n');
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(Self::open(&self.path).map_err(failed)?),
        };
        // One small write and one flush: shorter than handing them to another thread.
        file.write_all(lines.as_bytes()).map_err(failed)?;
        file.sync_data().map_err(failed)
    }
}

/// Reads a journal without holding it, as far as it is whole. No file is an empty journal.
pub fn read(path: &Path) -> Result<Loaded, JournalReadError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::default()),
        Err(source) => {
            return Err(JournalReadError::Io {
                path: path.to_owned(),
                source,
            });
        }
    };
    let mut loaded = Loaded::default();
    for (number, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let Some(line) = line.strip_suffix(b"\n") else {
            loaded.torn = line.len();
            break;
        };
        let record = Record::decode(&String::from_utf8_lossy(line)).map_err(|source| {
            JournalReadError::Damaged {
                path: path.to_owned(),
                line: number + 1,
                source,
            }
        })?;
        loaded.records.push(record);
    }
    Ok(loaded)
}

#[cfg(test)]
mod tests {
    use livmig_engine::{
        record::{Event, SCHEMA},
        spec::MigrationName,
        time::Timestamp,
    };
    use livmig_proto::ids::Epoch;

    use super::*;
    use crate::host::store::folder::StateRoot;

    fn record(seq: u64) -> Record {
        Record {
            schema: SCHEMA,
            seq,
            epoch: Epoch(1),
            at: Timestamp(seq),
            event: Event::Adopted,
        }
    }

    fn folder() -> (tempfile::TempDir, MigrationFolder) {
        let temporary = tempfile::tempdir().unwrap();
        let folder = StateRoot::at(temporary.path().to_owned())
            .create(MigrationName::try_from("data-1".to_owned()).unwrap())
            .unwrap();
        (temporary, folder)
    }

    async fn with_two(folder: &MigrationFolder) {
        let mut journal = FileJournal::new(folder, folder.lock().unwrap());
        assert_eq!(journal.load().await.unwrap(), []);
        journal.append(&record(0)).await.unwrap();
        journal.append(&record(1)).await.unwrap();
    }

    #[tokio::test]
    async fn a_torn_last_line_is_left_out_wherever_it_was_cut() {
        let (_temporary, folder) = folder();
        with_two(&folder).await;
        let whole = fs::read(folder.journal()).unwrap();
        let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for cut in first..whole.len() {
            fs::write(folder.journal(), &whole[..cut]).unwrap();
            let mut journal = FileJournal::new(&folder, folder.lock().unwrap());
            assert_eq!(journal.load().await.unwrap(), [record(0)]);
            journal.append(&record(1)).await.unwrap();
            assert_eq!(fs::read(folder.journal()).unwrap(), whole, "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn a_damaged_whole_line_is_an_error() {
        let (_temporary, folder) = folder();
        with_two(&folder).await;
        let mut bytes = fs::read(folder.journal()).unwrap();
        bytes[0] = b'#';
        fs::write(folder.journal(), &bytes).unwrap();
        let mut journal = FileJournal::new(&folder, folder.lock().unwrap());
        let error = journal.load().await.unwrap_err().to_string();
        assert!(error.ends_with("is damaged at line 1"), "{error}");
        assert_eq!(fs::read(folder.journal()).unwrap(), bytes);
    }

    #[test]
    fn no_file_is_an_empty_journal() {
        let loaded = read(Path::new("/nowhere/at/all")).unwrap();
        assert!(loaded.records.is_empty());
    }
}

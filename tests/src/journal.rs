//! Watching a coordinator's journal from outside, to know where in a migration it is.

use std::{
    collections::BTreeSet,
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::inotify::{self, CreateFlags, WatchFlags},
};
use serde_json::Value;

use crate::run::Running;

/// The journals below one state home.
#[derive(Debug)]
pub struct Journals {
    root: PathBuf,
    inotify: OwnedFd,
    watched: BTreeSet<PathBuf>,
}

impl Journals {
    /// Watches what is and what comes below `$XDG_STATE_HOME` = `state_home`.
    pub fn watch(state_home: &Path) -> Result<Self> {
        let root = state_home.join("livmig");
        fs::create_dir_all(&root)?;
        let mut journals = Self {
            inotify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            watched: BTreeSet::new(),
            root,
        };
        journals.watch_new()?;
        Ok(journals)
    }

    /// The names of all migrations.
    pub fn migrations(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            if entry.path().join("journal").exists() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        Ok(names)
    }

    /// Every whole record of every journal.
    pub fn records(&self) -> Result<Vec<Value>> {
        let mut records = Vec::new();
        for name in self.migrations()? {
            let text = fs::read_to_string(self.root.join(name).join("journal"))?;
            let whole = text.rfind('\n').and_then(|end| text.get(..end));
            for line in whole.unwrap_or_default().lines() {
                records.push(serde_json::from_str(line).context("a journal's line")?);
            }
        }
        Ok(records)
    }

    /// Waits until a record is `wanted`. Whether one came before `coordinator` ended.
    pub fn wait_for(
        &mut self,
        coordinator: &Running,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<bool> {
        loop {
            self.watch_new()?;
            if self.records()?.iter().any(&wanted) {
                return Ok(true);
            }
            let mut fds = [
                PollFd::new(&self.inotify, PollFlags::IN),
                PollFd::from_borrowed_fd(coordinator.pidfd(), PollFlags::IN),
            ];
            poll(&mut fds, None)?;
            let [changed, ended] = fds.map(|fd| !fd.revents().is_empty());
            if changed {
                // What changed is looked up above; the events only wake us.
                let mut events = [0; 4096];
                while matches!(rustix::io::read(&self.inotify, &mut events), Ok(1..)) {}
            } else if ended {
                return Ok(self.records()?.iter().any(&wanted));
            }
        }
    }

    /// Adds the directories that have come since.
    fn watch_new(&mut self) -> Result<()> {
        let flags = WatchFlags::CREATE | WatchFlags::MODIFY | WatchFlags::MOVED_TO;
        let mut directories = vec![self.root.clone()];
        for entry in fs::read_dir(&self.root)? {
            directories.push(entry?.path());
        }
        for directory in directories {
            if directory.is_dir() && !self.watched.contains(&directory) {
                inotify::add_watch(&self.inotify, &directory, flags)?;
                self.watched.insert(directory);
            }
        }
        Ok(())
    }
}

/// Whether `record` is the intent of the step called `step`.
pub fn is_intent(record: &Value, step: &str) -> bool {
    record.pointer("/event/type").and_then(Value::as_str) == Some("intent")
        && record.pointer("/event/step/name").and_then(Value::as_str) == Some(step)
}

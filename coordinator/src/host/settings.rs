//! What the host platform must know of a migration beyond its spec, stored beside the journal
//! before the first record.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::old_volume::DirectoryIdentity;
use super::store::file::replace_durably;

/// How this machine carries the migration out.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// The text that PATH held, which a rollback brings back to the letter.
    pub link_text: PathBuf,
    /// What the source is, whatever stands at its path later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<DirectoryIdentity>,
    /// The mover's program.
    pub mover: PathBuf,
    /// How long the stop command may take.
    pub stop_limit: Duration,
    /// How long the start command may take.
    pub start_limit: Duration,
    /// A start command that was given later, in the place of the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_command: Option<String>,
}

impl Settings {
    /// Reads what [`store`](Self::store) wrote.
    pub fn load(folder: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(Self::path(folder))?)?)
    }

    /// Stores the settings durably in the migration's folder.
    pub fn store(&self, folder: &Path) -> io::Result<()> {
        replace_durably(&Self::path(folder), &serde_json::to_vec_pretty(self)?)
    }

    /// Where they are stored.
    pub fn path(folder: &Path) -> PathBuf {
        folder.join("host.json")
    }
}

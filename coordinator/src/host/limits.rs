//! The load that is wanted of a migration of this machine: a file in its folder.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use livmig_proto::control::Limits;

use super::store::file::replace_durably;
use crate::movers::limits::StoredLimits;

/// What is wanted of the migration in `folder`.
#[derive(Clone, Debug)]
pub struct FolderLimits {
    /// Its folder.
    pub folder: PathBuf,
    /// What was wanted when it was planned.
    pub planned: Limits,
}

impl StoredLimits for FolderLimits {
    fn planned(&self) -> Limits {
        self.planned
    }

    async fn stored(&self) -> Result<Option<Limits>, String> {
        read(&self.folder).map_err(|error| format!("{}: {error}", path(&self.folder).display()))
    }
}

/// What was stored last in `folder`; none when nothing was.
///
/// # Errors
/// When the file cannot be read or understood.
pub fn read(folder: &Path) -> io::Result<Option<Limits>> {
    match fs::read(path(folder)) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Stores what is wanted durably.
///
/// # Errors
/// When the file cannot be written.
pub fn store(folder: &Path, load: Limits) -> io::Result<()> {
    replace_durably(&path(folder), &serde_json::to_vec_pretty(&load)?)
}

/// Where it is stored.
pub fn path(folder: &Path) -> PathBuf {
    folder.join("limits.json")
}

#[cfg(test)]
mod tests {
    use livmig_proto::control::IoPriority;

    use super::*;

    #[test]
    fn what_was_stored_last_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap(), None);
        for io_priority in [IoPriority::Idle, IoPriority::None] {
            let load = Limits {
                bandwidth: "20M".parse().ok(),
                io_priority,
            };
            store(folder.path(), load).unwrap();
            assert_eq!(read(folder.path()).unwrap(), Some(load));
        }
        fs::write(path(folder.path()), r#"{"bandwidth":1}"#).unwrap();
        read(folder.path()).unwrap_err();
    }
}

//! The state folder, one folder in it for each migration, and the lock that keeps a second
//! coordinator away.

use std::{
    env,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::{ffi::OsStrExt, fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use livmig_engine::spec::{BadName, MigrationName};
use livmig_proto::ids::MigrationUid;

use super::file::create_folder;
use crate::host::process::ProcessIdentity;

/// The folder below which all migrations of this user on this machine keep their state.
#[derive(Clone, Debug)]
pub struct StateRoot(PathBuf);

/// The folder of one migration.
#[derive(Clone, Debug)]
pub struct MigrationFolder {
    path: PathBuf,
    name: MigrationName,
}

/// The right to act for a migration (or to register new ones), until dropped. The kernel gives it
/// back when the process dies, however it dies.
#[derive(Debug)]
pub struct Lock(File);

impl Drop for Lock {
    /// Said, and not left to the closing of the file: a child that is being started has it open too, until
    /// it runs its program.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// Why state could not be found, read or locked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Neither variable says where state belongs.
    #[error("Neither XDG_STATE_HOME nor HOME is set to an absolute path: no place for state")]
    NoPlace,
    /// There is no such migration.
    #[error("There is no migration {name} below {}", .root.display())]
    Unknown {
        /// What was asked for.
        name: String,
        /// Where it was looked for.
        root: PathBuf,
    },
    /// The name cannot be one.
    #[error(transparent)]
    Name(#[from] BadName),
    /// Another coordinator works on it.
    #[error("Another coordinator, process {holder}, works on the migration {name}")]
    Held {
        /// The migration.
        name: String,
        /// Its process id, as it wrote it down.
        holder: String,
    },
    /// The file system refused.
    #[error("Could not {what} {}", .path.display())]
    Io {
        /// What was attempted.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl StateRoot {
    /// `$XDG_STATE_HOME/livmig`, else `~/.local/state/livmig`.
    pub fn from_environment() -> Result<Self, StoreError> {
        let absolute = |name: &str| {
            env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        absolute("XDG_STATE_HOME")
            .or_else(|| Some(absolute("HOME")?.join(".local/state")))
            .map(|base| Self::at(base.join("livmig")))
            .ok_or(StoreError::NoPlace)
    }

    /// The state folder at a given place.
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Every migration that has a folder here, in the order of their names.
    pub fn migrations(&self) -> Result<Vec<MigrationFolder>, StoreError> {
        let mut found = self.folders()?;
        // A folder without a journal is what a crash left before the migration began.
        found.retain(|folder| folder.journal().exists());
        found.sort_by(|one, other| one.name.as_str().cmp(other.name.as_str()));
        Ok(found)
    }

    /// The migration with this name.
    pub fn open(&self, name: &str) -> Result<MigrationFolder, StoreError> {
        let folder = self.place(MigrationName::try_from(name.to_owned())?);
        if folder.journal().exists() {
            Ok(folder)
        } else {
            Err(StoreError::Unknown {
                name: name.to_owned(),
                root: self.0.clone(),
            })
        }
    }

    /// Makes the folder of a new migration.
    pub fn create(&self, name: MigrationName) -> Result<MigrationFolder, StoreError> {
        let folder = self.place(name);
        create_folder(&folder.path).map_err(|source| StoreError::Io {
            what: "create",
            path: folder.path.clone(),
            source,
        })?;
        Ok(folder)
    }

    /// Waits for the right to register a migration: between looking for one that is in the way
    /// and writing down a new one, nobody else may do the same.
    pub fn lock_registration(&self) -> Result<Lock, StoreError> {
        let path = self.0.join("registration.lock");
        let locked = || {
            create_folder(&self.0)?;
            let file = open_lock(&path)?;
            file.lock()?;
            Ok(Lock(file))
        };
        locked().map_err(|source| StoreError::Io {
            what: "lock",
            path: path.clone(),
            source,
        })
    }

    /// Removes the folders of migrations that never began: a crash came before their first
    /// record. Only under the lock of [`lock_registration`](Self::lock_registration), which a
    /// migration that is about to begin holds.
    pub fn prune(&self) -> Result<(), StoreError> {
        for folder in self.folders()? {
            if !folder.journal().exists() && folder.lock().is_ok() {
                fs::remove_dir_all(&folder.path).map_err(|source| StoreError::Io {
                    what: "remove",
                    path: folder.path.clone(),
                    source,
                })?;
            }
        }
        Ok(())
    }

    /// Every folder that could be a migration's.
    fn folders(&self) -> Result<Vec<MigrationFolder>, StoreError> {
        let failed = |source| StoreError::Io {
            what: "list",
            path: self.0.clone(),
            source,
        };
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry
                .file_name()
                .into_string()
                .ok()
                .and_then(|name| MigrationName::try_from(name).ok());
            found.extend(name.map(|name| self.place(name)));
        }
        Ok(found)
    }

    fn place(&self, name: MigrationName) -> MigrationFolder {
        MigrationFolder {
            path: self.0.join(name.as_str()),
            name,
        }
    }
}

impl MigrationFolder {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whose it is.
    pub fn name(&self) -> &MigrationName {
        &self.name
    }

    /// The journal's file.
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// Takes the right to act for this migration; refused, with the holder's process id, while
    /// another coordinator has it.
    pub fn lock(&self) -> Result<Lock, StoreError> {
        let path = self.path.join("lock");
        let failed = |source| StoreError::Io {
            what: "lock",
            path: path.clone(),
            source,
        };
        let mut file = open_lock(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Held {
                    name: self.name.to_string(),
                    holder: self
                        .holder()
                        .map_or_else(|| "?".to_owned(), |holder| holder.pid.to_string()),
                });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let mut note_holder = || {
            let own = ProcessIdentity::of(std::process::id())?;
            file.set_len(0)?;
            file.write_all(&serde_json::to_vec(&own)?)
        };
        note_holder().map_err(failed)?;
        Ok(Lock(file))
    }

    /// The coordinator that works on this migration now, as far as it has written itself down.
    pub fn holder(&self) -> Option<ProcessIdentity> {
        let note = fs::read(self.path.join("lock")).ok()?;
        serde_json::from_slice::<ProcessIdentity>(&note)
            .ok()
            .filter(|holder| holder.is_alive().unwrap_or(true))
    }

    /// Removes the migration's state, for good; the journal goes first, so that a crash leaves
    /// nothing that looks like a migration. Volumes are not state.
    pub fn remove(self, lock: Lock) -> Result<(), StoreError> {
        let failed = |path: PathBuf| {
            move |source| StoreError::Io {
                what: "remove",
                path,
                source,
            }
        };
        fs::remove_file(self.journal()).map_err(failed(self.journal()))?;
        fs::remove_dir_all(&self.path).map_err(failed(self.path.clone()))?;
        drop(lock);
        Ok(())
    }
}

/// A name for a migration of the volume at `path`: the last part of the path, made fit, and
/// enough of the identity to be unique.
pub fn migration_name(path: &Path, uid: &MigrationUid) -> Result<MigrationName, BadName> {
    let mut name = String::new();
    for byte in path
        .file_name()
        .map(OsStrExt::as_bytes)
        .unwrap_or_default()
        .iter()
        .take(40)
    {
        match byte.to_ascii_lowercase() {
            fit @ (b'a'..=b'z' | b'0'..=b'9') => name.push(char::from(fit)),
            _ if name.is_empty() || name.ends_with('-') => {}
            _ => name.push('-'),
        }
    }
    if name.is_empty() {
        name.push_str("volume");
    }
    if !name.ends_with('-') {
        name.push('-');
    }
    name.extend(uid.to_string().chars().take(8));
    MigrationName::try_from(name)
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> (tempfile::TempDir, StateRoot) {
        let folder = tempfile::tempdir().unwrap();
        let root = StateRoot::at(folder.path().join("livmig"));
        (folder, root)
    }

    #[test]
    fn a_second_coordinator_is_told_who_holds_the_migration() {
        let (_folder, root) = root();
        let name = MigrationName::try_from("data-1".to_owned()).unwrap();
        let folder = root.create(name).unwrap();
        let lock = folder.lock().unwrap();
        let error = folder.lock().unwrap_err();
        assert!(
            matches!(&error, StoreError::Held { holder, .. }
                if *holder == std::process::id().to_string()),
            "{error}"
        );
        assert_eq!(folder.holder().unwrap().pid, std::process::id());
        drop(lock);
        folder.lock().unwrap();
    }

    #[test]
    fn what_is_given_back_is_free_while_a_child_is_being_started() {
        let (_folder, root) = root();
        let name = MigrationName::try_from("data-1".to_owned()).unwrap();
        let folder = root.create(name).unwrap();
        let lock = folder.lock().unwrap();
        // As a child has it between fork and exec.
        let _inherited = lock.0.try_clone().unwrap();
        drop(lock);
        folder.lock().unwrap();
    }

    #[test]
    fn only_folders_with_a_journal_are_migrations() {
        let (_folder, root) = root();
        assert!(root.migrations().unwrap().is_empty());
        let with = |name: &str| {
            root.create(MigrationName::try_from(name.to_owned()).unwrap())
                .unwrap()
        };
        with("begun-not");
        fs::write(with("b-2").journal(), "").unwrap();
        fs::write(with("a-1").journal(), "").unwrap();
        let names: Vec<_> = root
            .migrations()
            .unwrap()
            .iter()
            .map(|folder| folder.name().to_string())
            .collect();
        assert_eq!(names, ["a-1", "b-2"]);
        assert!(matches!(
            root.open("begun-not").unwrap_err(),
            StoreError::Unknown { .. }
        ));
        assert!(matches!(
            root.open("../x").unwrap_err(),
            StoreError::Name(_)
        ));

        let held = with("held-1").lock().unwrap();
        root.prune().unwrap();
        assert!(!root.path().join("begun-not").exists());
        assert!(root.path().join("held-1").exists());
        drop(held);

        let folder = root.open("a-1").unwrap();
        let lock = folder.lock().unwrap();
        folder.remove(lock).unwrap();
        assert!(root.open("a-1").is_err());
    }

    #[test]
    fn every_path_gives_a_name() {
        let uid = MigrationUid([0xab; 16]);
        let name = |path: &str| migration_name(Path::new(path), &uid).unwrap().to_string();
        assert_eq!(name("/srv/data"), "data-abababab");
        assert_eq!(name("/srv/My Data!"), "my-data-abababab");
        assert_eq!(name("/srv/---"), "volume-abababab");
        assert_eq!(name("/"), "volume-abababab");
        assert!(name(&format!("/{}", "é".repeat(100))).len() <= 63);
        assert_eq!(name(&format!("/{}", "x".repeat(100))).len(), 49);
    }
}

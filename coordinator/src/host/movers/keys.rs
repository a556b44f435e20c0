//! The keys of a migration of this host, in a file that its owner alone can read.

use std::{fs, io, path::Path};

use livmig_proto::identity::IdentityError;

use crate::{host::store::file::replace_durably, movers::keys::Keys};

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file could not be read or written.
    #[error("Could not use the migration's key file {path}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A key could not be made or used.
    #[error("Could not make the migration's keys")]
    Identity(#[from] IdentityError),
}

/// The keys stored at `path`; made and stored durably when there are none yet.
///
/// # Errors
/// When the file cannot be read, understood or written, or a key cannot be made.
pub(super) fn ensure(path: &Path) -> Result<Keys, KeysError> {
    let failed = |source| KeysError::Io {
        path: path.display().to_string(),
        source,
    };
    match fs::read(path) {
        Ok(bytes) => Keys::decode(&bytes).map_err(|error| failed(error.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let keys = Keys::generate()?;
            let bytes = keys.encode().map_err(|error| failed(error.into()))?;
            replace_durably(path, &bytes).map_err(failed)?;
            Ok(keys)
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn keys_are_made_once_and_kept_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        let made = ensure(&path).unwrap();
        let again = ensure(&path).unwrap();
        assert_eq!(made.encode().unwrap(), again.encode().unwrap());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_key_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        fs::write(&path, "{").unwrap();
        let error = ensure(&path).err().unwrap().to_string();
        assert!(error.contains("keys.json"), "{error}");
    }
}

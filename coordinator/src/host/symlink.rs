//! PATH: a symbolic link that the workload opens its volume by, swapped by one atomic rename.
//!
//! Three values are ever in it: the text it had (the source), the destination, and in between a
//! *fenced* one that leads nowhere, so that a consumer which somebody starts by hand fails at
//! once instead of writing to a volume that is about to be left.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use livmig_proto::ids::MigrationUid;
use rustix::{
    fs::{
        AtFlags, CWD, Gid, Mode, OFlags, Uid, chownat, openat, readlinkat, renameat, statat,
        symlinkat, unlinkat,
    },
    io::Errno,
};

/// Stands in the text of every fenced link.
pub const FENCED_MARK: &str = ".livmig-fenced-";

/// Why PATH could not be read or swapped.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// A step on the way failed.
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
    /// Somebody else changed it.
    #[error(
        "{} points to {}, which is neither the source nor the destination: somebody else changed it",
        .path.display(), .found.display()
    )]
    Foreign {
        /// The link.
        path: PathBuf,
        /// What it holds.
        found: PathBuf,
    },
    /// It cannot be a link's path.
    #[error("{} does not name a link", .path.display())]
    NoName {
        /// What was given.
        path: PathBuf,
    },
}

/// The link at PATH and the three values that are ours to put in it.
#[derive(Clone, Debug)]
pub struct VolumeLink {
    path: PathBuf,
    source: PathBuf,
    destination: PathBuf,
    uid: MigrationUid,
}

/// Where PATH leads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LinkState {
    /// To the source, as before the migration.
    Source,
    /// Nowhere, on purpose.
    Fenced,
    /// To the destination.
    Destination,
}

impl VolumeLink {
    /// The link at `path`, which held the text `source` before the migration and is to hold
    /// `destination` after it.
    pub fn new(path: PathBuf, source: PathBuf, destination: PathBuf, uid: MigrationUid) -> Self {
        Self {
            path,
            source,
            destination,
            uid,
        }
    }

    /// What PATH holds while it leads nowhere: a name beside the source that says whose it is.
    pub fn fenced_text(&self) -> PathBuf {
        let mut text = self.source.clone().into_os_string();
        text.push(FENCED_MARK);
        text.push(short(&self.uid));
        PathBuf::from(text)
    }

    /// The text that PATH holds in `state`.
    pub fn text(&self, state: LinkState) -> PathBuf {
        match state {
            LinkState::Source => self.source.clone(),
            LinkState::Fenced => self.fenced_text(),
            LinkState::Destination => self.destination.clone(),
        }
    }

    /// Where PATH leads now.
    pub fn state(&self) -> Result<LinkState, LinkError> {
        let found = read(&self.path)?;
        [LinkState::Source, LinkState::Fenced, LinkState::Destination]
            .into_iter()
            .find(|state| self.text(*state) == found)
            .ok_or_else(|| LinkError::Foreign {
                path: self.path.clone(),
                found,
            })
    }

    /// Makes PATH lead there, durably; nothing happens when it does already. Refuses to overwrite
    /// a value that is none of ours.
    ///
    /// A crash leaves the old value or the new one, never none, and perhaps a temporary link
    /// beside it, which the next call removes.
    pub fn ensure(&self, state: LinkState) -> Result<(), LinkError> {
        let (folder, name) = self.open_folder()?;
        let temporary = self.temporary_name(name);
        let failed = |what| {
            move |errno: Errno| LinkError::Io {
                what,
                path: self.path.clone(),
                source: errno.into(),
            }
        };
        match unlinkat(&folder, &temporary, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed("remove the temporary link beside")(errno)),
        }
        if self.state()? != state {
            symlinkat(self.text(state), &folder, &temporary)
                .map_err(failed("create a temporary link beside"))?;
            self.keep_owner(&folder, name, &temporary);
            renameat(&folder, &temporary, &folder, name).map_err(failed("swap"))?;
        }
        // Also when nothing was to do: the call that did it may have died before this.
        rustix::fs::fsync(&folder).map_err(failed("flush the folder of"))
    }

    /// The one command with which a human makes PATH lead there without livmig.
    pub fn command(&self, state: LinkState) -> String {
        format!(
            "ln -sfn {} {}",
            quote(self.text(state).as_os_str()),
            quote(self.path.as_os_str())
        )
    }

    fn open_folder(&self) -> Result<(OwnedFd, &OsStr), LinkError> {
        let name = self.path.file_name().ok_or_else(|| LinkError::NoName {
            path: self.path.clone(),
        })?;
        let folder = folder_of(&self.path);
        let handle = openat(
            CWD,
            folder,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|errno| LinkError::Io {
            what: "open",
            path: folder.to_owned(),
            source: errno.into(),
        })?;
        Ok((handle, name))
    }

    fn temporary_name(&self, name: &OsStr) -> OsString {
        let mut temporary = OsString::from(".");
        // Names end at 255 bytes; what is cut off is only there for people.
        temporary.push(OsStr::from_bytes(
            name.as_bytes().get(..200).unwrap_or(name.as_bytes()),
        ));
        temporary.push(".livmig-");
        temporary.push(short(&self.uid));
        temporary
    }

    /// Gives the new link the owner of the old one. Nothing depends on it (a link's own owner
    /// matters in sticky folders only), so a refusal does not stop a swap.
    fn keep_owner(&self, folder: &OwnedFd, name: &OsStr, temporary: &OsStr) {
        if let Ok(old) = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            let owner = (Uid::from_raw(old.st_uid), Gid::from_raw(old.st_gid));
            if let Err(errno) = chownat(
                folder,
                temporary,
                Some(owner.0),
                Some(owner.1),
                AtFlags::SYMLINK_NOFOLLOW,
            ) {
                tracing::debug!(path = %self.path.display(), %errno, "owner of the link not kept");
            }
        }
    }
}

/// The text of the link at `path`.
pub fn read(path: &Path) -> Result<PathBuf, LinkError> {
    readlinkat(CWD, path, Vec::new())
        .map(|text| PathBuf::from(OsStr::from_bytes(text.as_bytes())))
        .map_err(|errno| LinkError::Io {
            what: "read the link",
            path: path.to_owned(),
            source: errno.into(),
        })
}

/// Makes the entries of a directory durable.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Whether two paths lead to the same directory.
pub fn same_directory(one: &Path, other: &Path) -> io::Result<bool> {
    let (one, other) = (one.metadata()?, other.metadata()?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

/// The folder that an entry lies in.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// `text` as one word of a POSIX shell. Bytes that are not text are shown as people see them.
pub fn quote(text: &OsStr) -> String {
    let text = text.to_string_lossy();
    let plain =
        |character: char| character.is_ascii_alphanumeric() || "/._-+=:,@%".contains(character);
    if !text.is_empty() && text.chars().all(plain) {
        return text.into_owned();
    }
    if text.chars().any(char::is_control) {
        // A terminal would do what they say.
        let escaped: String = text.chars().map(escaped).collect();
        return format!("$'{escaped}'");
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A character within `$'...'`.
fn escaped(character: char) -> String {
    match character {
        '\'' | '\\' => format!("\\{character}"),
        control if control.is_control() => {
            let bytes = control.to_string();
            let add = |text: String, byte| text + &format!("\\x{byte:02x}");
            bytes.bytes().fold(String::new(), add)
        }
        other => other.to_string(),
    }
}

/// Enough of a migration's identity to tell its traces from those of another.
fn short(uid: &MigrationUid) -> String {
    uid.to_string().chars().take(8).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn a_word_of_a_shell_moves_no_cursor() {
        let word = quote(OsStr::new("a\u{1b}[2J'\n"));
        assert_eq!(word, r"$'a\x1b[2J\'\x0a'");
    }

    fn world() -> (tempfile::TempDir, VolumeLink) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("old")).unwrap();
        fs::create_dir(folder.path().join("new")).unwrap();
        symlink("old", folder.path().join("data")).unwrap();
        let link = VolumeLink::new(
            folder.path().join("data"),
            PathBuf::from("old"),
            folder.path().join("new"),
            MigrationUid([7; 16]),
        );
        (folder, link)
    }

    #[test]
    fn each_value_is_reached_from_each_other_and_again() {
        let (_folder, link) = world();
        let states = [LinkState::Source, LinkState::Fenced, LinkState::Destination];
        for from in states {
            for to in states {
                link.ensure(from).unwrap();
                link.ensure(to).unwrap();
                link.ensure(to).unwrap();
                assert_eq!(link.state().unwrap(), to);
                assert_eq!(link.path.exists(), to != LinkState::Fenced);
            }
        }
        // The original text comes back to the letter, relative as it was.
        link.ensure(LinkState::Source).unwrap();
        assert_eq!(read(&link.path).unwrap(), PathBuf::from("old"));
    }

    #[test]
    fn what_a_crash_left_beside_the_link_is_removed() {
        let (folder, link) = world();
        let left = folder.path().join(link.temporary_name(OsStr::new("data")));
        symlink("somewhere", &left).unwrap();
        link.ensure(LinkState::Destination).unwrap();
        assert!(left.symlink_metadata().is_err());
        assert_eq!(link.state().unwrap(), LinkState::Destination);
    }

    #[test]
    fn a_link_that_somebody_else_changed_is_left_alone() {
        let (folder, link) = world();
        fs::remove_file(&link.path).unwrap();
        symlink("theirs", &link.path).unwrap();
        let error = link.ensure(LinkState::Destination).unwrap_err();
        assert!(matches!(error, LinkError::Foreign { .. }), "{error}");
        assert_eq!(read(&link.path).unwrap(), PathBuf::from("theirs"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn words_for_the_shell_are_quoted() {
        assert_eq!(quote(OsStr::new("/srv/data-1")), "/srv/data-1");
        assert_eq!(quote(OsStr::new("/srv/my data")), "'/srv/my data'");
        assert_eq!(quote(OsStr::new("it's")), r"'it'\''s'");
        assert_eq!(quote(OsStr::new("")), "''");
    }
}

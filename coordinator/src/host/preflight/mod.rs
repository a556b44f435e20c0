//! What can be known before anything is touched: are PATH and the two directories fit for a
//! migration? Reads only.

mod mounts;
mod places;
mod refusal;

pub use refusal::Refusal;

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use livmig_engine::spec::Options;
use livmig_proto::control::Reason;
use rustix::fs::{Access, access};

pub(super) use self::mounts::mounts_below;
use super::symlink;

/// A link and two directories that fit each other; every path is absolute and UTF-8.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Volumes {
    /// PATH, in the canonical name of its folder.
    pub path: PathBuf,
    /// The text that PATH holds.
    pub link_text: PathBuf,
    /// The directory that PATH leads to, canonical.
    pub source: PathBuf,
    /// The directory to move to, canonical; it need not exist yet.
    pub destination: PathBuf,
}

/// Resolves PATH and the destination to what they name now.
pub fn resolve(path: &Path, to: &Path) -> Result<Volumes, Refusal> {
    let path = in_canonical_folder(path)?.ok_or_else(|| Refusal::PathMissing(path.to_owned()))?;
    let kind = match fs::symlink_metadata(&path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Refusal::PathMissing(path));
        }
        Err(source) => return Err(Refusal::Io { path, source }),
    };
    if !kind.is_symlink() {
        let what = if kind.is_dir() {
            "a directory"
        } else if kind.is_file() {
            "a file"
        } else {
            "a special file"
        };
        return Err(Refusal::NotALink { path, what });
    }
    let link_text = fs::read_link(&path).map_err(|source| Refusal::Io {
        path: path.clone(),
        source,
    })?;
    let source = match path.canonicalize() {
        Ok(source) => source,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Refusal::Dangling {
                path,
                text: link_text,
            });
        }
        Err(source) => return Err(Refusal::Io { path, source }),
    };
    let destination = match to.canonicalize() {
        Ok(destination) => destination,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A link that leads nowhere would become a directory by another name.
            if fs::symlink_metadata(to).is_ok() {
                return Err(Refusal::NotADirectory {
                    end: "destination",
                    path: to.to_owned(),
                });
            }
            in_canonical_folder(to)?
                .ok_or_else(|| Refusal::NoParent(symlink::folder_of(to).to_owned()))?
        }
        Err(source) => {
            return Err(Refusal::Io {
                path: to.to_owned(),
                source,
            });
        }
    };
    let volumes = Volumes {
        path,
        link_text,
        source,
        destination,
    };
    for path in [
        &volumes.path,
        &volumes.link_text,
        &volumes.source,
        &volumes.destination,
    ] {
        if path.to_str().is_none() {
            return Err(Refusal::NotUtf8(path.clone()));
        }
    }
    Ok(volumes)
}

/// Checks that the volumes are fit for a migration whose state lies below `state`.
pub fn check(volumes: &Volumes, options: &Options, state: &Path) -> Result<(), Refusal> {
    let Volumes {
        path,
        source,
        destination,
        ..
    } = volumes;
    if !source.is_dir() {
        return Err(Refusal::NotADirectory {
            end: "source",
            path: source.clone(),
        });
    }
    if destination.exists() && !destination.is_dir() {
        return Err(Refusal::NotADirectory {
            end: "destination",
            path: destination.clone(),
        });
    }
    check_apart(source, destination)?;
    for (end, volume) in [("source", source), ("destination", destination)] {
        if state.starts_with(volume) {
            return Err(Refusal::StateInside {
                end,
                state: state.to_owned(),
            });
        }
    }
    let mounts = fs::read("/proc/self/mountinfo").map_err(|source| Refusal::Io {
        path: PathBuf::from("/proc/self/mountinfo"),
        source,
    })?;
    let mounts = livmig_proto::mounts::parse(&mounts);
    places::check_apart(volumes, state, &mounts)?;
    let inside = mounts_below(&mounts, source);
    let consent = &options.leave_out;
    if !inside.is_empty() && !consent.contains(&Reason::Mount) {
        return Err(Refusal::MountInside {
            points: inside.into_iter().collect(),
            consent: consent.clone(),
        });
    }
    allowed("read", source, Access::READ_OK | Access::EXEC_OK)?;
    allowed(
        "change links in",
        symlink::folder_of(path),
        Access::WRITE_OK | Access::EXEC_OK,
    )?;
    if destination.exists() {
        let all = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
        allowed("write to", destination, all)?;
        if !options.adopt
            && let Some(example) = first_entry(destination)?
        {
            return Err(Refusal::NotEmpty {
                path: destination.clone(),
                example,
            });
        }
    } else {
        allowed(
            "create a directory in",
            symlink::folder_of(destination),
            Access::WRITE_OK | Access::EXEC_OK,
        )?;
    }
    Ok(())
}

/// `path` with the folder it lies in made canonical; `None` when that folder does not exist.
fn in_canonical_folder(path: &Path) -> Result<Option<PathBuf>, Refusal> {
    let failed = |source| Refusal::Io {
        path: path.to_owned(),
        source,
    };
    // Without a trailing slash, which would follow the link.
    let plain: PathBuf = std::path::absolute(path)
        .map_err(failed)?
        .components()
        .collect();
    let Some(name) = plain.file_name() else {
        return Ok(Some(plain));
    };
    match symlink::folder_of(&plain).canonicalize() {
        Ok(folder) => Ok(Some(folder.join(name))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed(source)),
    }
}

/// Neither end may be the other or lie inside it, by whatever name or bind mount it is reached.
fn check_apart(source: &Path, destination: &Path) -> Result<(), Refusal> {
    let identity = |path: &Path| -> Result<Option<(u64, u64)>, Refusal> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some((metadata.dev(), metadata.ino()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Refusal::Io {
                path: path.to_owned(),
                source,
            }),
        }
    };
    let (source_id, destination_id) = (identity(source)?, identity(destination)?);
    if source_id == destination_id {
        return Err(Refusal::Same(source.to_owned()));
    }
    for (inner, below, outer, above, above_id) in [
        ("destination", destination, "source", source, source_id),
        ("source", source, "destination", destination, destination_id),
    ] {
        for ancestor in below.ancestors().skip(1) {
            if above_id.is_some() && identity(ancestor)? == above_id {
                return Err(Refusal::Nested {
                    inner,
                    outer,
                    below: below.to_owned(),
                    above: above.to_owned(),
                });
            }
        }
    }
    Ok(())
}

fn allowed(what: &'static str, path: &Path, rights: Access) -> Result<(), Refusal> {
    access(path, rights).map_err(|errno| Refusal::NotAllowed {
        what,
        path: path.to_owned(),
        source: errno.into(),
    })
}

/// An entry of a directory, if it has one that counts.
fn first_entry(path: &Path) -> Result<Option<OsString>, Refusal> {
    let failed = |source| Refusal::Io {
        path: path.to_owned(),
        source,
    };
    for entry in fs::read_dir(path).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        // A fresh ext file system comes with it.
        if name != OsStr::new("lost+found") {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder with `old/`, `new/` (empty), `file` and the links `data`, `nowhere`, `to-file`.
    fn world() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir(root.join("old")).unwrap();
        fs::create_dir(root.join("new")).unwrap();
        fs::write(root.join("file"), "").unwrap();
        symlink("old", root.join("data")).unwrap();
        symlink("gone", root.join("nowhere")).unwrap();
        symlink("file", root.join("to-file")).unwrap();
        (folder, root)
    }

    fn plan(path: &Path, to: &Path, adopt: bool) -> Result<Volumes, Refusal> {
        let volumes = resolve(path, to)?;
        let options = Options {
            adopt,
            ..Options::default()
        };
        check(&volumes, &options, Path::new("/nowhere/state"))?;
        Ok(volumes)
    }

    fn text(refusal: &Refusal, root: &Path) -> String {
        refusal
            .to_string()
            .replace(root.to_str().unwrap(), "<root>")
    }

    #[test]
    fn what_is_fit_is_resolved() {
        let (_folder, root) = world();
        for to in ["new", "not-there-yet", "new/", "old/../new"] {
            let volumes = plan(&root.join("data/"), &root.join(to), false).unwrap();
            assert_eq!(volumes.path, root.join("data"));
            assert_eq!(volumes.link_text, PathBuf::from("old"));
            assert_eq!(volumes.source, root.join("old"));
        }
    }

    #[test]
    fn each_misfit_is_named() {
        let (_folder, root) = world();
        fs::create_dir(root.join("old/sub")).unwrap();
        symlink("old/sub", root.join("sub-link")).unwrap();
        symlink("old", root.join("alias")).unwrap();
        let cases = [
            ("missing", "new", "PATH <root>/missing does not exist"),
            (
                "no/such/folder",
                "new",
                "PATH <root>/no/such/folder does not exist",
            ),
            (
                "old",
                "new",
                "PATH <root>/old is a directory, not a symbolic link",
            ),
            (
                "file",
                "new",
                "PATH <root>/file is a file, not a symbolic link",
            ),
            (
                "nowhere",
                "new",
                "PATH <root>/nowhere leads to gone, which does not exist",
            ),
            (
                "to-file",
                "new",
                "The source <root>/file is not a directory",
            ),
            (
                "data",
                "file",
                "The destination <root>/file is not a directory",
            ),
            (
                "data",
                "nowhere",
                "The destination <root>/nowhere is not a directory",
            ),
            (
                "data",
                "no/such",
                "The destination's folder <root>/no does not exist",
            ),
            (
                "data",
                "old",
                "Source and destination are the same directory: <root>/old",
            ),
            (
                "data",
                "alias",
                "Source and destination are the same directory: <root>/old",
            ),
            (
                "data",
                "alias/inner",
                "The destination lies inside the source: <root>/old/inner is below <root>/old",
            ),
            (
                "sub-link",
                "old",
                "The source lies inside the destination: <root>/old/sub is below <root>/old",
            ),
        ];
        for (path, to, expected) in cases {
            let refusal = plan(&root.join(path), &root.join(to), false).unwrap_err();
            assert_eq!(text(&refusal, &root), expected);
            assert!(!refusal.hint().is_empty());
        }
    }

    #[test]
    fn a_destination_that_holds_something_is_refused_or_adopted() {
        let (_folder, root) = world();
        fs::create_dir(root.join("new/lost+found")).unwrap();
        plan(&root.join("data"), &root.join("new"), false).unwrap();
        fs::write(root.join("new/x"), "").unwrap();
        let refusal = plan(&root.join("data"), &root.join("new"), false).unwrap_err();
        assert_eq!(
            text(&refusal, &root),
            "The destination <root>/new is not empty: it holds \"x\""
        );
        plan(&root.join("data"), &root.join("new"), true).unwrap();
    }

    #[test]
    fn state_inside_a_volume_is_refused() {
        let (_folder, root) = world();
        let volumes = resolve(&root.join("data"), &root.join("new")).unwrap();
        for (end, state) in [
            ("source", "old/state/livmig"),
            ("destination", "new/livmig"),
        ] {
            let refusal = check(&volumes, &Options::default(), &root.join(state)).unwrap_err();
            assert!(
                matches!(refusal, Refusal::StateInside { end: found, .. } if found == end),
                "{refusal}"
            );
        }
    }

    #[test]
    fn a_fenced_link_points_to_its_migration() {
        let (_folder, root) = world();
        let fenced = format!("old{}12345678", symlink::FENCED_MARK);
        symlink(fenced, root.join("fenced")).unwrap();
        let refusal = plan(&root.join("fenced"), &root.join("new"), false).unwrap_err();
        assert!(
            refusal.hint().contains("livmig-coord resume"),
            "{refusal:?}"
        );
    }
}

//! Where the directories lie within their file systems, whatever they are reached by: the mover
//! refuses what is one tree too, but only once there is a migration.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::Path,
};

use livmig_proto::{
    mounts::Mount,
    places::{Located, Look, Relation, TreePlace},
};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::{Refusal, Volumes};

/// Neither end may be the other or lie in it, nor `state` in either, through a mount of any kind.
pub(super) fn check_apart(
    volumes: &Volumes,
    state: &Path,
    mounts: &[Mount],
) -> Result<(), Refusal> {
    let (source, destination) = (&volumes.source, &volumes.destination);
    let of = |path: &Path| TreePlace::of(&locate(path), mounts, &Host);
    let (from, to) = (of(source), of(destination));
    if let Some(overlap) = to.meets(&from) {
        let how = match overlap.relation {
            Relation::Same => "Source and destination are one directory by two names",
            Relation::Inside => "The destination lies inside the source by another name",
            Relation::Around => "The source lies inside the destination by another name",
        };
        return Err(Refusal::Alias {
            how: how.to_owned(),
            one: source.clone(),
            other: destination.clone(),
            why: overlap.alias("destination", "source").unwrap_or_default(),
        });
    }
    let kept = of(state);
    for (end, path, tree) in [("source", source, &from), ("destination", destination, &to)] {
        if let Some(overlap) = kept.lies_in(tree) {
            return Err(Refusal::StateAlias {
                end,
                state: state.to_owned(),
                path: path.clone(),
                why: overlap.alias("state folder", end).unwrap_or_default(),
            });
        }
    }
    Ok(())
}

/// Where `path` leads, as far as it is there.
fn locate(path: &Path) -> Located {
    let real = path
        .ancestors()
        .find_map(|at| Some((at, at.canonicalize().ok()?)));
    let (mount, real) = match real {
        Some((at, real)) => {
            let mount = mount_of(&real);
            let rest = path.strip_prefix(at).unwrap_or(Path::new(""));
            (mount, real.components().chain(rest.components()).collect())
        }
        None => (None, path.to_owned()),
    };
    Located {
        mount,
        path: real.into_os_string().into_vec(),
    }
}

fn mount_of(path: &Path) -> Option<u64> {
    let told = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
    (told.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(told.stx_mnt_id)
}

struct Host;

impl Look for Host {
    fn directory(&self, path: &[u8]) -> Option<Located> {
        let path = Path::new(OsStr::from_bytes(path));
        path.is_dir().then(|| locate(path))
    }

    fn image(&self, device: &[u8]) -> Option<Located> {
        let number = device.strip_prefix(b"/dev/loop")?;
        // A partition of it lies in the same file.
        let number = number.split(|byte| !byte.is_ascii_digit()).next()?;
        let number = std::str::from_utf8(number).ok()?;
        let told = fs::read(format!("/sys/block/loop{number}/loop/backing_file")).ok()?;
        let path = Path::new(OsStr::from_bytes(told.strip_suffix(b"\n")?));
        path.is_file().then(|| locate(path))
    }
}

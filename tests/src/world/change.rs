//! Changes of a source while a pass looks at it, and which of its names were there all the while.

use std::{
    fs::{self, File},
    os::unix::{ffi::OsStrExt as _, fs::symlink},
    path::Path,
};

use anyhow::Result;
use rustix::fs::{CWD, RenameFlags};

use super::{grow, judge::holds};
use crate::{
    mutate,
    rng::Rng,
    tree::{posix, random},
};

/// Names of which nobody can say that the source had them all the while.
#[derive(Debug, Default)]
pub struct Moved {
    /// These and what lies below them.
    with_all: Vec<Vec<u8>>,
    /// What lies below these, but not they themselves.
    below: Vec<Vec<u8>>,
}

impl Moved {
    /// Whether `path` may have been away for a moment.
    pub fn has(&self, path: &[u8]) -> bool {
        let below = |above: &Vec<u8>| holds(above, path) && above.as_slice() != path;
        self.with_all.iter().any(|above| holds(above, path)) || self.below.iter().any(below)
    }
}

/// Makes one random change below `root`, and notes in `moved` what it takes away, before it does.
/// What it was, for people.
pub fn change(root: &Path, rng: &mut Rng, moved: &mut Moved) -> Result<String> {
    let is_file = fs::Metadata::is_file;
    let relative = |path: &Path| {
        let path = path.strip_prefix(root).unwrap_or(path);
        path.as_os_str().as_bytes().to_vec()
    };
    let fresh = |rng: &mut Rng| format!("fresh {}", rng.draw());
    let kind = rng.below(100);
    let Some(victim) = (match kind {
        0..45 => grow::pick(root, rng, is_file)?,
        45..60 => Some(grow::directory(root, rng)?),
        60..72 => grow::pick(root, rng, fs::Metadata::is_dir)?,
        _ => grow::pick(root, rng, |meta| !meta.is_dir())?,
    }) else {
        return Ok("nothing".into());
    };
    let shown = relative(&victim).escape_ascii().to_string();
    let done: Result<&str> = (|| match kind {
        0..25 => {
            // As editors and data bases replace files, some of them again and again.
            for _ in 0..=rng.below(4) {
                let other = victim.with_file_name(fresh(rng));
                fs::write(&other, rng.bytes(3000))?;
                fs::rename(other, &victim)?;
            }
            Ok("replaced")
        }
        25..35 => {
            mutate::rewrite_pages(&victim, 2, rng)?;
            Ok("rewritten")
        }
        35..45 => {
            let length = rng.below(9000);
            File::options().write(true).open(&victim)?.set_len(length)?;
            Ok("cut or grown")
        }
        45..55 => {
            random::file(&victim.join(fresh(rng)), rng)?;
            Ok("a new file in it")
        }
        55..60 => {
            let dir = victim.join(fresh(rng));
            fs::create_dir(&dir)?;
            fs::write(dir.join("in it"), "in it")?;
            Ok("a new directory in it")
        }
        60..66 => {
            // The name stays; what is below it is new.
            moved.below.push(relative(&victim));
            let other = victim.with_file_name(fresh(rng));
            fs::create_dir(&other)?;
            fs::write(other.join("of the new one"), "new")?;
            rustix::fs::renameat_with(CWD, &victim, CWD, &other, RenameFlags::EXCHANGE)?;
            Ok("another directory")
        }
        66..72 => {
            moved.with_all.push(relative(&victim));
            let to = grow::directory(root, rng)?.join(fresh(rng));
            fs::rename(&victim, to)?;
            Ok("moved with all below")
        }
        72..80 => {
            let other = victim.with_file_name(fresh(rng));
            symlink("elsewhere", &other)?;
            rustix::fs::renameat_with(CWD, &victim, CWD, &other, RenameFlags::EXCHANGE)?;
            fs::remove_file(other)?;
            Ok("now a symbolic link")
        }
        80..86 => {
            let to = grow::directory(root, rng)?.join(fresh(rng));
            fs::hard_link(&victim, to)?;
            Ok("one more name")
        }
        86..92 => {
            moved.with_all.push(relative(&victim));
            fs::remove_file(&victim)?;
            Ok("removed")
        }
        92..96 => {
            moved.with_all.push(relative(&victim));
            let to = grow::directory(root, rng)?.join(fresh(rng));
            fs::rename(&victim, to)?;
            Ok("moved")
        }
        _ => {
            posix::set_mtime(&victim, 1_000_000_000, 1)?;
            Ok("older")
        }
    })();
    let what = match done {
        Ok(what) => what,
        Err(error) => {
            grow::tolerated(Err(error))?;
            "refused"
        }
    };
    Ok(format!("{shown}: {what}"))
}

/// Changes between runs, of a copy that somebody else made.
pub(super) fn age(root: &Path, count: usize, rng: &mut Rng) -> Result<()> {
    for _ in 0..count {
        grow::tolerated(mutate::apply(root, 1, rng).map(drop))?;
    }
    Ok(())
}

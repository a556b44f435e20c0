//! Whether two trees are equal in everything that a migration must carry: type, bytes, holes,
//! mode, owner, times, links, devices, attributes, directories and the root among them.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::snapshot::{Entry, Snapshot};

/// Storage that a copy may take beyond its original: a file system's own tail and tree blocks.
const SLACK: u64 = 64 * 1024;

/// Of the original's storage, the share that a copy may take beyond it: a hole smaller than the
/// mover's blocks of 8 KiB is filled.
const SHARE: u64 = 8;

/// Differences shown when trees differ; the rest is counted.
const SHOWN: usize = 40;

/// Fails, naming the differences, unless the trees at `a` and `b` are equal.
pub fn expect_equal(a: &Path, b: &Path) -> Result<()> {
    let differences = differences(&Snapshot::of(a)?, &Snapshot::of(b)?);
    ensure!(
        differences.is_empty(),
        "{} and {} differ in {} ways:\n{}",
        a.display(),
        b.display(),
        differences.len(),
        differences.get(..SHOWN).unwrap_or(&differences).join("\n")
    );
    Ok(())
}

/// Fails, naming the differences, unless the tree at `dir` is still as it was `before`.
pub fn expect_unchanged(before: &Snapshot, dir: &Path) -> Result<()> {
    // Not by equality: when a file system allocates what was written, storage changes by itself.
    let differences = differences(before, &Snapshot::of(dir)?);
    ensure!(
        differences.is_empty(),
        "{} was changed: {}",
        dir.display(),
        differences.join("\n")
    );
    Ok(())
}

/// How the copy `b` differs from the original `a`, one line each; empty when it does not.
pub fn differences(a: &Snapshot, b: &Snapshot) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, original) in &a.entries {
        match b.entries.get(path) {
            None => lines.push(format!("{}: missing", path.escape_ascii())),
            Some(copy) => {
                for difference in of_entry(original, copy) {
                    lines.push(format!("{}: {difference}", path.escape_ascii()));
                }
            }
        }
    }
    for path in b.entries.keys() {
        if !a.entries.contains_key(path) {
            lines.push(format!("{}: not in the original", path.escape_ascii()));
        }
    }
    lines
}

fn of_entry(a: &Entry, b: &Entry) -> Vec<String> {
    let mut lines = Vec::new();
    let mut differs = |what: &str, a: String, b: String| {
        if a != b {
            lines.push(format!("{what} is {b}, was {a}"));
        }
    };
    differs("mode", format!("{:o}", a.mode), format!("{:o}", b.mode));
    differs("owner", format!("{:?}", a.owner), format!("{:?}", b.owner));
    differs("mtime", format!("{:?}", a.mtime), format!("{:?}", b.mtime));
    differs("size", a.size.to_string(), b.size.to_string());
    differs("device", a.rdev.to_string(), b.rdev.to_string());
    differs(
        "link",
        shown(a.linked_to.as_ref()),
        shown(b.linked_to.as_ref()),
    );
    differs("target", shown(a.target.as_ref()), shown(b.target.as_ref()));
    differs("content", digest(a), digest(b));
    for name in a.xattrs.keys().chain(b.xattrs.keys()) {
        let (was, is) = (a.xattrs.get(name), b.xattrs.get(name));
        if was != is {
            lines.push(format!(
                "attribute {} is {}, was {}",
                name.escape_ascii(),
                shown(is),
                shown(was)
            ));
        }
    }
    if b.allocated > a.allocated + a.allocated / SHARE + SLACK {
        lines.push(format!(
            "takes {} bytes of storage, took {}",
            b.allocated, a.allocated
        ));
    }
    lines
}

fn shown(bytes: Option<&Vec<u8>>) -> String {
    match bytes {
        None => "absent".into(),
        Some(bytes) if bytes.len() > 64 => format!("{} bytes", bytes.len()),
        Some(bytes) => format!("\"{}\"", bytes.escape_ascii()),
    }
}

fn digest(entry: &Entry) -> String {
    entry.content.map_or("absent".into(), |content| {
        blake3::Hash::from_bytes(content).to_string()
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{scratch::Scratch, skip_part, tree::attribute};

    /// A tree compared with itself after one change at a time: each must be seen.
    #[test]
    fn every_single_change_is_seen() {
        let scratch = Scratch::new().unwrap();
        for change in attribute::Attribute::ALL {
            let root = scratch.dir(&format!("{change:?}")).unwrap();
            attribute::make(&root).unwrap();
            let before = Snapshot::of(&root).unwrap();
            match change.apply(&root).unwrap() {
                attribute::Applied::Yes => {
                    let seen = differences(&before, &Snapshot::of(&root).unwrap());
                    assert!(!seen.is_empty(), "{change:?} was not seen");
                }
                attribute::Applied::No(need) => skip_part!(format!("{change:?} needs {need}")),
            }
        }
    }

    #[test]
    fn filling_a_hole_is_seen() {
        let scratch = Scratch::new().unwrap();
        let [a, b] = ["a", "b"].map(|name| scratch.dir(name).unwrap());
        let file = fs::File::create(a.join("f")).unwrap();
        file.set_len(1 << 20).unwrap();
        fs::write(b.join("f"), vec![0; 1 << 20]).unwrap();
        let seen = differences(&Snapshot::of(&a).unwrap(), &Snapshot::of(&b).unwrap());
        assert!(seen.iter().any(|line| line.contains("storage")), "{seen:?}");
    }
}

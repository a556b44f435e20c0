//! What is built once and kept outside the checkout: by name and by a digest of everything that
//! it is made from, so that a change makes a new one and nothing is ever out of date.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use ring::digest::{Context, SHA256};

/// How often it is said that something is still being made.
const TELL: Duration = Duration::from_secs(20);

/// The cache, held by this program alone until it is dropped.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    _lock: File,
}

impl Cache {
    /// Opens the cache in `folder` and waits until no other program works on it.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)
            .with_context(|| format!("The cache {} could not be made", folder.display()))?;
        let lock = File::create(folder.join("lock"))?;
        if lock.try_lock().is_err() {
            println!("Waiting for another build of the cluster's programs.");
            lock.lock()?;
        }
        Ok(Self {
            folder: folder.to_owned(),
            _lock: lock,
        })
    }

    /// The file `name` made from `parts`: the kept one, or what `make` puts at the path it gets.
    /// What `make` leaves half-done is never taken for the file.
    pub(super) fn get(
        &self,
        name: &str,
        parts: &[Vec<u8>],
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let path = self.folder.join(format!("{name}-{}", digest(parts)));
        if path.exists() {
            return Ok(path);
        }
        println!("Making {name} (once; kept in {})", self.folder.display());
        let partial = self.folder.join(format!("{name}.partial"));
        let _none_left_over = fs::remove_dir_all(&partial);
        fs::create_dir_all(&partial)?;
        let file = partial.join("file");
        telling(name, || make(&file)).with_context(|| format!("{name} could not be made"))?;
        fs::rename(&file, &path)?;
        fs::remove_dir_all(&partial)?;
        Ok(path)
    }
}

/// Does `work` and says now and then that it goes on: a build of Kubernetes takes minutes and prints
/// nothing.
fn telling<T>(name: &str, work: impl FnOnce() -> T) -> T {
    let (done, ended) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            let begun = Instant::now();
            while ended.recv_timeout(TELL) == Err(RecvTimeoutError::Timeout) {
                println!("  still making {name}, for {} s", begun.elapsed().as_secs());
            }
        });
        let made = work();
        drop(done);
        made
    })
}

/// Sixteen characters for `parts`, in this order and with these ends.
fn digest(parts: &[Vec<u8>]) -> String {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part);
    }
    hex(context.finish().as_ref()).chars().take(16).collect()
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// The content of every file below `folder` with its name, in order; but for Go's tests, which no
/// program holds.
pub(super) fn content(folder: &Path) -> Result<Vec<Vec<u8>>> {
    let mut parts = Vec::new();
    let mut entries: Vec<_> = fs::read_dir(folder)
        .with_context(|| format!("{} could not be read", folder.display()))?
        .collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        if entry.file_type()?.is_dir() {
            parts.extend(content(&entry.path())?);
        } else if !entry.file_name().as_encoded_bytes().ends_with(b"_test.go") {
            parts.push(entry.file_name().into_encoded_bytes());
            parts.push(fs::read(entry.path())?);
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_and_every_border_counts() {
        let of = |parts: &[&str]| {
            let parts: Vec<_> = parts.iter().map(|part| part.as_bytes().to_vec()).collect();
            digest(&parts)
        };
        assert_eq!(of(&["a", "b"]), of(&["a", "b"]));
        assert_ne!(of(&["a", "b"]), of(&["b", "a"]));
        assert_ne!(of(&["ab", ""]), of(&["a", "b"]));
        assert_eq!(of(&[]).len(), 16);
    }
}

//! The stage of a demonstration: its folder, its volume, the link to it.

use std::{
    env, fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use ring::rand::{SecureRandom as _, SystemRandom};
use rustix::fs::{FsWord, statfs};

use super::{
    data,
    layout::{DemoWorkload, Layout},
};

/// Linux's magic number of tmpfs.
const TMPFS: FsWord = 0x0102_1994;

/// Claims a folder for a demonstration: the one asked for, which must be new or empty, or a fresh
/// one.
pub fn claim(asked: Option<&Path>) -> io::Result<Layout> {
    let folder = if let Some(folder) = asked {
        fs::create_dir_all(folder)?;
        if fs::read_dir(folder)?.next().is_some() {
            return Err(io::Error::other(format!(
                "{} is not empty",
                folder.display()
            )));
        }
        folder.to_owned()
    } else {
        let folder = temporary().join(format!("livmig-demo-{:016x}", random()?));
        fs::create_dir(&folder)?;
        folder
    };
    Ok(Layout::new(folder.canonicalize()?))
}

/// Makes the volume, the link and what the workload needs. Gives up soon after `stop` is set.
pub fn set(layout: &Layout, size: u64, files: u64, rate: u32, stop: &AtomicBool) -> io::Result<()> {
    fs::create_dir(layout.old())?;
    fs::create_dir(layout.outside())?;
    let seed = random()?;
    let pages = data::build(&layout.old(), size, files, seed, stop)?;
    let settings = DemoWorkload { seed, pages, rate };
    fs::write(layout.settings(), serde_json::to_vec(&settings)?)?;
    symlink("old-volume", layout.link())
}

/// Where temporary files belong. In memory every pass reads everything again, since no timestamp
/// there proves a file unchanged; a disk shows more, so it is preferred unless the user chose.
fn temporary() -> PathBuf {
    let on_disk = |path: &PathBuf| statfs(path).is_ok_and(|facts| facts.f_type != TMPFS);
    if env::var_os("TMPDIR").is_some() {
        return env::temp_dir();
    }
    [env::temp_dir(), PathBuf::from("/var/tmp")]
        .into_iter()
        .find(on_disk)
        .unwrap_or_else(env::temp_dir)
}

fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| io::Error::other("the system's randomness failed"))?;
    Ok(u64::from_le_bytes(bytes))
}

//! Who still holds a volume: processes that have a file below it open for writing, map one
//! shared and writable, hold one of its directories, or stand in one.
//!
//! A process that only reads a file is no danger and is not named. What /proc does not show (a
//! process of another mount namespace that reaches the volume by another name) the source mover
//! finds by file leases in the final pass.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fmt, fs, io,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
};

use livmig_proto::name::escape;
use rustix::fs::OFlags;

use super::process::{self, is_gone};
use super::{held, text::shown};

/// One process that holds the volume, by one of its files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// Its name, as `ps` shows it.
    pub command: String,
    /// What it holds it by.
    pub how: Hold,
    /// The entry.
    pub path: PathBuf,
}

/// By what a process holds an entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hold {
    /// A file, open for writing.
    Open,
    /// A file, mapped so that stores reach it.
    Mapped,
    /// A directory, open: files can be created through it.
    Directory,
    /// The working directory.
    Cwd,
    /// The root directory.
    Root,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.how {
            Hold::Open => "has open for writing",
            Hold::Mapped => "maps writable",
            Hold::Directory => "has the directory open",
            Hold::Cwd => "works in",
            Hold::Root => "has as its root",
        };
        write!(
            f,
            "process {} ({}) {how}: {}",
            self.pid,
            escape(self.command.as_bytes()),
            shown(&self.path)
        )
    }
}

/// What a look through /proc found.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Who holds the volume, one entry for each process.
    pub holders: Vec<Holder>,
    /// Processes of other users that could not be looked into.
    pub unseen: usize,
}

/// Looks through /proc for processes that hold an entry below `root`, which must be canonical.
/// Processes in `except` are not looked at.
pub fn survey(root: &Path, except: &BTreeSet<u32>) -> io::Result<Survey> {
    let mut found = Survey::default();
    for pid in process::ids()? {
        let pid = pid?;
        if except.contains(&pid) {
            continue;
        }
        match look_into(pid, root) {
            Ok(None) => {}
            Ok(Some((how, path))) => found.holders.push(Holder {
                pid,
                command: command_of(pid),
                how,
                path,
            }),
            Err(error) if is_gone(&error) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => found.unseen += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The first thing by which a process holds an entry below `root`.
fn look_into(pid: u32, root: &Path) -> io::Result<Option<(Hold, PathBuf)>> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    for entry in fs::read_dir(process.join("fd"))? {
        let number = entry?.file_name();
        let path = match held::below(&process.join("fd").join(&number), root) {
            Ok(Some(path)) => path,
            Ok(None) => continue,
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(error),
        };
        let facts = match fs::read(process.join("fdinfo").join(&number)) {
            Ok(facts) => String::from_utf8_lossy(&facts).into_owned(),
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(error),
        };
        // A directory may be open without the flag that asks for one.
        let is_directory =
            fs::metadata(process.join("fd").join(&number)).is_ok_and(|metadata| metadata.is_dir());
        let how = if is_directory {
            Some(Hold::Directory)
        } else {
            open_flags(&facts).and_then(hold_by_flags)
        };
        if let Some(how) = how {
            return Ok(Some((how, path)));
        }
    }
    for (name, how) in [("cwd", Hold::Cwd), ("root", Hold::Root)] {
        match held::below(&process.join(name), root) {
            Ok(Some(path)) => return Ok(Some((how, path))),
            Ok(None) => {}
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    // A file may be closed and still be written through its mapping.
    let maps = fs::read(process.join("maps"))?;
    match shared_mapping(&maps, root) {
        None => Ok(None),
        Some((path, Access::Write)) => Ok(Some((Hold::Mapped, path))),
        Some((_, Access::Read)) => {
            let maps = fs::read(process.join("smaps"))?;
            Ok(may_write_mapping(&maps, root).map(|path| (Hold::Mapped, path)))
        }
    }
}

fn command_of(pid: u32) -> String {
    fs::read(format!("/proc/{pid}/comm")).map_or_else(
        |_| "?".to_owned(),
        |name| String::from_utf8_lossy(&name).trim_end().to_owned(),
    )
}

/// Whether `path` is `root` or lies below it.
fn is_below(path: &Path, root: &Path) -> bool {
    path.starts_with(root)
}

/// The open flags in the text of /proc/PID/fdinfo/N.
fn open_flags(facts: &str) -> Option<OFlags> {
    let octal = facts
        .lines()
        .find_map(|line| line.strip_prefix("flags:"))?
        .trim();
    u32::from_str_radix(octal, 8)
        .ok()
        .map(OFlags::from_bits_retain)
}

/// Whether a file's descriptor with these flags endangers the volume: one that only names the
/// file (`O_PATH`) or only reads it does not.
fn hold_by_flags(flags: OFlags) -> Option<Hold> {
    if flags.contains(OFlags::PATH) {
        return None;
    }
    let access = flags & OFlags::ACCMODE;
    (access == OFlags::WRONLY || access == OFlags::RDWR).then_some(Hold::Open)
}

/// What a mapping allows now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Access {
    Read,
    Write,
}

/// The shared mapping of an entry below `root` that allows most.
fn shared_mapping(maps: &[u8], root: &Path) -> Option<(PathBuf, Access)> {
    let shared = || {
        maps.split(|byte| *byte == b'\n')
            .filter_map(mapping)
            .filter(|(permissions, path)| permissions.get(3) == Some(&b's') && is_below(path, root))
    };
    shared()
        .find(|(permissions, _)| permissions.get(1) == Some(&b'w'))
        .map(|(_, path)| (path, Access::Write))
        .or_else(|| shared().next().map(|(_, path)| (path, Access::Read)))
}

/// A shared mapping below `root` that its process may make writable whenever it likes: the file
/// was open for writing when it was mapped.
fn may_write_mapping(smaps: &[u8], root: &Path) -> Option<PathBuf> {
    let mut current = None;
    for line in smaps.split(|byte| *byte == b'\n') {
        if let Some(flags) = line.strip_prefix(b"VmFlags:") {
            let has = |wanted: &[u8]| {
                flags
                    .split(u8::is_ascii_whitespace)
                    .any(|flag| flag == wanted)
            };
            let path = current.take();
            if has(b"mw") && has(b"sh") && path.is_some() {
                return path;
            }
        } else if let Some((_, path)) = mapping(line) {
            current = is_below(&path, root).then_some(path);
        }
    }
    None
}

/// Permissions and path of a line of /proc/PID/maps, when it maps a named entry.
fn mapping(line: &[u8]) -> Option<(&[u8], PathBuf)> {
    let mut rest = line;
    let mut fields: [&[u8]; 5] = [&[]; 5];
    for field in &mut fields {
        let end = rest.iter().position(|byte| *byte == b' ')?;
        (*field, rest) = rest.split_at_checked(end)?;
        rest = rest.trim_ascii_start();
    }
    let [range, permissions, ..] = fields;
    // A mapping begins with its range of addresses; other lines of smaps with a word.
    (range.contains(&b'-') && rest.first() == Some(&b'/')).then(|| {
        (
            permissions,
            PathBuf::from(OsString::from_vec(unescape(rest))),
        )
    })
}

/// The kernel writes a newline in a path as `\012`.
fn unescape(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        if let Some(tail) = rest.strip_prefix(br"\012") {
            plain.push(b'\n');
            rest = tail;
        } else {
            plain.push(*first);
            rest = after;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        process::{Child, Command, Stdio},
    };

    use super::*;

    /// A child that waits on its standard input with `file` as its standard output.
    fn holding(file: File, folder: &Path) -> Child {
        Command::new("cat")
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(file)
            .spawn()
            .unwrap()
    }

    fn end(mut child: Child) {
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    /// Who holds `root`, of the processes in `among`: a child that another test is just
    /// starting holds copies of this process's descriptors for a moment.
    fn holders_of(root: &Path, among: &[u32]) -> Vec<Holder> {
        let except = BTreeSet::from([std::process::id()]);
        let mut holders = survey(&root.canonicalize().unwrap(), &except)
            .unwrap()
            .holders;
        holders.retain(|holder| among.contains(&holder.pid));
        holders
    }

    #[test]
    fn a_process_with_a_file_open_for_writing_is_named_until_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a b\nc");
        let child = holding(File::create(&path).unwrap(), Path::new("/"));
        let pid = child.id();
        let holders = holders_of(folder.path(), &[pid]);
        assert_eq!(holders.len(), 1, "{holders:?}");
        assert_eq!(holders[0].pid, child.id());
        assert_eq!(holders[0].how, Hold::Open);
        assert_eq!(holders[0].path, path.canonicalize().unwrap());
        // The program may not have replaced its own name yet; its pid is what counts.
        assert!(holders[0].to_string().contains("has open for writing"));
        end(child);
        assert!(holders_of(folder.path(), &[pid]).is_empty());
    }

    #[test]
    fn a_deleted_file_still_counts_and_a_reader_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let writer = holding(File::create(&path).unwrap(), Path::new("/"));
        let reader = holding(File::open(&path).unwrap(), Path::new("/"));
        fs::remove_file(&path).unwrap();
        let holders = holders_of(folder.path(), &[writer.id(), reader.id()]);
        assert_eq!(
            holders.iter().map(|holder| holder.pid).collect::<Vec<_>>(),
            [writer.id()]
        );
        end(writer);
        end(reader);
    }

    #[test]
    fn a_working_directory_and_a_directory_handle_count() {
        let folder = tempfile::tempdir().unwrap();
        let inside = holding(File::create("/dev/null").unwrap(), folder.path());
        let handle = holding(File::open(folder.path()).unwrap(), Path::new("/"));
        let mut holders = holders_of(folder.path(), &[inside.id(), handle.id()]);
        holders.sort_by_key(|holder| holder.pid);
        let mut expected = [(inside.id(), Hold::Cwd), (handle.id(), Hold::Directory)];
        expected.sort_by_key(|(pid, _)| *pid);
        assert_eq!(
            holders
                .iter()
                .map(|holder| (holder.pid, holder.how))
                .collect::<Vec<_>>(),
            expected
        );
        end(inside);
        end(handle);
    }

    #[test]
    fn a_neighbour_with_a_longer_name_does_not_count() {
        assert!(is_below(Path::new("/srv/data/x"), Path::new("/srv/data")));
        assert!(is_below(Path::new("/srv/data"), Path::new("/srv/data")));
        assert!(!is_below(Path::new("/srv/data2/x"), Path::new("/srv/data")));
    }

    #[test]
    fn mappings_that_reach_the_file_are_told_from_those_that_do_not() {
        let root = Path::new("/srv/data");
        let line = |permissions: &str, path: &str| {
            format!("7f0000000000-7f0000001000 {permissions} 00000000 fd:00 12  {path}\n")
        };
        let private = line("rw-p", "/srv/data/x");
        let elsewhere = line("rw-s", "/srv/other/x");
        let reading = line("r--s", "/srv/data/y z");
        let writing = line("rw-s", r"/srv/data/a\012b");
        assert_eq!(
            shared_mapping((private + &elsewhere).as_bytes(), root),
            None
        );
        assert_eq!(
            shared_mapping(reading.as_bytes(), root),
            Some((PathBuf::from("/srv/data/y z"), Access::Read))
        );
        assert_eq!(
            shared_mapping((reading.clone() + &writing).as_bytes(), root),
            Some((PathBuf::from("/srv/data/a\nb"), Access::Write))
        );

        let may_write = format!("{reading}Size:   4 kB\nVmFlags: rd mr mw me sh sd \n");
        let may_not = format!("{reading}Size:   4 kB\nVmFlags: rd mr me ms sd \n");
        assert!(may_write_mapping(may_write.as_bytes(), root).is_some());
        assert!(may_write_mapping(may_not.as_bytes(), root).is_none());
    }

    #[test]
    fn flags_of_descriptors_are_read_as_octal() {
        let flags = open_flags("pos:\t0\nflags:\t0100002\nmnt_id:\t29\n").unwrap();
        assert_eq!(hold_by_flags(flags), Some(Hold::Open));
        assert_eq!(hold_by_flags(OFlags::RDONLY), None);
        assert_eq!(hold_by_flags(OFlags::PATH | OFlags::RDWR), None);
    }
}

//! Extended attributes: how both ends read and write those of an entry, also of one that cannot be
//! opened.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use livmig_proto::{
    attributes::{Carry, Treatment, is_plain_nfs4_acl, rank},
    control::Reason,
    entry::Xattr,
    limits::{XATTR_NAME_MAX, XATTR_TOTAL_MAX, XATTR_VALUE_MAX},
};
use rustix::{fs::XattrFlags, io::Errno};

/// What was read of an entry's attributes.
#[derive(Debug, Default)]
pub struct ReadAttributes {
    /// Those that count, sorted by name.
    pub carried: Vec<Xattr>,
    /// At a source, the names of those that are left out, and why.
    pub left: Vec<(Reason, Vec<u8>)>,
}

/// Which attributes of an entry count.
#[derive(Clone, Copy, Debug)]
pub enum View {
    /// Of one that is to be carried.
    Source(Carry),
    /// Of one that is to be like the source's.
    Destination(Carry),
}

/// Why the attributes of an entry could not be read.
#[derive(Debug)]
pub enum ReadError {
    /// They could not be listed.
    List(Errno),
    /// This one could not be read.
    Value(Vec<u8>, Errno),
    /// They are more than one entry may have.
    TooMuch,
}

/// How the attributes of an entry are reached.
#[derive(Debug)]
pub enum Reach<'f> {
    /// By a descriptor that it was opened with.
    Descriptor(BorrowedFd<'f>),
    /// With `O_PATH` handles through /proc, whose entry for a descriptor leads to exactly what it
    /// holds, a symbolic link too, without resolving a name.
    Link(String),
}

impl<'f> Reach<'f> {
    /// Of what was opened to be read or written.
    pub fn of_open(fd: &'f impl AsFd) -> Self {
        Self::Descriptor(fd.as_fd())
    }

    /// Of what was opened with `O_PATH`.
    pub fn of_handle(handle: impl AsFd) -> Self {
        Self::Link(proc_link(handle))
    }

    /// What the kernel lists.
    fn names(&self) -> Result<Vec<u8>, ReadError> {
        match grown(|buffer| self.list(buffer)) {
            Err(Errno::OPNOTSUPP) => Ok(Vec::new()),
            listed => listed.map_err(ReadError::List),
        }
    }

    fn list(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Descriptor(fd) => rustix::fs::flistxattr(fd, buffer),
            Self::Link(link) => rustix::fs::listxattr(link.as_str(), buffer),
        }
    }

    fn get(&self, name: &[u8], buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Descriptor(fd) => rustix::fs::fgetxattr(fd, name, buffer),
            Self::Link(link) => rustix::fs::getxattr(link.as_str(), name, buffer),
        }
    }

    fn set(&self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        let flags = XattrFlags::empty();
        match self {
            Self::Descriptor(fd) => rustix::fs::fsetxattr(fd, name, value, flags),
            Self::Link(link) => rustix::fs::setxattr(link.as_str(), name, value, flags),
        }
    }

    fn remove(&self, name: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Descriptor(fd) => rustix::fs::fremovexattr(fd, name),
            Self::Link(link) => rustix::fs::removexattr(link.as_str(), name),
        }
    }
}

/// The attributes of an entry.
pub fn read(reach: &Reach<'_>, view: View) -> Result<ReadAttributes, ReadError> {
    let list = reach.names()?;
    let mut attributes = ReadAttributes::default();
    let mut total = 0;
    for name in names(&list) {
        let treatment = match view {
            View::Source(carry) => carry.treatment(name, &list),
            View::Destination(carry) if carry.counts(name) => Treatment::Carried,
            View::Destination(_) => Treatment::Spared,
        };
        let mut leave = |reason| attributes.left.push((reason, name.to_vec()));
        match treatment {
            Treatment::Carried | Treatment::Nfs4Acl => {}
            Treatment::Left(reason) => {
                leave(reason);
                continue;
            }
            Treatment::Spared => continue,
        }
        let value = match (grown(|buffer| reach.get(name, buffer)), view) {
            (Ok(value), _) => value,
            // Gone since it was listed, which the change time tells the next pass. Or there, and this
            // process has no right to know.
            (Err(Errno::NODATA), View::Source(_)) => {
                if names(&reach.names()?).any(|listed| listed == name) {
                    leave(Reason::AttributesUnreadable);
                }
                continue;
            }
            (Err(Errno::NODATA), View::Destination(_)) => continue,
            (Err(Errno::ACCESS | Errno::PERM), View::Source(_)) => {
                leave(Reason::AttributesUnreadable);
                continue;
            }
            (Err(errno), _) => return Err(ReadError::Value(name.to_vec(), errno)),
        };
        if treatment == Treatment::Nfs4Acl {
            if !is_plain_nfs4_acl(&value) {
                leave(Reason::AttributesUnsupported);
            }
            continue;
        }
        total += name.len() + value.len();
        if total > XATTR_TOTAL_MAX || name.len() > XATTR_NAME_MAX {
            return Err(ReadError::TooMuch);
        }
        attributes.carried.push(Xattr {
            name: name.to_vec(),
            value,
        });
    }
    attributes.carried.sort_unstable();
    Ok(attributes)
}

/// Makes the attributes of an entry, of which `present` count, exactly `wanted`. On failure, also the
/// attribute.
pub fn write(reach: &Reach<'_>, present: &[Xattr], wanted: &[Xattr]) -> Result<(), WriteError> {
    for old in present {
        if wanted.iter().all(|new| new.name != old.name) {
            match reach.remove(&old.name) {
                Ok(()) | Err(Errno::NODATA) => {}
                Err(errno) => return Err(WriteError::new("remove", &old.name, errno)),
            }
        }
    }
    let mut missing: Vec<&Xattr> = wanted.iter().filter(|new| !present.contains(new)).collect();
    missing.sort_by_key(|new| rank(&new.name));
    for new in missing {
        reach
            .set(&new.name, &new.value)
            .map_err(|errno| WriteError::new("set", &new.name, errno))?;
    }
    Ok(())
}

/// An attribute could not be set or removed.
#[derive(Debug)]
pub struct WriteError {
    /// Which of the two.
    pub what: &'static str,
    /// Its name.
    pub name: Vec<u8>,
    /// Why.
    pub errno: Errno,
}

impl WriteError {
    fn new(what: &'static str, name: &[u8], errno: Errno) -> Self {
        let name = name.to_vec();
        Self { what, name, errno }
    }
}

/// The names in what the kernel lists.
fn names(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
}

/// The path that leads to what a descriptor of this process holds.
pub fn proc_link(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// Calls with a buffer that usually suffices, then with the largest that can be needed.
fn grown(mut call: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut small = [0; 512];
    match call(&mut small) {
        Ok(len) => return Ok(small.get(..len).unwrap_or_default().to_vec()),
        Err(Errno::RANGE) => {}
        Err(errno) => return Err(errno),
    }
    let mut large = vec![0; XATTR_VALUE_MAX];
    let len = call(&mut large)?;
    large.truncate(len);
    Ok(large)
}

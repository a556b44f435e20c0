//! Extended attributes: what is carried, what is not, and how both ends reach those of an entry
//! that cannot be opened.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use livmig_proto::{
    entry::Xattr,
    limits::{XATTR_NAME_MAX, XATTR_TOTAL_MAX, XATTR_VALUE_MAX},
};
use rustix::{fs::XattrFlags, io::Errno};

/// The attribute that holds a file's capabilities. Any write to the file removes it, so it is
/// set after everything else.
pub const CAPABILITY: &[u8] = b"security.capability";

const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";

/// What was read of an entry's attributes.
#[derive(Debug, Default)]
pub struct Attributes {
    /// Those that are carried, sorted by name.
    pub carried: Vec<Xattr>,
    /// The names of the others.
    pub left: Vec<Vec<u8>>,
}

/// Whether an attribute is carried: users' own, access control lists, file capabilities. The
/// others belong to the system that made them (labels, signatures) or cannot be seen by all.
pub fn is_carried(name: &[u8]) -> bool {
    name.starts_with(b"user.") || [CAPABILITY, ACL_ACCESS, ACL_DEFAULT].contains(&name)
}

/// How the attributes of an entry are reached.
enum Reach<'f> {
    Descriptor(BorrowedFd<'f>),
    /// With `O_PATH` handles through /proc, whose entry for a descriptor leads to exactly what it
    /// holds, without resolving a name.
    Link(String),
}

impl<'f> Reach<'f> {
    fn of(fd: BorrowedFd<'f>, is_path: bool) -> Self {
        if is_path {
            Self::Link(proc_link(fd))
        } else {
            Self::Descriptor(fd)
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

/// The attributes of what `fd` refers to, which `is_path` if it was opened with `O_PATH`.
pub fn read(fd: impl AsFd, is_path: bool) -> Result<Attributes, Errno> {
    let reach = Reach::of(fd.as_fd(), is_path);
    let list = grown(|buffer| reach.list(buffer));
    let list = match list {
        Ok(list) => list,
        Err(Errno::OPNOTSUPP) => return Ok(Attributes::default()),
        Err(errno) => return Err(errno),
    };
    let mut attributes = Attributes::default();
    for name in list
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        if !is_carried(name) {
            attributes.left.push(name.to_vec());
            continue;
        }
        let value = grown(|buffer| reach.get(name, buffer));
        match value {
            Ok(value) => attributes.carried.push(Xattr {
                name: name.to_vec(),
                value,
            }),
            // Gone since it was listed: the change time tells the next pass.
            Err(Errno::NODATA) => {}
            Err(errno) => return Err(errno),
        }
    }
    let total: usize = attributes
        .carried
        .iter()
        .map(|x| x.name.len() + x.value.len())
        .sum();
    let fits = attributes
        .carried
        .iter()
        .all(|x| x.name.len() <= XATTR_NAME_MAX && x.value.len() <= XATTR_VALUE_MAX);
    if total > XATTR_TOTAL_MAX || !fits {
        return Err(Errno::TOOBIG);
    }
    attributes.carried.sort_unstable();
    Ok(attributes)
}

/// Makes the carried attributes of what `fd` refers to, which are `present`, exactly `wanted`;
/// `capabilities` chooses between [`CAPABILITY`] and all others. On failure, also the attribute.
pub fn write(
    fd: impl AsFd,
    is_path: bool,
    present: &[Xattr],
    wanted: &[Xattr],
    capabilities: bool,
) -> Result<(), (Errno, Vec<u8>)> {
    let reach = Reach::of(fd.as_fd(), is_path);
    let ours = |name: &[u8]| (name == CAPABILITY) == capabilities;
    for old in present.iter().filter(|old| ours(&old.name)) {
        if wanted.iter().all(|new| new.name != old.name) {
            reach
                .remove(&old.name)
                .map_err(|errno| (errno, old.name.clone()))?;
        }
    }
    for new in wanted
        .iter()
        .filter(|new| ours(&new.name) && !present.contains(new))
    {
        reach
            .set(&new.name, &new.value)
            .map_err(|errno| (errno, new.name.clone()))?;
    }
    Ok(())
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

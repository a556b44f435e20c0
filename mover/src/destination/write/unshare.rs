//! Takes a name out of an inode that other names lead to as well, which are not to change with it:
//! those of a snapshot of the destination that was made of links, say.

use std::os::fd::{AsFd, OwnedFd};

use livmig_proto::{
    control::{Fault, Side},
    name::{Name, RelPath},
};
use rustix::io::Errno;

use super::{copy, create};
use crate::{
    fault,
    fs::{
        entry, file,
        stat::{Kind, Stat},
    },
};

/// What became of a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unshared {
    /// It is as it was.
    Not,
    /// It is a new inode now, which holds the same. Its metadata is still to come.
    Anew,
}

/// Sees to it that no more than `names` lead to what `name` in `dir` is.
pub(crate) fn ensure(
    dir: &OwnedFd,
    name: &Name,
    path: &RelPath,
    names: u32,
) -> Result<Unshared, Fault> {
    let failed = |what: &str, errno| fault::at(Side::Destination, path, what, errno);
    let stat = Stat::of_entry(dir, name).map_err(|errno| failed("look at the entry", errno))?;
    if !stat.has_links() || stat.identity.nlink <= names {
        return Ok(Unshared::Not);
    }
    if stat.kind == Kind::File {
        file(dir, name, path)?;
    } else {
        let handle =
            file::open_handle(dir, name).map_err(|errno| failed("open the entry", errno))?;
        let node = entry::node(&handle, &stat)
            .and_then(|node| node.ok_or(Errno::IO))
            .map_err(|errno| failed("read the entry", errno))?;
        create::bare_node(dir, name, path, &node)?;
    }
    Ok(Unshared::Anew)
}

/// Makes the file `name` in `dir` a new one of the same content; it, open for writing.
pub(crate) fn file(dir: impl AsFd, name: &Name, path: &RelPath) -> Result<OwnedFd, Fault> {
    let dir = dir.as_fd();
    let failed = |what: &str, errno| fault::at(Side::Destination, path, what, errno);
    let old = file::open_read(dir, name)
        .map_err(|errno| failed("open the file for its old content", errno))?;
    let stat = Stat::of_fd(&old).map_err(|errno| failed("look at the file", errno))?;
    let new = create::file_anew(dir, name, path)?;
    copy::whole(&old, &stat, &new)
        .map_err(|errno| failed("copy the file, which has names elsewhere", errno))?;
    Ok(new)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt as _};

    use super::*;

    fn ensured(names: u32) -> (Unshared, u64, String) {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a"), "content").unwrap();
        fs::hard_link(root.path().join("a"), root.path().join("b")).unwrap();
        let dir = OwnedFd::from(fs::File::open(root.path()).unwrap());
        let name = Name::new(b"a").unwrap();
        let path = RelPath::new(b"a").unwrap();
        let unshared = ensure(&dir, &name, &path, names).unwrap();
        let links = fs::metadata(root.path().join("a")).unwrap().nlink();
        let content = fs::read_to_string(root.path().join("a")).unwrap();
        (unshared, links, content)
    }

    #[test]
    fn only_a_name_with_more_names_than_it_should_have_is_made_anew() {
        assert_eq!(ensured(2), (Unshared::Not, 2, "content".to_owned()));
        assert_eq!(ensured(1), (Unshared::Anew, 1, "content".to_owned()));
    }

    #[test]
    fn a_special_entry_stays_what_it_is() {
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("target", root.path().join("a")).unwrap();
        fs::hard_link(root.path().join("a"), root.path().join("b")).unwrap();
        let dir = OwnedFd::from(fs::File::open(root.path()).unwrap());
        let path = RelPath::new(b"a").unwrap();
        let name = Name::new(b"a").unwrap();
        assert_eq!(ensure(&dir, &name, &path, 1).unwrap(), Unshared::Anew);
        let target = fs::read_link(root.path().join("a")).unwrap();
        assert_eq!(target.to_str(), Some("target"));
        let links = |name| {
            fs::symlink_metadata(root.path().join(name))
                .unwrap()
                .nlink()
        };
        assert_eq!((links("a"), links("b")), (1, 1));
    }
}

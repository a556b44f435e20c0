//! One change of one attribute, nothing else: whoever judges trees must see each.

use std::{
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{chown, lchown, symlink},
    },
    path::Path,
};

use anyhow::Result;
use rustix::fs::FileType;

use super::posix;

/// What is changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Attribute {
    /// A byte of a file; size and times stay.
    Content,
    /// A file's length, by a zero byte.
    Size,
    /// A file's permission bits.
    Mode,
    /// A file's set-user-id bit.
    SetUserId,
    /// A file's owner.
    Owner,
    /// A file's group.
    Group,
    /// A symbolic link's owner.
    SymlinkOwner,
    /// A nanosecond of a file's time.
    FileTime,
    /// A nanosecond of a symbolic link's time.
    SymlinkTime,
    /// A symbolic link's target.
    SymlinkTarget,
    /// Two equal files become one with two names.
    HardLink,
    /// A device's minor number.
    Device,
    /// A device becomes a fifo.
    NodeType,
    /// The value of an attribute.
    XattrValue,
    /// An attribute more, with an empty value.
    XattrAdded,
    /// An attribute less.
    XattrRemoved,
    /// An access ACL.
    AccessAcl,
    /// A directory's default ACL.
    DefaultAcl,
    /// A file capability.
    Capability,
    /// An attribute that root alone sees.
    Trusted,
    /// An attribute that root alone sets.
    Security,
    /// An attribute of a symbolic link.
    SymlinkXattr,
    /// An attribute of a device.
    DeviceXattr,
    /// A directory's permission bits.
    DirectoryMode,
    /// A nanosecond of a directory's time.
    DirectoryTime,
    /// The root directory's permission bits.
    RootMode,
    /// A nanosecond of the root directory's time.
    RootTime,
    /// An attribute of the root directory.
    RootXattr,
    /// An entry more.
    Added,
    /// An entry less.
    Removed,
    /// A name.
    Renamed,
    /// An empty file becomes an empty directory.
    FileToDirectory,
}

/// Whether a change could be made here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Applied {
    /// It was made.
    Yes,
    /// It takes this, which is not there.
    No(&'static str),
}

impl Attribute {
    /// All of them.
    pub const ALL: [Self; 32] = [
        Self::Content,
        Self::Size,
        Self::Mode,
        Self::SetUserId,
        Self::Owner,
        Self::Group,
        Self::SymlinkOwner,
        Self::FileTime,
        Self::SymlinkTime,
        Self::SymlinkTarget,
        Self::HardLink,
        Self::Device,
        Self::NodeType,
        Self::XattrValue,
        Self::XattrAdded,
        Self::XattrRemoved,
        Self::AccessAcl,
        Self::DefaultAcl,
        Self::Capability,
        Self::Trusted,
        Self::Security,
        Self::SymlinkXattr,
        Self::DeviceXattr,
        Self::DirectoryMode,
        Self::DirectoryTime,
        Self::RootMode,
        Self::RootTime,
        Self::RootXattr,
        Self::Added,
        Self::Removed,
        Self::Renamed,
        Self::FileToDirectory,
    ];

    /// Changes the tree at `root`, which [`make`] made, in this one attribute.
    pub fn apply(self, root: &Path) -> Result<Applied> {
        const DATE: (i64, i64) = TIME;
        if self.needs_root() && !rustix::process::geteuid().is_root() {
            return Ok(Applied::No("root"));
        }
        let at = |name: &str| root.join(name);
        let kept = match self {
            Self::Content => write(&at("file"), b"contenT").map(|()| true)?,
            Self::Size => write(&at("file"), b"content\0").map(|()| true)?,
            Self::Mode => posix::set_mode(&at("file"), 0o604).map(|()| true)?,
            Self::SetUserId => posix::set_mode(&at("file"), 0o4640).map(|()| true)?,
            Self::Owner => chown(at("file"), Some(4711), None).map(|()| true)?,
            Self::Group => chown(at("file"), None, Some(4711)).map(|()| true)?,
            Self::SymlinkOwner => lchown(at("symlink"), Some(4711), None).map(|()| true)?,
            Self::FileTime => posix::set_mtime(&at("file"), DATE.0, DATE.1 + 1).map(|()| true)?,
            Self::SymlinkTime => {
                posix::set_mtime(&at("symlink"), DATE.0, DATE.1 + 1).map(|()| true)?
            }
            Self::SymlinkTarget => {
                fs::remove_file(at("symlink"))?;
                symlink("targeT", at("symlink"))?;
                posix::set_mtime(&at("symlink"), DATE.0, DATE.1).map(|()| true)?
            }
            Self::HardLink => {
                fs::remove_file(at("twin 2"))?;
                fs::hard_link(at("twin 1"), at("twin 2")).map(|()| true)?
            }
            Self::Device => node(&at("device"), FileType::CharacterDevice, 4)?,
            Self::NodeType => node(&at("device"), FileType::Fifo, 0)?,
            Self::XattrValue => posix::set_xattr(&at("file"), "user.a", b"other")?,
            Self::XattrAdded => posix::set_xattr(&at("file"), "user.b", b"")?,
            Self::XattrRemoved => rustix::fs::lremovexattr(at("file"), "user.a").is_ok(),
            Self::AccessAcl => {
                posix::set_xattr(&at("file"), "system.posix_acl_access", &posix::acl(4711, 4))?
            }
            Self::DefaultAcl => {
                let acl = posix::acl(4711, 4);
                posix::set_xattr(&at("directory"), "system.posix_acl_default", &acl)?
            }
            Self::Capability => posix::set_xattr(
                &at("file"),
                "security.capability",
                &posix::capability(1 << 10),
            )?,
            Self::Trusted => posix::set_xattr(&at("file"), "trusted.overlay.origin", b"1")?,
            Self::Security => posix::set_xattr(&at("directory"), "security.NTACL", b"1")?,
            Self::SymlinkXattr => posix::set_xattr(&at("symlink"), "trusted.link", b"1")?,
            Self::DeviceXattr => posix::set_xattr(&at("device"), "trusted.overlay.opaque", b"y")?,
            Self::DirectoryMode => posix::set_mode(&at("directory"), 0o1755).map(|()| true)?,
            Self::DirectoryTime => {
                return moved_time(&at("directory"));
            }
            Self::RootMode => posix::set_mode(root, 0o2711).map(|()| true)?,
            Self::RootTime => {
                return moved_time(root);
            }
            Self::RootXattr => posix::set_xattr(root, "user.root", b"1")?,
            Self::Added => write(&at("directory/added"), b"").map(|()| true)?,
            Self::Removed => fs::remove_file(at("directory/child")).map(|()| true)?,
            Self::Renamed => {
                fs::rename(at("directory/child"), at("directory/Child")).map(|()| true)?
            }
            Self::FileToDirectory => {
                fs::remove_file(at("empty"))?;
                fs::create_dir(at("empty"))?;
                posix::set_mode(&at("empty"), 0o750).map(|()| true)?
            }
        };
        settle(root)?;
        Ok(if kept {
            Applied::Yes
        } else {
            Applied::No("a file system that keeps such attributes")
        })
    }

    fn needs_root(self) -> bool {
        matches!(
            self,
            Self::Owner
                | Self::Group
                | Self::SymlinkOwner
                | Self::Device
                | Self::NodeType
                | Self::Capability
                | Self::Trusted
                | Self::Security
                | Self::SymlinkXattr
                | Self::DeviceXattr
        )
    }
}

/// Every time in the tree that is not under test.
const TIME: (i64, i64) = (1_600_000_000, 123_456_789);

/// Makes the tree whose attributes are changed one by one.
pub fn make(root: &Path) -> Result<()> {
    fs::create_dir(root.join("directory"))?;
    write(&root.join("file"), b"content")?;
    posix::set_xattr(&root.join("file"), "user.a", b"value")?;
    write(&root.join("twin 1"), b"twins")?;
    write(&root.join("twin 2"), b"twins")?;
    write(&root.join("directory/child"), b"child")?;
    write(&root.join("empty"), b"")?;
    symlink("target", root.join("symlink"))?;
    posix::set_mtime(&root.join("symlink"), TIME.0, TIME.1)?;
    if rustix::process::geteuid().is_root() {
        node(&root.join("device"), FileType::CharacterDevice, 3)?;
    }
    settle(root)
}

/// Writes a whole file whose time and mode are as always.
fn write(path: &Path, content: &[u8]) -> Result<()> {
    if path.exists() {
        rustix::fs::chmod(path, 0o640.into())?;
    }
    fs::write(path, content)?;
    posix::set_mode(path, 0o640)?;
    posix::set_mtime(path, TIME.0, TIME.1)
}

/// Makes or replaces a node that nobody could use by accident (major 1 is memory; 3 is null).
fn node(path: &Path, kind: FileType, minor: u32) -> Result<bool> {
    if path.symlink_metadata().is_ok() {
        fs::remove_file(path)?;
    }
    let (major, minor) = if kind == FileType::Fifo {
        (0, 0)
    } else {
        (1, minor)
    };
    posix::make_node(path, kind, major, minor)?;
    posix::set_mtime(path, TIME.0, TIME.1).map(|()| true)
}

fn moved_time(directory: &Path) -> Result<Applied> {
    posix::set_mtime(directory, TIME.0, TIME.1 + 1).map(|()| Applied::Yes)
}

/// Directories back to the common time, which changes of their entries have moved.
fn settle(root: &Path) -> Result<()> {
    let mut directories = vec![root.to_owned()];
    for entry in walkdir::WalkDir::new(root).min_depth(1) {
        let entry = entry?;
        if entry.file_type().is_dir() && entry.file_name().as_bytes() != b"." {
            directories.push(entry.into_path());
        }
    }
    for directory in directories {
        posix::set_mtime(&directory, TIME.0, TIME.1)?;
    }
    Ok(())
}

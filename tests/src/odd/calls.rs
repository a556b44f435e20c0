//! What the kernel asks, answered by the file system.

use std::{
    ffi::{CString, OsStr},
    os::unix::fs::FileExt as _,
    path::Path,
    time::{Duration, SystemTime},
};

use fuser::{
    BsdFileFlags, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, KernelConfig, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow,
    WriteFlags,
};
use rustix::{
    fs::{AtFlags, FallocateFlags, FileType, Mode, OFlags, SeekFrom, XattrFlags},
    io::Errno,
};

use super::{
    fs::{Change, Odd, errno},
    oddity::Oddity,
    open::Handle,
};

/// How long the kernel may believe an answer: not at all, so that it asks at each look.
const TTL: Duration = Duration::ZERO;

fn refused(error: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(error.raw_os_error())
}

/// Answers with what `$done` is, or with its error.
macro_rules! answer {
    ($reply:ident, $done:expr, $value:pat => $answer:expr) => {
        match $done {
            Ok($value) => $answer,
            Err(error) => $reply.error(refused(error)),
        }
    };
}

fn sized(reply: ReplyXattr, size: u32, value: &[u8]) {
    let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
    if size == 0 {
        reply.size(length);
    } else if length > size {
        reply.error(refused(Errno::RANGE));
    } else {
        reply.data(value);
    }
}

impl Filesystem for Odd {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // A buffer of 16 MiB a thread serves nobody here.
        let _ = config.set_max_write(128 * 1024);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer!(reply, self.lookup_entry(parent, name),
            attr => reply.entry(&TTL, &attr, Generation(0)));
    }

    fn forget(&self, _: &Request, ino: INodeNo, nlookup: u64) {
        self.nodes.forget(ino.0, nlookup);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let look = || {
            let node = self.nodes.get(ino.0)?;
            let stat = node.stat()?;
            if self.is(Oddity::GoneWhenUnlinked) && stat.st_nlink == 0 {
                return Err(Errno::STALE);
            }
            Ok(self.looked_at(ino.0, &node, &stat))
        };
        answer!(reply, look(), attr => reply.attr(&TTL, &attr));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        owner: Option<u32>,
        group: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let change = Change {
            mode,
            owner,
            group,
            size,
            atime,
            mtime,
        };
        answer!(reply, self.set(ino, &change), attr => reply.attr(&TTL, &attr));
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        let read = || rustix::fs::readlinkat(&self.nodes.get(ino.0)?.fd, c"", Vec::new());
        answer!(reply, read(), target => reply.data(CString::as_bytes(&target)));
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let make = || {
            let (kind, mode) = (
                FileType::from_raw_mode(mode),
                Mode::from_raw_mode(mode & 0o7777 & !umask),
            );
            let dir = self.nodes.get(parent.0)?;
            rustix::fs::mknodat(&dir.fd, name, kind, mode, u64::from(rdev))?;
            self.made(parent, name, request)
        };
        answer!(reply, make(), attr => reply.entry(&TTL, &attr, Generation(0)));
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let make = || {
            let mode = Mode::from_raw_mode(mode & 0o7777 & !umask);
            rustix::fs::mkdirat(&self.nodes.get(parent.0)?.fd, name, mode)?;
            self.made(parent, name, request)
        };
        answer!(reply, make(), attr => reply.entry(&TTL, &attr, Generation(0)));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let unlink = || {
            let dir = self.nodes.get(parent.0)?;
            rustix::fs::unlinkat(&dir.fd, self.found(&dir, name), AtFlags::empty())
        };
        answer!(reply, unlink(), () => reply.ok());
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let remove = || {
            let dir = self.nodes.get(parent.0)?;
            rustix::fs::unlinkat(&dir.fd, self.found(&dir, name), AtFlags::REMOVEDIR)
        };
        answer!(reply, remove(), () => reply.ok());
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let make = || {
            rustix::fs::symlinkat(target, &self.nodes.get(parent.0)?.fd, name)?;
            self.made(parent, name, request)
        };
        answer!(reply, make(), attr => reply.entry(&TTL, &attr, Generation(0)));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let rename = || {
            let (from, to) = (self.nodes.get(parent.0)?, self.nodes.get(newparent.0)?);
            let flags = rustix::fs::RenameFlags::from_bits_retain(flags.bits());
            let (name, newname) = (self.found(&from, name), self.found(&to, newname));
            rustix::fs::renameat_with(&from.fd, name, &to.fd, newname, flags)
        };
        answer!(reply, rename(), () => reply.ok());
    }

    fn link(
        &self,
        _: &Request,
        ino: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        let link = || {
            let (node, dir) = (self.nodes.get(ino.0)?, self.nodes.get(newparent.0)?);
            rustix::fs::linkat(&node.fd, c"", &dir.fd, newname, AtFlags::EMPTY_PATH)?;
            self.entry(newparent, newname)
        };
        answer!(reply, link(), attr => reply.entry(&TTL, &attr, Generation(0)));
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        answer!(reply, self.open_file(ino, flags), (fh, how) => reply.opened(fh, how));
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let make = || {
            let mode = Mode::from_raw_mode(mode & 0o7777 & !umask);
            let flags = OFlags::from_bits_retain(flags.unsigned_abs()) & !OFlags::DIRECT;
            let dir = self.nodes.get(parent.0)?;
            let flags = flags | OFlags::CREATE | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&dir.fd, name, flags, mode)?;
            let attr = self.made(parent, name, request)?;
            Ok((attr, self.open.keep(Handle::File(file.into()))))
        };
        answer!(reply, make(), (attr, fh) => {
            reply.created(&TTL, &attr, Generation(0), FileHandle(fh), FopenFlags::empty());
        });
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        answer!(reply, self.read_file(ino, fh, offset, size), bytes => reply.data(&bytes));
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let write = || {
            let handle = self.open.get(fh.0)?;
            handle
                .file()?
                .write_at(data, offset)
                .map_err(|error| errno(&error))
        };
        answer!(reply, write(), written => reply.written(u32::try_from(written).unwrap_or(0)));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.open.close(fh.0);
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, fh: FileHandle, _: bool, reply: ReplyEmpty) {
        let sync = || {
            self.open
                .get(fh.0)?
                .file()?
                .sync_all()
                .map_err(|error| errno(&error))
        };
        answer!(reply, sync(), () => reply.ok());
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let listing = Handle::Listing(Vec::new().into());
        reply.opened(FileHandle(self.open.keep(listing)), FopenFlags::empty());
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        answer!(reply, self.fill(ino, fh, offset, &mut reply), () => reply.ok());
    }

    fn releasedir(&self, _: &Request, _: INodeNo, fh: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.open.close(fh.0);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn statfs(&self, _: &Request, ino: INodeNo, reply: ReplyStatfs) {
        let stat = || rustix::fs::fstatvfs(&self.nodes.get(ino.0)?.fd);
        let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        answer!(reply, stat(), is => reply.statfs(is.f_blocks, is.f_bfree, is.f_bavail, is.f_files,
            is.f_ffree, number(is.f_bsize), number(is.f_namemax), number(is.f_frsize)));
    }

    fn setxattr(
        &self,
        _: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        let set = || {
            let flags = XattrFlags::from_bits_retain(flags.unsigned_abs());
            rustix::fs::setxattr(self.nodes.get(ino.0)?.path(), name, value, flags)
        };
        answer!(reply, set(), () => reply.ok());
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        answer!(reply, self.attribute(ino, name), value => sized(reply, size, &value));
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        answer!(reply, self.attributes(ino), names => sized(reply, size, &names));
    }

    fn removexattr(&self, _: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let remove = || rustix::fs::removexattr(self.nodes.get(ino.0)?.path(), name);
        answer!(reply, remove(), () => reply.ok());
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let allocate = || {
            let mode = FallocateFlags::from_bits_retain(mode.unsigned_abs());
            rustix::fs::fallocate(self.open.get(fh.0)?.file()?, mode, offset, length)
        };
        answer!(reply, allocate(), () => reply.ok());
    }

    fn lseek(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        const SEEK_DATA: i32 = 3;
        let seek = || {
            let node = self.nodes.get(ino.0)?;
            if self.is(Oddity::SizeZero) && node.is_struck() {
                return Err(Errno::NXIO);
            }
            let offset = u64::try_from(offset).map_err(|_| Errno::INVAL)?;
            let to = if whence == SEEK_DATA {
                SeekFrom::Data(offset)
            } else {
                SeekFrom::Hole(offset)
            };
            rustix::fs::seek(self.open.get(fh.0)?.file()?, to)
        };
        answer!(reply, seek(), at => reply.offset(i64::try_from(at).unwrap_or(0)));
    }
}

//! The system calls that no safe wrapper offers. The only module with `unsafe`.

use std::{
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    ptr,
};

use livmig_proto::control::IoPriority;
use rustix::io::Errno;

/// Pages of the file `fd` that the page cache holds, as far as this process may know: all of them
/// where it may not (mincore(2)).
///
/// # Errors
/// Whatever the file system answers (`OPNOTSUPP` on hugetlbfs).
pub fn cached_pages(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    let size = rustix::fs::fstat(fd)?.st_size;
    match u64::try_from(size) {
        Ok(0) | Err(_) => Ok(0),
        Ok(size) => cached_pages_in(fd, 0, size),
    }
}

/// As [`cached_pages`], of the `len` bytes from `offset`, a multiple of the page size.
///
/// # Errors
/// The same.
pub fn cached_pages_in(fd: BorrowedFd<'_>, offset: u64, len: u64) -> Result<u64, Errno> {
    match cachestat(fd, offset, len) {
        // Linux before 6.5, or a container runtime that does not know this call yet and so forbids
        // it, as containerd 1.6 does.
        Err(Errno::NOSYS | Errno::PERM) => resident_pages(fd, offset, len),
        counted => counted,
    }
}

/// The same by a mapping that is never touched (mincore(2)).
fn resident_pages(fd: BorrowedFd<'_>, offset: u64, len: u64) -> Result<u64, Errno> {
    /// Bytes that are mapped at once: a byte is needed for each page of them.
    const STEP: u64 = 1 << 30;
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    let mut resident = 0;
    let mut done = 0;
    while done < len {
        let step = (len - done).min(STEP);
        let length = usize::try_from(step).map_err(|_| Errno::INVAL)?;
        let at = libc::off_t::try_from(offset + done).map_err(|_| Errno::INVAL)?;
        let pages = usize::try_from(step.div_ceil(page)).map_err(|_| Errno::INVAL)?;
        let mut present = vec![0_u8; pages];
        // SAFETY: the kernel chooses an address that is free; nothing is ever read through it.
        let map = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                libc::PROT_READ,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                at,
            )
        };
        if map == libc::MAP_FAILED {
            return Err(last_errno());
        }
        // SAFETY: `map` is a mapping of `length` bytes, and `present` has a byte for each page of it.
        let asked = unsafe { libc::mincore(map, length, present.as_mut_ptr()) };
        let failed = (asked != 0).then(last_errno);
        // SAFETY: it was mapped above and is used by nobody.
        unsafe { libc::munmap(map, length) };
        if let Some(errno) = failed {
            return Err(errno);
        }
        let counted = present.iter().filter(|page| **page & 1 != 0).count();
        resident += u64::try_from(counted).unwrap_or(u64::MAX);
        done += step;
    }
    Ok(resident)
}

/// Pages of `len` bytes from `offset` that the page cache holds (cachestat(2), Linux 6.5).
fn cachestat(fd: BorrowedFd<'_>, offset: u64, len: u64) -> Result<u64, Errno> {
    // One number on every architecture since the tables were unified in Linux 5.1.
    const SYS_CACHESTAT: libc::c_long = 451;

    #[repr(C)]
    struct Range {
        offset: u64,
        len: u64,
    }
    #[repr(C)]
    #[derive(Default)]
    struct Answer {
        cache: u64,
        dirty: u64,
        writeback: u64,
        evicted: u64,
        recently_evicted: u64,
    }

    let range = Range { offset, len };
    let mut answer = Answer::default();
    // SAFETY: both pointers are to live, properly aligned structures of the layout that
    // cachestat(2) documents; the kernel writes only into `answer`.
    let result = unsafe {
        libc::syscall(
            SYS_CACHESTAT,
            fd.as_raw_fd(),
            ptr::from_ref(&range),
            ptr::from_mut(&mut answer),
            0_u32,
        )
    };
    if result == 0 {
        Ok(answer.cache)
    } else {
        Err(last_errno())
    }
}

/// An extent of a file as FIEMAP tells it (linux/fiemap.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct FileExtent {
    /// Where in the file it begins.
    pub offset: u64,
    physical: u64,
    /// Its bytes.
    pub len: u64,
    unused: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

impl FileExtent {
    /// Whether it is space that nothing was written to.
    pub fn is_unwritten(&self) -> bool {
        self.flags & 0x800 != 0
    }

    /// Whether it is still to be given space.
    pub fn is_delayed(&self) -> bool {
        self.flags & 0x4 != 0
    }

    /// Where it ends.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.len)
    }
}

/// Extents that are asked for at once.
const EXTENTS: usize = 64;

/// The first extents of the file `fd` that reach beyond `offset`; none where nothing does.
///
/// # Errors
/// Whatever the file system answers (`OPNOTSUPP` where it does not tell).
pub fn extents_from(fd: BorrowedFd<'_>, offset: u64) -> Result<Vec<FileExtent>, Errno> {
    const FIEMAP: libc::c_long = 0xc020_660b;

    #[repr(C)]
    struct Map {
        start: u64,
        len: u64,
        flags: u32,
        mapped: u32,
        count: u32,
        reserved: u32,
        extents: [FileExtent; EXTENTS],
    }

    let mut map = Map {
        start: offset,
        len: u64::MAX - offset,
        flags: 0,
        mapped: 0,
        count: u32::try_from(EXTENTS).unwrap_or(0),
        reserved: 0,
        extents: [FileExtent::default(); EXTENTS],
    };
    // SAFETY: the pointer is to a live structure of the layout that fiemap documents, with room for as
    // many extents as it says; the kernel writes only into it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_ioctl,
            fd.as_raw_fd(),
            FIEMAP,
            ptr::from_mut(&mut map),
        )
    };
    if result != 0 {
        return Err(last_errno());
    }
    let mapped = usize::try_from(map.mapped).unwrap_or(0);
    Ok(map.extents.into_iter().take(mapped).collect())
}

/// Whether somebody asked for space of the file `fd` (`FS_XFLAG_PREALLOC` of xfs): the file system
/// takes some beyond the end on its own account too, and gives it back.
pub fn has_asked_for_space(fd: BorrowedFd<'_>) -> bool {
    const FSGETXATTR: libc::c_long = 0x801c_581f;
    const PREALLOC: u32 = 0x2;
    let mut answer = [0_u32; 7];
    // SAFETY: the pointer is to as many bytes as `struct fsxattr` has, aligned as its numbers are.
    let result = unsafe {
        libc::syscall(
            libc::SYS_ioctl,
            fd.as_raw_fd(),
            FSGETXATTR,
            answer.as_mut_ptr(),
        )
    };
    result == 0 && answer.first().is_some_and(|flags| flags & PREALLOC != 0)
}

/// Whether somebody, in any namespace of this kernel, has the file open for writing: a read
/// lease cannot be had then (fcntl(2), `F_SETLEASE`). The lease is given back at once.
///
/// Answers false where leases do not exist or are not this process's to take.
pub fn is_open_for_writing(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: fcntl with these commands takes an integer and touches no memory of ours.
    let taken = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) };
    if taken == 0 {
        // SAFETY: as above.
        unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) };
        return false;
    }
    matches!(last_errno(), Errno::AGAIN | Errno::BUSY)
}

/// Ignores the signal that a broken lease sends; its default action would end the process.
pub fn ignore_lease_signals() {
    // SAFETY: setting a disposition to SIG_IGN installs no handler.
    unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
}

/// Gives the calling thread's I/O a priority (`ioprio_set`); it keeps it until it ends.
///
/// # Errors
/// Whatever the kernel answers; none of these priorities needs a privilege.
pub fn set_io_priority(priority: IoPriority) -> Result<(), Errno> {
    // From linux/ioprio.h: the class lies above the 13 bits of the level.
    const WHO_PROCESS: libc::c_long = 1;
    const THIS_THREAD: libc::c_long = 0;
    let (class, level): (libc::c_long, libc::c_long) = match priority {
        IoPriority::None => (0, 0),
        IoPriority::BestEffort => (2, 7),
        IoPriority::Idle => (3, 0),
    };
    // SAFETY: ioprio_set(2) takes three integers and touches no memory of ours.
    let result = unsafe {
        libc::syscall(
            libc::SYS_ioprio_set,
            WHO_PROCESS,
            THIS_THREAD,
            class << 13 | level,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(last_errno())
    }
}

/// Raises the limit of open files to what the system allows this process.
pub fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Refused or not, the mover works within what it has.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Has the C library keep memory that was freed instead of giving it back to the kernel at once.
/// Frames and windows are allocated all the time, on one thread, and freed on another: given back and
/// faulted in again, they cost a tenth of the time that a large file takes (measured with glibc).
pub fn keep_freed_memory() {
    // What a pass has in flight at once, well beyond a frame or window, and far below what it may use.
    #[cfg(target_env = "gnu")]
    for (parameter, bytes) in [
        (libc::M_MMAP_THRESHOLD, 4 << 20),
        (libc::M_TRIM_THRESHOLD, 16 << 20),
    ] {
        // SAFETY: mallopt(3) takes two integers. Refused, the defaults stay.
        unsafe { libc::mallopt(parameter, bytes) };
    }
}

/// The flags of the inode behind `fd`, which must be open for reading (`FS_IOC_GETFLAGS`).
///
/// # Errors
/// `NOTTY` where the file system has none.
pub fn inode_flags(fd: BorrowedFd<'_>) -> Result<u32, Errno> {
    // As the headers have it for a long; what is written is an int.
    #[cfg(target_pointer_width = "64")]
    const GET_FLAGS: u32 = 0x8008_6601;
    #[cfg(not(target_pointer_width = "64"))]
    const GET_FLAGS: u32 = 0x8004_6601;
    let mut flags: libc::c_long = 0;
    // SAFETY: the kernel writes an int into a long that lives on.
    unsafe { ioctl(fd, GET_FLAGS, ptr::from_mut(&mut flags).cast()) }?;
    Ok(u32::from_ne_bytes(first_bytes(&flags.to_ne_bytes())))
}

/// The further flags of the inode behind `fd` and the number of its project (`FS_IOC_FSGETXATTR`).
///
/// # Errors
/// `NOTTY` where the file system has none.
pub fn inode_project(fd: BorrowedFd<'_>) -> Result<(u32, u32), Errno> {
    const GET_XATTR: u32 = 0x801c_581f;
    // flags, extent size, extents, project, extent size of copies, padding
    let mut answer = [0_u32; 7];
    // SAFETY: the kernel writes the 28 bytes of a `struct fsxattr`.
    unsafe { ioctl(fd, GET_XATTR, answer.as_mut_ptr().cast()) }?;
    let [flags, _, _, project, ..] = answer;
    Ok((flags, project))
}

/// Which key the directory behind `fd` is encrypted with (`FS_IOC_GET_ENCRYPTION_POLICY_EX`): the
/// version of its policy and the key's name.
///
/// # Errors
/// `NODATA` where it is not encrypted, `NOTTY` where the file system does not tell.
pub fn encryption_key(fd: BorrowedFd<'_>) -> Result<(u8, [u8; 16]), Errno> {
    const GET_POLICY: u32 = 0xc009_6616;
    #[repr(C)]
    struct Policy {
        size: u64,
        policy: [u8; 24],
    }
    let mut policy = Policy {
        size: 24,
        policy: [0; 24],
    };
    // SAFETY: the kernel reads the size and writes at most so many bytes behind it.
    unsafe { ioctl(fd, GET_POLICY, ptr::from_mut(&mut policy).cast()) }?;
    let [version, _, _, _, old @ ..] = policy.policy;
    let mut name = [0; 16];
    let from = if version == 0 {
        old.get(..8)
    } else {
        old.get(4..)
    };
    for (to, from) in name.iter_mut().zip(from.unwrap_or_default()) {
        *to = *from;
    }
    Ok((version, name))
}

/// What the file system behind `fd` says of the key that [`encryption_key`] named
/// (`FS_IOC_GET_ENCRYPTION_KEY_STATUS`): 1 absent, 2 present, 3 being removed.
///
/// # Errors
/// Whatever the kernel answers; no privilege is needed.
pub fn encryption_key_status(fd: BorrowedFd<'_>, key: (u8, [u8; 16])) -> Result<u32, Errno> {
    const GET_STATUS: u32 = 0xc080_661a;
    #[repr(C)]
    struct KeyStatus {
        kind: u32,
        reserved: u32,
        name: [u8; 32],
        further: [u32; 6],
        told: u32,
        out: [u32; 15],
    }
    let mut name = [0; 32];
    for (to, from) in name.iter_mut().zip(key.1) {
        *to = from;
    }
    let mut answer = KeyStatus {
        // A descriptor or an identifier.
        kind: if key.0 == 0 { 1 } else { 2 },
        reserved: 0,
        name,
        further: [0; 6],
        told: 0,
        out: [0; 15],
    };
    // SAFETY: the kernel reads and writes the 128 bytes of this structure.
    unsafe { ioctl(fd, GET_STATUS, ptr::from_mut(&mut answer).cast()) }?;
    Ok(answer.told)
}

/// A mount of its own of what is at the directory `root`, without what is mounted below, that leaves
/// access times alone. Nobody else sees it, and it goes with its handle.
///
/// # Errors
/// `PERM` without `CAP_SYS_ADMIN`, `NOSYS` before Linux 5.12.
pub fn clone_without_access_times(root: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    const CLONE: libc::c_long = 1;
    const NO_ACCESS_TIMES: u64 = 0x10;
    const ALL_OF_ACCESS_TIMES: u64 = 0x70;
    #[repr(C)]
    struct MountAttributes {
        set: u64,
        clear: u64,
        propagation: u64,
        user_namespace: u64,
    }
    let flags =
        CLONE | libc::c_long::from(libc::O_CLOEXEC) | libc::c_long::from(libc::AT_EMPTY_PATH);
    // SAFETY: open_tree(2) takes a descriptor, a string that is zero-terminated, and flags.
    let tree = unsafe { libc::syscall(libc::SYS_open_tree, root.as_raw_fd(), c"".as_ptr(), flags) };
    let tree = i32::try_from(tree).ok().filter(|tree| *tree >= 0);
    let tree = tree.ok_or_else(last_errno)?;
    // SAFETY: the kernel has just given this descriptor to us, and to nobody else.
    let tree = unsafe { OwnedFd::from_raw_fd(tree) };
    let attributes = MountAttributes {
        set: NO_ACCESS_TIMES,
        clear: ALL_OF_ACCESS_TIMES,
        propagation: 0,
        user_namespace: 0,
    };
    // SAFETY: mount_setattr(2) reads a structure of the size that it is told.
    let set = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            ptr::from_ref(&attributes),
            size_of::<MountAttributes>(),
        )
    };
    if set == 0 {
        Ok(tree)
    } else {
        Err(last_errno())
    }
}

/// # Safety
/// `argument` points to what `request` reads and writes.
unsafe fn ioctl(
    fd: BorrowedFd<'_>,
    request: u32,
    argument: *mut libc::c_void,
) -> Result<(), Errno> {
    // SAFETY: as promised by the caller.
    let result = unsafe {
        let request = libc::c_ulong::from(request);
        libc::syscall(libc::SYS_ioctl, fd.as_raw_fd(), request, argument)
    };
    if result == 0 {
        Ok(())
    } else {
        Err(last_errno())
    }
}

fn first_bytes(bytes: &[u8]) -> [u8; 4] {
    let mut first = [0; 4];
    for (to, from) in first.iter_mut().zip(bytes) {
        *to = *from;
    }
    first
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsFd as _, os::unix::fs::FileExt as _};

    use super::*;

    #[test]
    fn both_ways_to_count_cached_pages_agree() {
        const PAGES: u64 = 300;
        let named = tempfile::NamedTempFile::new().unwrap();
        let file = File::options()
            .read(true)
            .write(true)
            .open(named.path())
            .unwrap();
        file.write_all_at(&vec![7; 4096 * 300 - 100], 0).unwrap();
        file.sync_all().unwrap();
        let fd = file.as_fd();
        let both = |offset, len| (cachestat(fd, offset, len), resident_pages(fd, offset, len));
        let size = PAGES * 4096 - 100;
        if both(0, size).0.is_err() {
            return;
        }
        assert_eq!(both(0, size), (Ok(PAGES), Ok(PAGES)));
        assert_eq!(cached_pages(fd), Ok(PAGES));
        let middle = (100 * 4096, 50 * 4096);
        assert_eq!(both(middle.0, middle.1), (Ok(50), Ok(50)));
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        let (counted, resident) = both(0, size);
        assert_eq!(counted, resident);
        let (counted, resident) = both(middle.0, middle.1);
        assert_eq!(counted, resident);
        // Nothing is mapped of a file that has nothing.
        file.set_len(0).unwrap();
        assert_eq!(cached_pages(fd), Ok(0));
    }
}

//! The system calls that no safe wrapper offers. The only module with `unsafe`.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use livmig_proto::control::IoPriority;
use rustix::io::Errno;

/// Pages of the file `fd` that the page cache holds (`cachestat`, Linux 6.5).
///
/// # Errors
/// `NOSYS` on older kernels; whatever the file system answers (`OPNOTSUPP` on hugetlbfs).
pub fn cached_pages(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    // A length of zero means up to the end.
    cached_pages_in(fd, 0, 0)
}

/// As [`cached_pages`], of the `len` bytes from `offset`.
///
/// # Errors
/// The same.
pub fn cached_pages_in(fd: BorrowedFd<'_>, offset: u64, len: u64) -> Result<u64, Errno> {
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
            std::ptr::from_ref(&range),
            std::ptr::from_mut(&mut answer),
            0_u32,
        )
    };
    if result == 0 {
        Ok(answer.cache)
    } else {
        Err(last_errno())
    }
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

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

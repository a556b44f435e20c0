//! From a failed system call to a fault that can cross a connection.

use livmig_proto::{
    control::{Fault, FaultCode, Side},
    limits::{DIRECTORY_ENTRIES_MAX, XATTR_TOTAL_MAX},
    name::{RelPath, escape},
};
use rustix::io::Errno;

use crate::{
    advice::{self, Doing, Rights},
    fs::{
        metadata::xattr::ReadError,
        remove::{Resistance, Resisting},
        stat::Stat,
    },
};

/// A fault of `side` at `path`: `what` failed with `errno`.
pub fn at(side: Side, path: &RelPath, what: &str, errno: Errno) -> Fault {
    doing(side, path, what, errno, Doing::Anything)
}

/// As [`at`], of something that other things help against.
pub fn doing(side: Side, path: &RelPath, what: &str, errno: Errno, doing: Doing) -> Fault {
    let advice = advice::against(side, errno, doing, Rights::own());
    Fault {
        code: code_of(errno),
        side,
        message: format!("{side}: could not {what} ({errno})"),
        path: Some(path.to_string()),
        advice: advice.map(str::to_owned),
    }
}

/// What was at `path` or below it at the destination could not be removed; `what` was tried. The first
/// entry that resists.
pub fn resistance(path: &RelPath, what: &str, resistance: &Resistance) -> Fault {
    resisting(path, what, &resistance.first)
}

/// One entry that resists.
pub fn resisting(path: &RelPath, what: &str, entry: &Resisting) -> Fault {
    let mut fault = at(Side::Destination, path, what, entry.errno);
    if !entry.below.is_empty() {
        // It may be longer than any path that is carried.
        let path = [path.as_bytes(), b"/", &entry.below].concat();
        fault.path = Some(escape(&path));
    }
    fault
}

/// The attributes of what is at `path` could not be read.
pub fn unread_attributes(side: Side, path: &RelPath, error: ReadError) -> Fault {
    let unsupported = |message| named(side, FaultCode::Unsupported, path, message);
    match error {
        ReadError::List(Errno::TOOBIG) => unsupported(format!(
            "{side}: the names of the entry's extended attributes take more than 64 KiB together, \
             and the kernel lists no more; remove some of them"
        )),
        ReadError::List(errno) => at(side, path, "list the extended attributes", errno),
        ReadError::Value(name, errno) => {
            let what = format!("read the extended attribute {}", shown(&name));
            at(side, path, &what, errno)
        }
        ReadError::TooMuch => unsupported(format!(
            "{side}: the entry's extended attributes take more than {} MiB together, which is more \
             than livmig carries of one entry; remove some of them",
            XATTR_TOTAL_MAX >> 20
        )),
    }
}

/// The modification time of what is at `path`, which is `stat`, is none, if that is so.
pub fn damaged_time(side: Side, path: &RelPath, stat: &Stat) -> Option<Fault> {
    let nanoseconds = stat.identity.mtime.nanoseconds;
    (nanoseconds > 999_999_999).then(|| {
        let text = format!(
            "{side}: its modification time is damaged: {nanoseconds} nanoseconds in a second; set \
             it anew (touch), or check the file system"
        );
        named(side, FaultCode::Unsupported, path, text)
    })
}

/// The directory at `path` could not be listed.
pub fn listing(side: Side, path: &RelPath, errno: Errno) -> Fault {
    if errno == Errno::OVERFLOW {
        let message = format!(
            "{side}: a directory holds more than {DIRECTORY_ENTRIES_MAX} entries, which is more \
             than livmig remembers of one"
        );
        return named(side, FaultCode::Unsupported, path, message);
    }
    at(side, path, "list the directory", errno)
}

/// A fault of `side` that has no entry.
pub fn plain(side: Side, code: FaultCode, message: impl Into<String>) -> Fault {
    Fault {
        code,
        side,
        message: message.into(),
        path: None,
        advice: None,
    }
}

/// A fault of `side` at `path` that no system call reported.
pub fn named(side: Side, code: FaultCode, path: &RelPath, message: impl Into<String>) -> Fault {
    Fault {
        code,
        side,
        message: message.into(),
        path: Some(path.to_string()),
        advice: None,
    }
}

/// The lost connection to the other mover.
pub fn disconnected(side: Side, why: &str) -> Fault {
    plain(
        side,
        FaultCode::Disconnected,
        format!("lost the connection to the other mover: {why}"),
    )
}

/// Bytes as they may be shown.
pub fn shown(bytes: &[u8]) -> String {
    escape(bytes)
}

/// What kind of fault an error number is.
pub fn code_of(errno: Errno) -> FaultCode {
    match errno {
        Errno::ACCESS | Errno::PERM | Errno::ROFS => FaultCode::Permission,
        Errno::NOSPC | Errno::DQUOT => FaultCode::NoSpace,
        Errno::FBIG
        | Errno::OPNOTSUPP
        | Errno::NOSYS
        | Errno::TOOBIG
        | Errno::NAMETOOLONG
        | Errno::MLINK
        | Errno::INVAL
        | Errno::RANGE
        | Errno::OVERFLOW => FaultCode::Unsupported,
        _ => FaultCode::Io,
    }
}

//! Encryption by the file system (fscrypt): whether what is read is the content, or its cipher.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::fs::sys;

/// What a directory that is encrypted shows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FscryptKey {
    /// Its key is there: names and content are plain.
    Present,
    /// Its key is not there, or is being taken away: names are ciphers.
    Absent,
    /// The file system does not tell.
    Unknown(Errno),
}

/// Whether the key of the encrypted directory behind `fd` is there.
pub fn key_of(fd: BorrowedFd<'_>) -> FscryptKey {
    key(sys::encryption_key(fd).and_then(|key| sys::encryption_key_status(fd, key)))
}

fn key(status: Result<u32, Errno>) -> FscryptKey {
    const PRESENT: u32 = 2;
    match status {
        Ok(PRESENT) => FscryptKey::Present,
        Ok(_) => FscryptKey::Absent,
        Err(errno) => FscryptKey::Unknown(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_being_removed_is_not_there() {
        assert_eq!(key(Ok(2)), FscryptKey::Present);
        assert_eq!(
            [1, 3, 9].map(|status| key(Ok(status))),
            [FscryptKey::Absent; 3]
        );
        assert_eq!(key(Err(Errno::NOTTY)), FscryptKey::Unknown(Errno::NOTTY));
    }
}

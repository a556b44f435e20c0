//! Waiting for a descriptor to become readable, whatever kind it is: a pidfd when its process
//! ends, an inotify descriptor when a file changes.

use std::{fs::File, io, os::fd::OwnedFd};

use tokio::net::unix::pipe::Receiver;

/// A descriptor that can be waited for. It must be non-blocking.
///
/// tokio watches any descriptor that epoll knows; its type for the reading end of a pipe is the
/// one safe way to hand it over, and it asks nothing of the descriptor that only a pipe has.
#[derive(Debug)]
pub struct Readiness(Receiver);

impl Readiness {
    /// Watches a descriptor.
    pub fn new(descriptor: OwnedFd) -> io::Result<Self> {
        Receiver::from_file_unchecked(File::from(descriptor)).map(Self)
    }

    /// Waits until there is something to read.
    pub async fn readable(&self) -> io::Result<()> {
        self.0.readable().await
    }

    /// Waits until there is something to read and reads it away.
    pub async fn drain(&self) -> io::Result<()> {
        let mut bytes = [0; 4096];
        loop {
            self.0.readable().await?;
            match self.0.try_read(&mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read.map(|_| ()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test]
    async fn what_was_read_away_is_waited_for_anew() {
        let (reader, mut writer) = io::pipe().unwrap();
        let reader = OwnedFd::from(reader);
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        let readiness = Readiness::new(reader).unwrap();
        writer.write_all(b"x").unwrap();
        readiness.drain().await.unwrap();
        let again = tokio::time::timeout(std::time::Duration::ZERO, readiness.drain()).await;
        assert!(again.is_err());
    }
}

//! What groups of hard links share, in the same log.

use rustix::io::Errno;

use super::{Store, kind};
use crate::catalog::log::Key;

impl Store {
    /// Says that what the group of hard links `group` shares is about to change.
    pub fn begin_group(&self, group: u64) -> Result<(), Errno> {
        let mut inner = self.lock();
        inner
            .log
            .append(kind::GROUP_BEGIN, Key::of_group(group), &[])?;
        inner.groups.insert(group, None);
        Ok(())
    }

    /// Stores what the group of hard links `group` shares.
    pub fn put_group(&self, group: u64, shared: &[u8]) -> Result<(), Errno> {
        let mut inner = self.lock();
        let offset = inner
            .log
            .append(kind::GROUP_PUT, Key::of_group(group), shared)?;
        inner.groups.insert(group, Some((offset, shared.len())));
        Ok(())
    }

    /// What the group of hard links `group` shares, if that is known.
    pub fn get_group(&self, group: u64) -> Result<Option<Vec<u8>>, Errno> {
        let mut inner = self.lock();
        match inner.groups.get(&group).copied().flatten() {
            Some((offset, len)) => inner.log.read(offset, len).map(Some),
            None => Ok(None),
        }
    }

    /// Forgets every group but these.
    pub fn retain_groups(&self, keep: impl Fn(u64) -> bool) -> Result<(), Errno> {
        let mut inner = self.lock();
        let gone: Vec<u64> = inner
            .groups
            .keys()
            .copied()
            .filter(|group| !keep(*group))
            .collect();
        for group in gone {
            inner.groups.remove(&group);
            inner
                .log
                .append(kind::GROUP_FORGET, Key::of_group(group), &[])?;
        }
        Ok(())
    }
}

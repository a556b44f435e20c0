//! The UID of an object of one kind. The server's are text, and look alike: what asks for a claim's does
//! not take a migration's.

use std::{fmt, marker::PhantomData};

use livmig_engine::spec::MigrationSpec;
use livmig_proto::ids::MigrationUid;

/// The UID of a `K`.
pub struct Uid<K> {
    text: String,
    of: PhantomData<fn() -> K>,
}

impl<K> Uid<K> {
    /// The UID that is written so.
    pub fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            of: PhantomData,
        }
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is what is written there.
    pub fn is(&self, written: Option<&str>) -> bool {
        written == Some(self.as_str())
    }
}

/// What a migration's objects, and what it has in hand, carry.
impl From<MigrationUid> for Uid<MigrationSpec> {
    fn from(uid: MigrationUid) -> Self {
        Self::new(&uid.to_string())
    }
}

impl<K> Clone for Uid<K> {
    fn clone(&self) -> Self {
        Self::new(&self.text)
    }
}

impl<K> PartialEq for Uid<K> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl<K> Eq for Uid<K> {}

impl<K> fmt::Debug for Uid<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl<K> fmt::Display for Uid<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

//! What exists at a source and does not come to the destination as it is, by reason.
//!
//! A reason is *grave* where content or meaning goes: a pass with something of it is complete but
//! not acceptable, until a person has said by the reason's name that it may be left out. A *slight*
//! one is told and asks for nothing.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::limits::{LISTED_BYTES_MAX, LISTED_MAX};

/// Why something is not carried. The names are stable: people consent by them.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Something is mounted there. The mount point is carried, what is mounted is not.
    Mount,
    /// The source may not read extended attributes that are there.
    AttributesUnreadable,
    /// The destination, or the mover there, cannot store extended attributes of this kind.
    AttributesUnsupported,
    /// The source file system's own `lost+found` holds something, and at the destination the name
    /// is the file system's own too.
    LostFound,
    /// Encrypted by the file system (fscrypt) at the source, plain text at the destination.
    Encrypted,
    /// The source shows owners that its id-mapped mount does not know as the overflow id.
    Owners,
    /// Names of one inode, says the source's file system, that disagree about it: each is carried
    /// for itself.
    Links,
    /// Inode flags or a project id.
    Flags,
    /// A btrfs subvolume, which becomes a directory.
    Subvolume,
    /// Attributes that a process without `CAP_SYS_ADMIN` cannot even list: nobody has looked.
    AttributesUnseen,
    /// Security labels, which the destination's system gives by its own rules.
    Labels,
    /// The modification time of a root directory that belongs to somebody else.
    RootTime,
    /// Reading moves the access time of entries whose owner alone may prevent that.
    AccessTimes,
}

/// Whether a reason needs consent.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Gravity {
    /// Content or meaning goes.
    Grave,
    /// To be known, no more.
    Slight,
}

impl Reason {
    /// Each of them, grave ones first.
    pub const ALL: [Self; 13] = [
        Self::Mount,
        Self::AttributesUnreadable,
        Self::AttributesUnsupported,
        Self::LostFound,
        Self::Encrypted,
        Self::Owners,
        Self::Links,
        Self::Flags,
        Self::Subvolume,
        Self::AttributesUnseen,
        Self::Labels,
        Self::RootTime,
        Self::AccessTimes,
    ];

    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mount => "mount",
            Self::AttributesUnreadable => "attributes-unreadable",
            Self::AttributesUnsupported => "attributes-unsupported",
            Self::LostFound => "lost-found",
            Self::Encrypted => "encrypted",
            Self::Owners => "owners",
            Self::Links => "links",
            Self::Flags => "flags",
            Self::Subvolume => "subvolume",
            Self::AttributesUnseen => "attributes-unseen",
            Self::Labels => "labels",
            Self::RootTime => "root-time",
            Self::AccessTimes => "access-times",
        }
    }

    /// Whether it needs consent.
    pub fn gravity(self) -> Gravity {
        match self {
            Self::Mount
            | Self::AttributesUnreadable
            | Self::AttributesUnsupported
            | Self::LostFound
            | Self::Encrypted
            | Self::Owners => Gravity::Grave,
            Self::Links
            | Self::Flags
            | Self::Subvolume
            | Self::AttributesUnseen
            | Self::Labels
            | Self::RootTime
            | Self::AccessTimes => Gravity::Slight,
        }
    }

    /// What it means, in one line for people.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Mount => "something is mounted there; the empty mount point is carried",
            Self::AttributesUnreadable => "extended attributes that the mover may not read",
            Self::AttributesUnsupported => {
                "extended attributes that the destination cannot store, or the mover may not set"
            }
            Self::LostFound => {
                "what a file system check rescued; the destination keeps the name for itself"
            }
            Self::Encrypted => "encrypted at the source, plain text at the destination",
            Self::Owners => "owners outside the source's id mapping, shown as the overflow id",
            Self::Links => {
                "names that share an inode number but not its state; each is carried for itself"
            }
            Self::Flags => "inode flags and project ids, which are not carried",
            Self::Subvolume => "a btrfs subvolume, which becomes a directory",
            Self::AttributesUnseen => {
                "trusted.* attributes cannot be listed without CAP_SYS_ADMIN: nobody has looked"
            }
            Self::Labels => "security labels, which the destination's system sets by itself",
            Self::RootTime => "the modification time of a root that belongs to somebody else",
            Self::AccessTimes => "access times at the source may have moved: reading updates them",
        }
    }

    /// Its place in a [`Reasons`].
    fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that is no reason's name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no reason is called {text:?}; there are {known}")]
pub struct UnknownReason {
    text: String,
    known: String,
}

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Self, UnknownReason> {
        Self::ALL
            .into_iter()
            .find(|reason| reason.name() == text)
            .ok_or_else(|| UnknownReason {
                text: text.to_owned(),
                known: Self::ALL.map(Self::name).join(", "),
            })
    }
}

/// A set of reasons, small enough to be remembered with every entry.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Reasons(u16);

impl Reasons {
    /// No reason.
    pub const NONE: Self = Self(0);

    /// Adds one.
    pub fn insert(&mut self, reason: Reason) {
        self.0 |= reason.bit();
    }

    /// Adds all of `others`.
    pub fn extend(&mut self, others: Self) {
        self.0 |= others.0;
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those in it.
    pub fn iter(self) -> impl Iterator<Item = Reason> {
        Reason::ALL
            .into_iter()
            .filter(move |reason| self.0 & reason.bit() != 0)
    }

    /// As a number, to be stored.
    pub fn bits(self) -> u16 {
        self.0
    }

    /// From [`Reasons::bits`]; bits that mean nothing are dropped.
    pub fn from_bits(bits: u16) -> Self {
        let known = Reason::ALL
            .into_iter()
            .fold(0, |all, reason| all | reason.bit());
        Self(bits & known)
    }
}

impl FromIterator<Reason> for Reasons {
    fn from_iter<I: IntoIterator<Item = Reason>>(reasons: I) -> Self {
        let mut all = Self::NONE;
        for reason in reasons {
            all.insert(reason);
        }
        all
    }
}

/// What was left out for one reason.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftOut {
    /// Why.
    pub reason: Reason,
    /// Entries, all of them.
    pub total: u64,
    /// Some of them, at most [`LISTED_MAX`] and [`LISTED_BYTES_MAX`] of text.
    pub listed: Vec<LeftEntry>,
}

/// An entry of which something was left out.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftEntry {
    /// Its path relative to the root, escaped for people; `.` is the root.
    pub path: String,
    /// What of it, as far as the reason does not say it: an attribute's name, a flag.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

impl LeftEntry {
    /// Bytes of text.
    fn len(&self) -> usize {
        self.path.len() + self.detail.len()
    }
}

impl LeftOut {
    /// Nothing yet.
    pub fn new(reason: Reason) -> Self {
        Self {
            reason,
            total: 0,
            listed: Vec::new(),
        }
    }

    /// One more.
    pub fn add(&mut self, path: String, detail: String) {
        self.total += 1;
        let held: usize = self.listed.iter().map(LeftEntry::len).sum();
        let entry = LeftEntry { path, detail };
        if self.listed.len() < LISTED_MAX && held + entry.len() <= LISTED_BYTES_MAX {
            self.listed.push(entry);
        }
    }
}

/// The grave reasons in `left` that nobody consented to.
pub fn unconsented<'l>(
    left: impl IntoIterator<Item = &'l LeftOut>,
    consent: &BTreeSet<Reason>,
) -> BTreeSet<Reason> {
    left.into_iter()
        .map(|left| left.reason)
        .filter(|reason| reason.gravity() == Gravity::Grave && !consent.contains(reason))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_known_by_one_name_everywhere() {
        for reason in Reason::ALL {
            assert_eq!(reason.name().parse(), Ok(reason));
            let json = serde_json::to_string(&reason).unwrap();
            assert_eq!(json, format!("\"{reason}\""));
            assert_eq!(
                Reasons::from_iter([reason]).iter().collect::<Vec<_>>(),
                [reason]
            );
        }
        let refused = "socket".parse::<Reason>().unwrap_err().to_string();
        assert!(refused.contains("attributes-unsupported"), "{refused}");
    }

    #[test]
    fn a_set_survives_its_number_and_drops_what_means_nothing() {
        let all: Reasons = Reason::ALL.into_iter().collect();
        assert_eq!(Reasons::from_bits(all.bits()), all);
        assert_eq!(Reasons::from_bits(u16::MAX), all);
        assert!(Reasons::from_bits(0).is_empty());
    }

    #[test]
    fn only_what_is_grave_needs_consent() {
        let left = [LeftOut::new(Reason::Mount), LeftOut::new(Reason::Flags)];
        assert_eq!(
            unconsented(&left, &BTreeSet::new()),
            BTreeSet::from([Reason::Mount])
        );
        assert!(unconsented(&left, &BTreeSet::from([Reason::Mount])).is_empty());
    }

    #[test]
    fn much_is_counted_and_some_is_named() {
        let mut left = LeftOut::new(Reason::Flags);
        for id in 0..500 {
            left.add(format!("f{id}"), "immutable".to_owned());
        }
        assert_eq!((left.total, left.listed.len()), (500, LISTED_MAX));
        let mut left = LeftOut::new(Reason::Flags);
        for _ in 0..100 {
            left.add("deep/".repeat(10_000), String::new());
        }
        assert_eq!((left.total, left.listed.len()), (100, 2));
    }
}

//! Which extended attributes a pass carries: what an attribute is, by its name, and what of it the
//! source can see and the destination can store. Both ends decide by the same rules.

use serde::{Deserialize, Serialize};

use crate::control::Reason;

/// The attribute that holds a file's capabilities.
pub const CAPABILITY: &[u8] = b"security.capability";

/// An access control list, and the one that new entries of a directory get.
pub const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
/// See [`ACL_ACCESS`].
pub const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";

/// The label of `SELinux`.
pub const SELINUX: &[u8] = b"security.selinux";

const IMA: &[u8] = b"security.ima";
const EVM: &[u8] = b"security.evm";

/// Kinds of attributes that may be carried.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttributeKind {
    /// Users' own, `user.*`.
    User,
    /// Access control lists.
    Acl,
    /// A file's capabilities.
    Capability,
    /// `security.*` but for capabilities and labels: Windows ACLs, signatures.
    Security,
    /// `trusted.*`.
    Trusted,
    /// `trusted.SGI_ACL_FILE` and `_DEFAULT`, where they are attributes like others. On xfs they are
    /// its ACLs once more.
    AclTwin,
    /// What a security module calls an entry: `SELinux`, Smack, `AppArmor`. A source *sees* it where its
    /// root has one.
    Label,
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(from = "Vec<AttributeKind>", into = "Vec<AttributeKind>")]
pub struct Kinds(u8);

impl Kinds {
    const ALL: [AttributeKind; 7] = [
        AttributeKind::User,
        AttributeKind::Acl,
        AttributeKind::Capability,
        AttributeKind::Security,
        AttributeKind::Trusted,
        AttributeKind::AclTwin,
        AttributeKind::Label,
    ];

    /// What needs no right beyond a file owner's, and capabilities: what is meant where nothing is
    /// said.
    pub fn plain() -> Self {
        [
            AttributeKind::User,
            AttributeKind::Acl,
            AttributeKind::Capability,
        ]
        .into_iter()
        .collect()
    }

    /// Whether `kind` is in it.
    pub fn has(self, kind: AttributeKind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    /// The same with `kind`.
    #[must_use]
    pub fn with(self, kind: AttributeKind) -> Self {
        Self(self.0 | 1 << kind as u8)
    }

    /// The same without `kind`.
    #[must_use]
    pub fn without(self, kind: AttributeKind) -> Self {
        Self(self.0 & !(1 << kind as u8))
    }

    fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl FromIterator<AttributeKind> for Kinds {
    fn from_iter<I: IntoIterator<Item = AttributeKind>>(kinds: I) -> Self {
        kinds.into_iter().fold(Self::default(), Self::with)
    }
}

impl From<Vec<AttributeKind>> for Kinds {
    fn from(kinds: Vec<AttributeKind>) -> Self {
        kinds.into_iter().collect()
    }
}

impl From<Kinds> for Vec<AttributeKind> {
    fn from(kinds: Kinds) -> Self {
        let all = Kinds::ALL.into_iter();
        all.filter(|kind| kinds.has(*kind)).collect()
    }
}

/// What an attribute is, by its name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Class {
    Kind(AttributeKind),
    /// The access control list of an NFS server, which every entry there has.
    Nfs4Acl,
    /// How a file system stores an entry: no part of what the entry is.
    Property,
    /// Computed by the file system from what it knows otherwise.
    Computed,
    Other,
}

fn class(name: &[u8]) -> Class {
    let is = |prefix: &[u8]| name.starts_with(prefix);
    if is(b"user.") {
        return Class::Kind(AttributeKind::User);
    }
    if is(b"security.") {
        return Class::Kind(match name {
            CAPABILITY => AttributeKind::Capability,
            SELINUX | b"security.apparmor" => AttributeKind::Label,
            _ if is(b"security.SMACK64") => AttributeKind::Label,
            _ => AttributeKind::Security,
        });
    }
    if is(b"trusted.") {
        return Class::Kind(match twin_of(name) {
            Some(_) => AttributeKind::AclTwin,
            None => AttributeKind::Trusted,
        });
    }
    match name {
        ACL_ACCESS | ACL_DEFAULT => return Class::Kind(AttributeKind::Acl),
        b"system.nfs4_acl" => return Class::Nfs4Acl,
        _ => {}
    }
    let is_layout = || {
        let part = |part: &[u8]| name.windows(part.len()).any(|window| window == part);
        part(b".layout") || is(b"ceph.quota") || is(b"ceph.dir.pin")
    };
    match name {
        _ if is(b"btrfs.") || is(b"bcachefs.") || is(b"lustre.") => Class::Property,
        _ if is(b"ceph.") && is_layout() => Class::Property,
        _ if is(b"ceph.") || is(b"bcachefs_effective.") => Class::Computed,
        _ => Class::Other,
    }
}

/// The access control list that xfs shows under `name` once more.
fn twin_of(name: &[u8]) -> Option<&'static [u8]> {
    match name {
        b"trusted.SGI_ACL_FILE" => Some(ACL_ACCESS),
        b"trusted.SGI_ACL_DEFAULT" => Some(ACL_DEFAULT),
        _ => None,
    }
}

/// What becomes of an attribute that a source was seen to have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Treatment {
    /// It is carried.
    Carried,
    /// It is left out, for this reason.
    Left(Reason),
    /// Its value decides: left out, unless [`is_plain_nfs4_acl`].
    Nfs4Acl,
    /// Nothing is lost without it.
    Spared,
}

/// What attributes are carried in a pass.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Carry {
    /// What the source can see.
    pub sees: Kinds,
    /// What the destination can store.
    pub stores: Kinds,
}

impl Default for Carry {
    fn default() -> Self {
        Self::among(Kinds::plain())
    }
}

impl Carry {
    /// Between a source that can see, and a destination that can store, these kinds.
    pub fn among(kinds: Kinds) -> Self {
        Self {
            sees: kinds,
            stores: kinds,
        }
    }

    /// As a number, to be shared between threads.
    pub fn bits(self) -> u16 {
        u16::from_be_bytes([self.sees.0, self.stores.0])
    }

    /// From [`Carry::bits`].
    pub fn from_bits(bits: u16) -> Self {
        let [sees, stores] = bits.to_be_bytes();
        Self {
            sees: Kinds(sees),
            stores: Kinds(stores),
        }
    }

    /// The kinds that are carried.
    pub fn carried(self) -> Kinds {
        // What lies below a root without one may have labels too.
        self.sees.with(AttributeKind::Label).common(self.stores)
    }

    /// What becomes of the attribute `name` of an entry of the source that has all of `names`.
    pub fn treatment(self, name: &[u8], names: &[u8]) -> Treatment {
        let kind = match class(name) {
            Class::Kind(kind) => kind,
            Class::Nfs4Acl => return Treatment::Nfs4Acl,
            Class::Property => return Treatment::Left(Reason::Flags),
            Class::Computed => return Treatment::Spared,
            Class::Other => return Treatment::Left(Reason::AttributesUnsupported),
        };
        let has = |other: &[u8]| names.split(|byte| *byte == 0).any(|name| name == other);
        match kind {
            _ if self.carried().has(kind) => Treatment::Carried,
            AttributeKind::Label => Treatment::Left(Reason::Labels),
            // It is that list, or on top of a file system where it is.
            AttributeKind::AclTwin if !self.sees.has(kind) && twin_of(name).is_some_and(has) => {
                Treatment::Spared
            }
            AttributeKind::Trusted if !self.sees.has(kind) => {
                Treatment::Left(Reason::AttributesUnreadable)
            }
            _ => Treatment::Left(Reason::AttributesUnsupported),
        }
    }

    /// Whether the attribute `name` of an entry of the destination counts: if it is carried. What is not
    /// stays there as it is, for the source may have the same.
    pub fn counts(self, name: &[u8]) -> bool {
        match class(name) {
            // The source has it as a list, which is carried, and a destination where it is an
            // attribute has it of an older copy.
            Class::Kind(AttributeKind::AclTwin) => {
                self.stores.has(AttributeKind::AclTwin) && self.sees.has(AttributeKind::Trusted)
            }
            Class::Kind(kind) => self.carried().has(kind),
            _ => false,
        }
    }
}

/// In which order attributes are set: a list takes the right to write from an owner who may not, a
/// write to a file removes its capabilities, and a signature covers the others.
pub fn rank(name: &[u8]) -> u8 {
    match name {
        ACL_ACCESS | ACL_DEFAULT => 1,
        CAPABILITY => 2,
        IMA => 3,
        EVM => 4,
        _ => 0,
    }
}

/// Whether the access control list of an NFS server, as its client shows it, names the owner, the
/// group and everyone alone: then the mode says the same.
pub fn is_plain_nfs4_acl(value: &[u8]) -> bool {
    fn word(bytes: &mut &[u8]) -> Option<u32> {
        let (word, rest) = bytes.split_first_chunk::<4>()?;
        *bytes = rest;
        Some(u32::from_be_bytes(*word))
    }
    fn all_plain(mut bytes: &[u8]) -> Option<bool> {
        for _ in 0..word(&mut bytes)? {
            let [kind, flags, _mask] = [word(&mut bytes)?, word(&mut bytes)?, word(&mut bytes)?];
            let len = usize::try_from(word(&mut bytes)?).ok()?;
            let who = bytes.get(..len)?;
            bytes = bytes.get(len.next_multiple_of(4)..)?;
            let is_special = matches!(who, b"OWNER@" | b"GROUP@" | b"EVERYONE@");
            // Audits and what is inherited are more than a mode says; 0x40 marks a group.
            if kind > 1 || flags & !0x40 != 0 || !is_special {
                return Some(false);
            }
        }
        Some(bytes.is_empty())
    }
    all_plain(value).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(kinds: &[AttributeKind]) -> Kinds {
        kinds.iter().copied().collect()
    }

    fn everything() -> Kinds {
        Kinds::ALL.into_iter().collect()
    }

    /// What a process without `CAP_SYS_ADMIN` sees or stores on a file system that can hold all.
    fn unprivileged() -> Kinds {
        kinds(&[
            AttributeKind::User,
            AttributeKind::Acl,
            AttributeKind::Capability,
        ])
    }

    fn treat(sees: Kinds, stores: Kinds, name: &[u8]) -> Treatment {
        Carry { sees, stores }.treatment(name, name)
    }

    const UNSUPPORTED: Treatment = Treatment::Left(Reason::AttributesUnsupported);

    #[test]
    fn a_set_survives_its_json_and_says_what_is_in_it() {
        let set = kinds(&[AttributeKind::AclTwin, AttributeKind::User]);
        let json = serde_json::to_string(&set).unwrap();
        assert_eq!(json, r#"["user","acl-twin"]"#);
        assert_eq!(serde_json::from_str::<Kinds>(&json).unwrap(), set);
        assert!(!set.has(AttributeKind::Acl));
        assert_eq!(
            serde_json::to_string(&everything())
                .unwrap()
                .matches('"')
                .count(),
            14
        );
    }

    #[test]
    fn between_two_roots_all_is_carried() {
        for name in [
            &b"user.a"[..],
            ACL_ACCESS,
            ACL_DEFAULT,
            CAPABILITY,
            b"security.NTACL",
            IMA,
            EVM,
            b"trusted.gfid",
            b"trusted.overlay.opaque",
            b"trusted.SGI_ACL_FILE",
            SELINUX,
            b"security.SMACK64EXEC",
        ] {
            assert_eq!(treat(everything(), everything(), name), Treatment::Carried);
            assert!(Carry::among(everything()).counts(name));
        }
    }

    #[test]
    fn what_the_destination_cannot_store_is_grave_but_for_labels() {
        for name in [&b"security.NTACL"[..], b"trusted.gfid", IMA] {
            assert_eq!(treat(everything(), unprivileged(), name), UNSUPPORTED);
        }
        for name in [&b"user.a"[..], ACL_ACCESS, CAPABILITY] {
            assert_eq!(treat(everything(), Kinds::default(), name), UNSUPPORTED);
        }
        for name in [SELINUX, b"security.SMACK64", b"security.apparmor"] {
            let left = Treatment::Left(Reason::Labels);
            assert_eq!(treat(everything(), unprivileged(), name), left);
        }
    }

    #[test]
    fn what_is_listed_but_not_to_be_read_is_said() {
        let left = Treatment::Left(Reason::AttributesUnreadable);
        assert_eq!(treat(unprivileged(), everything(), b"trusted.a"), left);
    }

    #[test]
    fn a_twin_of_a_list_is_spared_and_one_without_a_list_is_not() {
        let xfs = kinds(&[
            AttributeKind::User,
            AttributeKind::Acl,
            AttributeKind::Trusted,
        ]);
        let carry = Carry {
            sees: xfs,
            stores: everything(),
        };
        let twin = b"trusted.SGI_ACL_DEFAULT";
        let names = b"system.posix_acl_default\0trusted.SGI_ACL_DEFAULT\0";
        assert_eq!(carry.treatment(twin, names), Treatment::Spared);
        assert_eq!(carry.treatment(b"trusted.SGI_ACL_FILE", names), UNSUPPORTED);
        // From ext4, where it is an attribute, to xfs, where it would be the list.
        assert_eq!(treat(everything(), xfs, twin), UNSUPPORTED);
        // A destination that has it of an older copy loses it; on xfs it stays what it is.
        assert!(carry.counts(twin));
        assert!(!Carry::among(xfs).counts(twin));
    }

    #[test]
    fn what_is_not_carried_stays_at_the_destination() {
        let unseen = Carry {
            sees: unprivileged().with(AttributeKind::Security),
            stores: everything(),
        };
        assert!(!unseen.counts(b"trusted.a"));
        assert!(unseen.counts(b"security.NTACL"));
        let unset = Carry {
            sees: everything(),
            stores: unprivileged(),
        };
        for name in [
            &b"security.NTACL"[..],
            b"trusted.a",
            SELINUX,
            IMA,
            b"system.nfs4_acl",
        ] {
            assert!(!unset.counts(name), "{name:?}");
        }
        assert!(unset.counts(b"user.a"));
        let bits = unset.bits();
        assert_eq!(Carry::from_bits(bits), unset);
    }

    #[test]
    fn what_belongs_to_the_storage_is_no_loss() {
        for (name, treatment) in [
            (&b"btrfs.compression"[..], Treatment::Left(Reason::Flags)),
            (b"ceph.dir.layout", Treatment::Left(Reason::Flags)),
            (b"ceph.file.layout.pool", Treatment::Left(Reason::Flags)),
            (b"ceph.quota.max_bytes", Treatment::Left(Reason::Flags)),
            (b"ceph.dir.rbytes", Treatment::Spared),
            (b"bcachefs_effective.compression", Treatment::Spared),
            (b"system.nfs4_acl", Treatment::Nfs4Acl),
            (b"system.ntfs_acl", UNSUPPORTED),
            (b"com.example", UNSUPPORTED),
        ] {
            assert_eq!(treat(everything(), everything(), name), treatment);
        }
    }

    #[test]
    fn lists_capabilities_and_signatures_come_last() {
        let mut names = [EVM, ACL_ACCESS, b"user.z", CAPABILITY, IMA, b"trusted.a"];
        names.sort_by_key(|name| (rank(name), *name));
        let sorted = [
            &b"trusted.a"[..],
            b"user.z",
            ACL_ACCESS,
            CAPABILITY,
            IMA,
            EVM,
        ];
        assert_eq!(names, sorted);
    }

    #[test]
    fn a_list_of_an_nfs_server_is_more_than_the_mode_when_it_names_somebody() {
        let ace = |kind: u32, who: &str| {
            let len = u32::try_from(who.len()).unwrap();
            let mut bytes = [kind, 0, 0x16_01ff, len].map(u32::to_be_bytes).concat();
            bytes.extend_from_slice(who.as_bytes());
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let list = |aces: &[Vec<u8>]| {
            let count = u32::try_from(aces.len()).unwrap();
            [count.to_be_bytes().to_vec(), aces.concat()].concat()
        };
        let [owner, everyone] = [ace(0, "OWNER@"), ace(0, "EVERYONE@")];
        assert!(is_plain_nfs4_acl(&list(&[owner.clone(), everyone.clone()])));
        assert!(!is_plain_nfs4_acl(&list(&[owner.clone(), ace(0, "eve@x")])));
        assert!(!is_plain_nfs4_acl(&list(&[ace(2, "OWNER@"), everyone])));
        let whole = list(&[owner]);
        for cut in 0..whole.len() {
            assert!(!is_plain_nfs4_acl(&whole[..cut]), "{cut}");
        }
    }
}

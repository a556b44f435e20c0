//! Which extended attributes this process can see at a source and store at a destination, found
//! without changing anything.

use std::sync::LazyLock;

use livmig_proto::attributes::{ACL_ACCESS, AttributeKind, Kinds, SELINUX};
use rustix::{io::Errno, thread::CapabilitySet};

use crate::fs::volume::Volume;

/// A name that nobody uses: it is asked for and never set.
const PROBE: &str = "livmig-probe";

/// What this process can see of the attributes in `volume`, and whether its root has a label.
pub fn seen(volume: &Volume) -> Kinds {
    let always = [
        AttributeKind::User,
        AttributeKind::Acl,
        AttributeKind::Capability,
        AttributeKind::Security,
    ];
    let mut seen: Kinds = always.into_iter().collect();
    if is_labelled(volume) {
        seen = seen.with(AttributeKind::Label);
    }
    if sees_trusted() {
        seen = seen.with(AttributeKind::Trusted);
        if volume.has_plain_trusted() {
            seen = seen.with(AttributeKind::AclTwin);
        }
    }
    seen
}

/// Whether `volume` may have `trusted.*` attributes that this process cannot see. File systems that
/// keep them keep `security.*` too, which anybody may ask for.
pub fn hides_trusted(volume: &Volume) -> bool {
    !sees_trusted() && keeps_security(volume)
}

/// What this process can store in `volume`, from a source that can see `sees`.
pub fn storable(volume: &Volume, sees: Kinds) -> Kinds {
    let mut stores = Kinds::default();
    if probe(volume, "user") != Err(Errno::OPNOTSUPP) {
        stores = stores.with(AttributeKind::User);
    }
    if ask(volume, ACL_ACCESS) != Err(Errno::OPNOTSUPP) {
        stores = stores.with(AttributeKind::Acl);
    }
    if keeps_security(volume) && has(CapabilitySet::SETFCAP) {
        stores = stores.with(AttributeKind::Capability);
    }
    if may(probe(volume, "security")) {
        stores = stores.with(AttributeKind::Security);
        if stores_labels(volume, sees.has(AttributeKind::Label)) {
            stores = stores.with(AttributeKind::Label);
        }
    }
    if may(probe(volume, "trusted")) {
        stores = stores.with(AttributeKind::Trusted);
        if volume.has_plain_trusted() {
            stores = stores.with(AttributeKind::AclTwin);
        }
    }
    stores
}

/// Labels are for the system of the destination to give, if it gives any: in a pod, and where
/// everything has one although nothing at the source has.
fn stores_labels(volume: &Volume, source_is_labelled: bool) -> bool {
    let in_pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    if in_pod || is_labelled(volume) && !source_is_labelled {
        return false;
    }
    // A module may refuse them, and a mount may have one label for everything. What is there
    // already may be set again where anything may.
    let mut label = [0; 4096];
    match rustix::fs::fgetxattr(volume.root(), SELINUX, &mut label[..]) {
        Ok(len) => {
            let label = label.get(..len).unwrap_or_default();
            let flags = rustix::fs::XattrFlags::REPLACE;
            rustix::fs::fsetxattr(volume.root(), SELINUX, label, flags).is_ok()
        }
        Err(_) => true,
    }
}

/// Whether the root has a security module's label.
fn is_labelled(volume: &Volume) -> bool {
    [SELINUX, b"security.SMACK64"]
        .into_iter()
        .any(|name| ask(volume, name).is_ok())
}

/// Asks to remove what is not there: the answer says whether it might have been.
fn probe(volume: &Volume, namespace: &str) -> Result<(), Errno> {
    rustix::fs::fremovexattr(volume.root(), format!("{namespace}.{PROBE}"))
}

/// Any other failure is for the entries to meet and to name.
fn may(probed: Result<(), Errno>) -> bool {
    !matches!(
        probed,
        Err(Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS | Errno::NOSYS)
    )
}

fn keeps_security(volume: &Volume) -> bool {
    ask(volume, b"security.livmig-probe") != Err(Errno::OPNOTSUPP)
}

fn ask(volume: &Volume, name: &[u8]) -> Result<usize, Errno> {
    rustix::fs::fgetxattr(volume.root(), name, &mut [0; 0][..])
}

/// Whether the kernel shows `trusted.*` to this process: it asks for the capability in the first of
/// all user namespaces.
fn sees_trusted() -> bool {
    static FIRST: LazyLock<bool> = LazyLock::new(|| {
        // The kernel gives the first one this number (`PROC_USER_INIT_INO`).
        std::fs::read_link("/proc/self/ns/user")
            .is_ok_and(|link| link.as_os_str() == "user:[4026531837]")
    });
    *FIRST && has(CapabilitySet::SYS_ADMIN)
}

fn has(capability: CapabilitySet) -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(capability))
}

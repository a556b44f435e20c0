//! What the migration's objects are called, and the words by which it marks those of others.

use livmig_engine::spec::{BadName, MigrationName};
use livmig_proto::{control::Side, ids::MigrationUid};

/// Label of everything a migration makes: its UID.
pub const MIGRATION: &str = "livmig.io/migration";
/// Label of everything a migration makes: its name.
pub const NAME: &str = "livmig.io/name";
/// Label of everything a migration makes: what it is for.
pub const ROLE: &str = "livmig.io/role";
/// Annotation of what a migration changes: the epoch of the coordinator in charge.
pub const EPOCH: &str = "livmig.io/epoch";
/// Annotation of a workload that was stopped: how many replicas it is to have again.
pub const REPLICAS: &str = "livmig.io/replicas";
/// Annotation of a workload that was stopped: the version of the namespace's pods from which on its
/// end is watched.
pub const WATCHED_FROM: &str = "livmig.io/watched-from";
/// Annotation of a workload that was started again: how often. A call to stop it that is late names
/// an older version of it, and is refused.
pub const STARTED: &str = "livmig.io/started";
/// Annotation of what a migration leaves in an unusual state: how a person undoes it by hand.
pub const BY_HAND: &str = "livmig.io/undo-by-hand";
/// Annotation of a volume: the reclaim policy it had before it was pinned.
pub const RECLAIM: &str = "livmig.io/reclaim-policy";
/// The finalizer that makes the deletion of a claim a fence.
pub const FENCE: &str = "livmig.io/fence";
/// Who changes what, in `managedFields`.
pub const FIELD_MANAGER: &str = "livmig";

/// How much of a workload's name a migration's name takes, so that names of objects that are made
/// of it stay within 63 bytes.
const WORKLOAD_MAX: usize = 30;

/// A name for a migration of `workload`: its name, cut, and enough of the identity to be unique.
pub fn migration_name(workload: &str, uid: &MigrationUid) -> Result<MigrationName, BadName> {
    let fit = |character: char| match character {
        'a'..='z' | '0'..='9' => character,
        _ => '-',
    };
    let cut: String = workload.chars().take(WORKLOAD_MAX).map(fit).collect();
    let short: String = uid.to_string().chars().take(8).collect();
    let cut = match cut.trim_matches('-') {
        "" => "workload",
        cut => cut,
    };
    MigrationName::try_from(format!("{cut}-{short}"))
}

/// What the mover of one end is for, as its pod's label says.
pub fn mover_role(side: Side) -> &'static str {
    match side {
        Side::Source => "source",
        Side::Destination => "destination",
    }
}

/// The names of the objects of one migration.
#[derive(Clone, Debug)]
pub struct Names {
    base: String,
}

impl Names {
    /// The names of the migration `name`.
    pub fn new(name: &MigrationName) -> Self {
        Self {
            base: format!("livmig-{name}"),
        }
    }

    /// The `ConfigMap` with part `part` of the journal. Part 0 is the migration's object: it owns
    /// the others.
    pub fn journal(&self, part: usize) -> String {
        match part {
            0 => self.base.clone(),
            _ => format!("{}-{part}", self.base),
        }
    }

    /// The Lease that elects a coordinator.
    pub fn lease(&self) -> String {
        self.base.clone()
    }

    /// The `ConfigMap` with the objects as they were before the migration.
    pub fn pre_image(&self) -> String {
        format!("{}-before", self.base)
    }

    /// The `ConfigMap` with the limits that were set after it was planned.
    pub fn limits(&self) -> String {
        format!("{}-limits", self.base)
    }

    /// The Secret with the keys of every pair of movers.
    pub fn keys(&self) -> String {
        format!("{}-keys", self.base)
    }

    /// The pod of a mover and the Secret with its session, for the claim at `place` in the spec.
    pub fn mover(&self, place: usize, side: Side) -> String {
        let side = match side {
            Side::Source => "src",
            Side::Destination => "dst",
        };
        format!("{}-{place}-{side}", self.base)
    }

    /// The network policy of all movers of one end.
    pub fn network(&self, side: Side) -> String {
        format!("{}-{}", self.base, mover_role(side))
    }

    /// The claim under which the volume of the claim at `place` is provisioned before the swap.
    pub(in crate::kube) fn staging(&self, place: usize) -> String {
        format!("{}-{place}", self.base)
    }

    /// The `ConfigMap` with a `StatefulSet` that is made anew.
    pub fn template(&self) -> String {
        format!("{}-template", self.base)
    }

    /// A name under which the final claim at `place` is tried without being made.
    pub(in crate::kube) fn dry_run(&self, place: usize) -> String {
        format!("{}-{place}-try", self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_fits_an_object() {
        let uid = MigrationUid([0xab; 16]);
        for workload in ["db", &"x".repeat(253), "a.b.c", "-"] {
            let name = migration_name(workload, &uid).unwrap();
            let names = Names::new(&name);
            for made in [
                names.journal(0),
                names.journal(9999),
                names.pre_image(),
                names.keys(),
                names.mover(999, Side::Destination),
                names.network(Side::Destination),
                names.staging(999),
                names.dry_run(999),
            ] {
                assert!(made.len() <= 63, "{made}");
            }
        }
        assert_eq!(
            migration_name("testapp", &uid).unwrap().as_str(),
            "testapp-abababab"
        );
    }
}

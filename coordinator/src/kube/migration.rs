//! What one migration of a cluster moves, and what its objects are called: parsed once from its spec. Its
//! claims are values, found by name.

use std::{collections::BTreeMap, ops::Deref};

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use livmig_engine::spec::{ClaimTarget, KubernetesTarget, MigrationName, MigrationSpec};
use livmig_proto::{control::Side, ids::Epoch};

use super::api::{create::labels, mark::Mark, names::Names, uid::Uid};

/// One migration.
#[derive(Clone, Debug)]
pub struct Migration {
    /// What was asked for.
    pub spec: MigrationSpec,
    /// The part of it that is about the cluster.
    pub target: KubernetesTarget,
    /// Its UID, as its objects carry it.
    pub uid: Uid<MigrationSpec>,
    /// What its objects are called.
    pub names: Names,
    /// The claims that it moves.
    pub claims: Vec<Claim>,
}

/// The migration is one of a host.
#[derive(Debug, thiserror::Error)]
#[error("The migration {0} is not one of a cluster")]
pub struct NotOfACluster(MigrationName);

impl Migration {
    /// The migration that `spec` describes.
    ///
    /// # Errors
    /// When that is one of a host.
    pub fn of(spec: &MigrationSpec) -> Result<Self, NotOfACluster> {
        let target = spec.target.kubernetes();
        let target = target.ok_or_else(|| NotOfACluster(spec.name.clone()))?;
        let names = Names::new(&spec.name);
        let claims = target.claims.iter().enumerate();
        Ok(Self {
            uid: Uid::from(spec.uid),
            claims: claims
                .map(|(place, claim)| Claim::new(claim, place, &names))
                .collect(),
            names,
            target: target.clone(),
            spec: spec.clone(),
        })
    }

    /// The names of its claims.
    pub fn claim_names(&self) -> Vec<String> {
        self.claims
            .iter()
            .map(|claim| claim.claim.clone())
            .collect()
    }

    /// What everything of others says of itself while the coordinator of `epoch` has it in hand.
    pub fn mark(&self, epoch: Epoch) -> Mark {
        Mark {
            uid: self.uid.clone(),
            epoch,
            by_hand: String::new(),
        }
    }

    /// The labels of what is made for `role`.
    pub fn labels(&self, role: &str) -> BTreeMap<String, String> {
        labels(&self.uid, self.spec.name.as_str(), role)
    }
}

/// One claim that moves: what was planned of it, and what is made for it.
#[derive(Clone, Debug)]
pub struct Claim {
    planned: ClaimTarget,
    /// Its UID when the migration was planned.
    pub uid: Uid<PersistentVolumeClaim>,
    /// The claim under which its new volume is provisioned before the swap.
    pub staging: String,
    /// A name under which the final claim is tried without being made.
    pub dry_run: String,
    source: String,
    destination: String,
    /// Under what its share is stored in objects that are about all claims.
    pub key: String,
}

impl Claim {
    fn new(planned: &ClaimTarget, place: usize, names: &Names) -> Self {
        Self {
            uid: Uid::new(&planned.claim_uid),
            staging: names.staging(place),
            dry_run: names.dry_run(place),
            source: names.mover(place, Side::Source),
            destination: names.mover(place, Side::Destination),
            key: place.to_string(),
            planned: planned.clone(),
        }
    }

    /// The pod of its mover at `side`, and the Secret with that one's session.
    pub fn mover(&self, side: Side) -> &str {
        match side {
            Side::Source => &self.source,
            Side::Destination => &self.destination,
        }
    }
}

impl Deref for Claim {
    type Target = ClaimTarget;

    fn deref(&self) -> &ClaimTarget {
        &self.planned
    }
}

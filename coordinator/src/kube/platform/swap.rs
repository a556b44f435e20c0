//! Binding the claims' names.

use futures::future::join_all;
use livmig_engine::result::{StepFailure, StepOutcome};

use super::KubePlatform;
use crate::{
    kube::{
        migration::Claim,
        objects::claim::ClaimClass,
        volumes::{
            provisioned,
            rebind::{Direction, Rebind},
        },
    },
    platform::Context,
};

impl KubePlatform {
    /// Binds every claim's name to its new volume.
    pub(super) async fn swap(&self, context: &Context) -> Result<StepOutcome, StepFailure> {
        self.take_charge(context.epoch).await?;
        self.rebind_all(Direction::Forward, context).await?;
        Ok(StepOutcome::Done)
    }

    /// How the claims tell their class once they are bound to their new volumes.
    pub(super) fn class_after_the_swap(&self) -> ClaimClass {
        if self.migration.target.keep_claim_spec {
            ClaimClass::Kept
        } else {
            ClaimClass::OfVolume
        }
    }

    /// The new volume of a claim; none when it was never made or somebody has deleted it.
    pub(super) async fn new_volume(&self, claim: &Claim) -> Result<Option<String>, StepFailure> {
        match self.movers.volume(claim) {
            Some(volume) => Ok(Some(volume)),
            None => provisioned::volume(&self.cluster, &self.migration, claim).await,
        }
    }

    pub(super) async fn rebind_all(
        &self,
        direction: Direction,
        context: &Context,
    ) -> Result<(), StepFailure> {
        let (before, _) = self.before().await?;
        let mark = self.fence_mark(context.epoch);
        let mark = &mark;
        let all = self.migration.claims.iter().map(async |claim| {
            let original = &before.of(claim)?.claim;
            let new = self.new_volume(claim).await?;
            let old = claim.volume.as_str();
            let (wanted, other) = match (direction, new.as_deref()) {
                (Direction::Forward, Some(new)) => (new, Some(old)),
                (Direction::Forward, None) => {
                    return Err(StepFailure::permanent(format!(
                        "The new volume of the claim {} is gone: somebody has deleted it",
                        claim.claim
                    ))
                    .with_hint("the data is on the old volume as it was; migrate again"));
                }
                // Also when there is no new one: a fence may be up all the same.
                (Direction::Back, new) => (old, new),
            };
            Rebind {
                cluster: &self.cluster,
                original,
                staging: &claim.staging,
                wanted,
                other,
                direction,
                class: match direction {
                    Direction::Forward => self.class_after_the_swap(),
                    Direction::Back => ClaimClass::OfVolume,
                },
                epoch: context.epoch,
                mark,
            }
            .run()
            .await
        });
        join_all(all)
            .await
            .into_iter()
            .collect::<Result<Vec<()>, StepFailure>>()
            .map(|_| ())
    }
}

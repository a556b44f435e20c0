//! Taking charge: everything of others carries this coordinator's mark before any of it is changed.

use futures::future::join_all;
use k8s_openapi::{
    api::core::v1::{PersistentVolume, PersistentVolumeClaim},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use livmig_engine::result::StepFailure;
use livmig_proto::ids::Epoch;

use super::KubePlatform;
use crate::kube::{
    api::{cluster::call, mark::Mark},
    objects::claim::is_fenced,
    store::{journal, pre_image::PreImage},
    volumes::{fence, reclaim},
    workload,
};

impl KubePlatform {
    /// Before anything of others is changed: what it was is stored, what must not be lost is
    /// pinned, and everything carries this coordinator's epoch.
    pub(super) async fn take_charge(
        &self,
        epoch: Epoch,
    ) -> Result<&(PreImage, OwnerReference), StepFailure> {
        let before = self.before().await?;
        let mut stamped = self.stamped.lock().await;
        let (workload, mark) = (&self.migration.target.workload, self.mark(epoch));
        if *stamped == Some(epoch) && workload::carries(&self.cluster, workload, &mark).await? {
            return Ok(before);
        }
        self.mark_all(&mark, true).await?;
        *stamped = Some(epoch);
        Ok(before)
    }

    /// As [`Self::take_charge`], for a way back, for which the claims and their old volumes suffice.
    /// Whether the workload is still the one that was planned for: where somebody has deleted it or
    /// made it anew, what is theirs is left alone.
    pub(super) async fn take_charge_to_go_back(&self, epoch: Epoch) -> Result<bool, StepFailure> {
        if workload::is_current(&self.cluster, &self.migration.target.workload).await? {
            return self.take_charge(epoch).await.map(|_| true);
        }
        let workload = &self.migration.target.workload;
        tracing::warn!(%workload, "somebody has deleted it or made it anew; its claims are given back");
        self.before().await?;
        self.mark_all(&self.mark(epoch), false).await?;
        Ok(false)
    }

    async fn mark_all(&self, mark: &Mark, with_workload: bool) -> Result<(), StepFailure> {
        // What carries no mark may have been given back by a coordinator that came and went.
        self.refuse_replaced(mark.epoch).await?;
        let marked = self.put_marks(mark, with_workload).await;
        // It may also have come and gone since, and a mark that nobody is to take off any more would
        // be obeyed. Whoever comes later than this finds every mark, and puts its own over it.
        if let Err(failure) = self.refuse_replaced(mark.epoch).await {
            self.retract(mark).await;
            return Err(failure);
        }
        marked
    }

    /// Marks the workload and every claim, and pins every volume. All calls are over when it
    /// returns: none puts a mark where it was taken off since.
    async fn put_marks(&self, mark: &Mark, with_workload: bool) -> Result<(), StepFailure> {
        if with_workload {
            workload::stamp(&self.cluster, &self.migration.target.workload, mark).await?;
        }
        let volumes = &self.cluster.cluster_api::<PersistentVolume>();
        let each = self.migration.claims.iter().map(|claim| async move {
            let pin = async {
                let what = format!("read the volume {}", claim.volume);
                match call(what, volumes.get_opt(&claim.volume)).await? {
                    Some(_) => reclaim::pin(volumes, &claim.volume, mark).await,
                    // Whoever needs it will say so; a workload on its new volume does not.
                    None => Ok(()),
                }
            };
            let (pinned, prepared) = tokio::join!(
                pin,
                fence::prepare(&self.cluster, &claim.claim, &claim.uid, mark),
            );
            pinned.and(prepared)
        });
        join_all(each).await.into_iter().collect()
    }

    /// Takes this coordinator's marks off again, and its pins, where nothing rests on them that
    /// another one has still to bring to an end. What carries the mark of that one stays as it is.
    async fn retract(&self, mark: &Mark) {
        let volumes = &self.cluster.cluster_api::<PersistentVolume>();
        let claims = &self.cluster.api::<PersistentVolumeClaim>();
        let each = self.migration.claims.iter().map(|claim| async move {
            fence::retract(&self.cluster, &claim.claim, mark).await?;
            let what = format!("read the claim {}", claim.claim);
            let found = call(what, claims.get_opt(&claim.claim)).await?;
            // One that goes takes a volume with it that is not pinned.
            if found.is_some_and(|found| !is_going(&found)) {
                reclaim::retract(volumes, &claim.volume, &claim.uid, mark).await?;
            }
            Ok(())
        });
        let mut all: Vec<Result<(), StepFailure>> = join_all(each).await;
        all.push(workload::retract(&self.cluster, &self.migration.target.workload, mark).await);
        for failure in all.into_iter().filter_map(Result::err) {
            tracing::warn!(%failure, "marks are left to whoever has taken over");
        }
    }

    /// Fails when another coordinator has taken over. It says so in the journal first, and marks and
    /// what a migration makes may be gone again since.
    pub(in crate::kube) async fn refuse_replaced(&self, epoch: Epoch) -> Result<(), StepFailure> {
        let last = journal::last_epoch(&self.cluster, &self.migration.names).await;
        let last = last.map_err(|error| StepFailure::transient(error.to_string()))?;
        if last == Some(epoch) {
            return Ok(());
        }
        Err(StepFailure::permanent(
            "Another coordinator has taken over: the journal goes on without this one",
        )
        .with_hint("livmig-coord get"))
    }
}

fn is_going(claim: &PersistentVolumeClaim) -> bool {
    is_fenced(claim) || claim.metadata.deletion_timestamp.is_some()
}

#[cfg(test)]
mod tests {
    use livmig_engine::{record::Event, result::FailureKind, step::Step};
    use serde_json::{Value, json};

    use super::{
        super::fixture::{OBJECTS, VOLUME, begun, context, platform, record, theirs},
        *,
    };
    use crate::{
        kube::testing::{
            objects::{self, with},
            server::Course,
        },
        platform::Platform as _,
    };

    #[tokio::test]
    async fn whoever_is_in_charge_leaves_its_mark_on_all() {
        let server = begun().await;
        platform(&server).await.take_charge(Epoch(1)).await.unwrap();
        for object in theirs(&server) {
            let epoch = &object["metadata"]["annotations"]["livmig.io/epoch"];
            assert_eq!(epoch, "1", "{object}");
        }
        let volume = &theirs(&server)[1];
        assert_eq!(volume["spec"]["persistentVolumeReclaimPolicy"], "Retain");
    }

    #[tokio::test]
    async fn whoever_pauses_while_another_one_comes_and_goes_marks_nothing() {
        for path in OBJECTS {
            let server = begun().await;
            let before = theirs(&server);
            let mut marking = server.hold("PATCH", path);
            let asleep = platform(&server).await;
            let charge =
                tokio::spawn(async move { asleep.take_charge(Epoch(1)).await.map(|_| ()) });
            marking.arrived().await;
            record(&server, 2, 1, Event::Adopted).await;
            marking.go(Course::Answered).await;
            let failure = charge.await.unwrap().unwrap_err();
            assert!(failure.message.contains("taken over"), "{path}: {failure}");
            assert_eq!(theirs(&server), before, "{path}");
        }
    }

    #[tokio::test]
    async fn what_another_one_has_marked_meanwhile_stays_its_own() {
        let server = begun().await;
        let mut pinning = server.hold("PATCH", VOLUME);
        let asleep = platform(&server).await;
        let charge = tokio::spawn(async move { asleep.take_charge(Epoch(1)).await.map(|_| ()) });
        pinning.arrived().await;
        record(&server, 2, 1, Event::Adopted).await;
        platform(&server).await.take_charge(Epoch(2)).await.unwrap();
        let marked = theirs(&server);
        pinning.go(Course::Answered).await;
        charge.await.unwrap().unwrap_err();
        assert_eq!(theirs(&server), marked);
    }

    #[tokio::test]
    async fn a_way_back_needs_neither_the_workload_nor_a_volume_that_is_gone() {
        let server = begun().await;
        let anew = json!({"metadata": {"uid": "another"}});
        let sleeper = platform(&server).await;
        sleeper.before().await.unwrap();
        server.store(&with(&objects::stateful_set("app"), anew));
        assert!(sleeper.take_charge(Epoch(1)).await.is_err());
        assert!(!sleeper.take_charge_to_go_back(Epoch(1)).await.unwrap());
        let [set, volume, claim] = theirs(&server).try_into().unwrap();
        assert_eq!(set["metadata"]["annotations"], Value::Null);
        for object in [volume, claim] {
            assert_eq!(object["metadata"]["annotations"]["livmig.io/epoch"], "1");
        }
    }

    #[tokio::test]
    async fn a_workload_that_was_made_anew_in_the_downtime_is_told_as_that() {
        let server = begun().await;
        let resumed = platform(&server).await;
        resumed.before().await.unwrap();
        let anew = json!({"metadata": {"uid": "another"}});
        server.store(&with(&objects::stateful_set("app"), anew));
        let failure = resumed.perform(Step::Fence, &context()).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Undecided, "{failure}");
        assert!(failure.message.contains("re-created"), "{failure}");
    }

    #[tokio::test]
    async fn a_volume_that_is_gone_is_not_waited_for() {
        let server = begun().await;
        let first = platform(&server).await;
        first.before().await.unwrap();
        server.remove::<PersistentVolume>("pv-a");
        first.take_charge(Epoch(1)).await.unwrap();
    }
}

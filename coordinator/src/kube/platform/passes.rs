//! Passes over every volume at once.

use std::sync::PoisonError;

use futures::future::{join_all, try_join_all};
use livmig_engine::{
    left_out::bound,
    result::{StepFailure, StepOutcome, VolumePass},
};
use livmig_proto::{
    control::{PassKind, PassReport},
    ids::{Epoch, PassNumber},
};

use super::{
    KubePlatform,
    downtime::Downtime,
    reachability::{self, Path},
};
use crate::{
    kube::{movers::Connected, store::limits::ClusterLimits},
    movers::{failure::control as control_failure, pair::Terms},
    platform::Context,
};

/// Bytes of paths of what all volumes leave out that one record of the journal holds: an object has
/// room for 1 MiB.
const LISTED_BYTES_MAX: usize = 256 << 10;

impl KubePlatform {
    /// Runs a live pass on every volume.
    pub(super) async fn live_pass(
        &self,
        number: PassNumber,
        context: &Context,
    ) -> Result<StepOutcome, StepFailure> {
        let reports = self.pass(number, PassKind::Live, context).await?;
        if let Some(stranded) = self.stranded().await? {
            // What it has copied is of no use: the next pass makes the volume anew. Told here,
            // before anybody decides to stop the workload for it.
            return Err(stranded.superseded());
        }
        Ok(StepOutcome::Passed { reports })
    }

    /// Runs the final pass on every volume.
    pub(super) async fn final_pass(
        &self,
        downtime: &Downtime,
        number: PassNumber,
        context: &Context,
    ) -> Result<StepOutcome, StepFailure> {
        let reports = self.pass(number, PassKind::Final, context).await?;
        downtime.note_final_pass(&reports);
        Ok(StepOutcome::Passed { reports })
    }

    /// Runs one pass on every volume. When the pass of one fails the others go on to their end.
    async fn pass(
        &self,
        number: PassNumber,
        kind: PassKind,
        context: &Context,
    ) -> Result<Vec<VolumePass>, StepFailure> {
        let pairs = self.pairs(context).await?;
        let limits = ClusterLimits {
            cluster: self.cluster.clone(),
            names: self.migration.names.clone(),
            planned: self.migration.spec.options.load,
        };
        let terms = Terms {
            options: &self.migration.spec.options,
            limits: &limits,
        };
        let passes = pairs
            .iter()
            .zip(&self.migration.claims)
            .map(async |(pair, claim)| {
                let report = pair.ends().pass((number, kind), &terms, context).await?;
                self.heed_silence(pair, &report).await?;
                Ok(VolumePass {
                    volume: claim.name(),
                    report,
                })
            });
        let mut reports = join_all(passes)
            .await
            .into_iter()
            .collect::<Result<Vec<_>, StepFailure>>()?;
        bound(&mut reports, LISTED_BYTES_MAX);
        Ok(reports)
    }

    /// Fails when a pass has heard nothing from a destination that runs: something is in the way,
    /// and only here both ends are known by name.
    async fn heed_silence(&self, pair: &Connected, report: &PassReport) -> Result<(), StepFailure> {
        let path = Path {
            source: &pair.source.pod,
            destination: &pair.destination.pod,
            data: pair.data,
        };
        let silent = reachability::is_silent(&report.faults);
        // One that does not answer here either is gone, and the report's own words are right.
        if silent && pair.destination.client.hello().await.is_err() {
            return Ok(());
        }
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        if silent {
            return Err(reachability::blocked(
                &path,
                report.kind,
                &paths,
                self.cluster.namespace(),
            ));
        }
        paths.note(&path);
        Ok(())
    }

    pub(super) async fn stop_pass_everywhere(
        &self,
        number: PassNumber,
        epoch: Epoch,
    ) -> Result<(), StepFailure> {
        let stops = self.migration.claims.iter().map(async |claim| {
            let Some(pair) = self.movers.connected(claim, epoch).await else {
                return Ok(());
            };
            pair.source
                .client
                .stop_pass(number)
                .await
                .map_err(|error| control_failure(&error, "The source mover cannot be asked"))
        });
        try_join_all(stops).await.map(|_| ())
    }
}

//! The two movers of one volume, at work together: a pass runs, an older one is ended, both ends are
//! compared. The same on every platform.

use std::net::SocketAddr;

use livmig_engine::{
    result::{StepFailure, Verification, VolumePass},
    spec::{Options, VolumeName},
};
use livmig_proto::{
    control::{PassKind, PassReport, PassRequest},
    ids::PassNumber,
};

use super::{
    control::ControlClient,
    failure::control as control_failure,
    limits::{self, StoredLimits},
};
use crate::platform::Context;

/// Both movers of a volume, connected.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'p> {
    /// The one that reads the workload's volume.
    pub source: &'p ControlClient,
    /// The one that writes the new volume.
    pub destination: &'p ControlClient,
    /// Where the destination listens for data.
    pub data: SocketAddr,
}

/// What holds for every pass of a migration.
#[derive(Debug)]
pub struct Terms<'p, L> {
    /// What was asked for.
    pub options: &'p Options,
    /// Where the limits of live passes are stored.
    pub limits: &'p L,
}

/// Why a pass has no report.
#[derive(Debug)]
pub enum CutOff {
    /// The destination mover is gone. The source would find out only when its packets stay unanswered
    /// for long, and works on until then.
    DestinationGone(StepFailure),
    /// Anything else.
    Failed(StepFailure),
}

impl From<CutOff> for StepFailure {
    fn from(cut_off: CutOff) -> Self {
        match cut_off {
            CutOff::DestinationGone(failure) | CutOff::Failed(failure) => failure,
        }
    }
}

impl Pair<'_> {
    /// Runs the pass `number`, or joins it where it is under way, or takes its report where it has
    /// ended. Another pass of theirs is ended first, and its report forgotten.
    ///
    /// # Errors
    /// When a mover cannot be asked, or the pass was cut off.
    pub async fn pass<L: StoredLimits>(
        &self,
        (number, kind): (PassNumber, PassKind),
        terms: &Terms<'_, L>,
        context: &Context,
    ) -> Result<PassReport, CutOff> {
        let asked =
            |error| CutOff::Failed(control_failure(&error, "The source mover cannot be asked"));
        let now = self.source.hello().await.map_err(asked)?;
        if let Some(other) = now.running.filter(|running| *running != number) {
            self.source.stop_pass(other).await.map_err(asked)?;
            // Joined, to learn when it has ended; what it reports belongs to nobody any more.
            self.run((other, PassKind::Live), terms, context).await?;
            self.source.acknowledge(other).await.map_err(asked)?;
        } else if let Some(old) = now.reported.filter(|reported| *reported != number) {
            self.source.acknowledge(old).await.map_err(asked)?;
        }
        self.run((number, kind), terms, context).await
    }

    async fn run<L: StoredLimits>(
        &self,
        (number, kind): (PassNumber, PassKind),
        Terms { options, limits }: &Terms<'_, L>,
        context: &Context,
    ) -> Result<PassReport, CutOff> {
        let request = PassRequest {
            pass: number,
            kind,
            destination: self.data,
            verify: options.verify,
            adopt: options.adopt,
            allow_empty: false,
            // Nobody decides on a pass that did: `convergence` asks for another.
            may_leave_read_back: kind == PassKind::Live,
        };
        let sink = context.progress.clone();
        let mut report = |progress| sink.report(progress);
        let pass = self.source.pass(request, &mut report);
        let pass = async {
            match kind {
                PassKind::Live => limits::within(self.source, *limits, pass).await?,
                PassKind::Final => pass.await,
            }
        };
        let cut_off = format!("The {kind} pass {number} was cut off");
        tokio::select! {
            biased;
            passed = pass => {
                passed.map_err(|error| CutOff::Failed(control_failure(&error, &cut_off)))
            }
            () = self.destination.closed() => Err(CutOff::DestinationGone(
                StepFailure::transient(format!("{cut_off}: the destination mover is gone")),
            )),
        }
    }

    /// Compares both ends of `volume`, which the passes `last` have made equal.
    ///
    /// # Errors
    /// When one of them cannot be asked.
    pub async fn compare(
        &self,
        volume: VolumeName,
        options: &Options,
        last: &[VolumePass],
        context: &Context,
    ) -> Result<Verification, StepFailure> {
        let level = options.verify;
        let sink = context.progress.clone();
        let mut report = |progress| sink.report(progress);
        let mut silent = |_| ();
        let (source, destination) = tokio::try_join!(
            self.source.manifest(level, &mut report),
            self.destination.manifest(level, &mut silent),
        )
        .map_err(|error| control_failure(&error, "The two ends could not be compared"))?;
        // A manifest does not tell where it was read from.
        let on_device = last
            .iter()
            .any(|pass| pass.volume == volume && pass.report.verified_on_device);
        Ok(Verification {
            volume,
            level,
            on_device,
            entries: destination.entries,
            bytes: destination.bytes,
            digest_source: source.digest,
            digest_destination: destination.digest,
        })
    }
}

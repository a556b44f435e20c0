//! What a platform can do: perform a step, probe one, stop a pass.
//!
//! The driver is the only caller. It appends a step's intent to the journal before
//! [`Platform::perform`] and the outcome after it; nothing else may change a workload or volume.
//!
//! # The contract of every step
//!
//! * **Idempotent.** Performing a step that was done, or was cut off anywhere, is right.
//! * **Cut off at any time.** The driver drops the future of `perform` when its result no longer
//!   matters (a deadline, an interrupt). That must leave nothing worse than a crash of the whole
//!   program at that point would, and nothing running behind the driver's back: a stop command
//!   that is still running when the workload is restarted would stop it again.
//! * **True.** `Ok` means done and, where a crash of the machine could undo it, durable.

use std::{fmt, future::Future, sync::Arc};

use livmig_engine::{
    result::{Probe, StepFailure, StepOutcome},
    step::Step,
};
use livmig_proto::{
    control::Progress,
    ids::{Epoch, PassNumber},
};

/// Where workloads, volumes and movers live.
pub trait Platform: Send + Sync {
    /// Performs `step`; see [`Step`] for what each means, the module's contract for how, and
    /// [`StepOutcome::fits`] for what each returns.
    fn perform(
        &self,
        step: Step,
        context: &Context,
    ) -> impl Future<Output = Result<StepOutcome, StepFailure>> + Send;

    /// Finds out whether `step`, whose intent an earlier coordinator recorded, was done. Starts
    /// nothing and changes nothing; may wait for a live pass that is still running, to return its
    /// report.
    fn probe(
        &self,
        step: Step,
        context: &Context,
    ) -> impl Future<Output = Result<Probe, StepFailure>> + Send;

    /// Asks the movers to end `pass` at the next entry boundary and returns as soon as they were
    /// asked; the `perform` of that pass then returns its incomplete report. Harmless when no such
    /// pass is under way.
    fn stop_pass(
        &self,
        pass: PassNumber,
        context: &Context,
    ) -> impl Future<Output = Result<(), StepFailure>> + Send;
}

/// What the driver hands to every call.
#[derive(Clone)]
pub struct Context {
    /// The epoch that every mutation must carry.
    pub epoch: Epoch,
    /// Where a pass or verification reports how far it is.
    pub progress: ProgressSink,
}

/// Takes progress from a platform; cheap to clone, never blocks.
#[derive(Clone)]
pub struct ProgressSink(Arc<dyn Fn(Progress) + Send + Sync>);

impl ProgressSink {
    /// A sink that calls `take` for each message.
    pub fn new(take: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }

    /// Hands over how far a step is.
    pub fn report(&self, progress: Progress) {
        (self.0)(progress);
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

//! How the rest of the program talks to a driver: requests in, status out.

use std::sync::Arc;

use livmig_engine::{
    convergence::{Assessment, PassCost},
    machine::{DowntimeSpan, Machine, Next, Question, RequestRefusal, Whereabouts},
    outcome::Outcome,
    phase::Phase,
    request::Request,
    spec::MigrationSpec,
    step::Step,
    time::Timestamp,
};
use livmig_proto::{control::Progress, ids::Epoch};
use tokio::sync::{mpsc, oneshot, watch};

/// The outside end of a driver; clones talk to the same one.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) requests: mpsc::Sender<Asked>,
    pub(super) status: watch::Receiver<Status>,
}

/// A request on its way.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) request: Request,
    pub(super) answer: oneshot::Sender<Result<(), RequestRefusal>>,
}

/// Why a request was not taken.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// It is not possible now.
    #[error(transparent)]
    Refused(#[from] RequestRefusal),
    /// The driver has ended.
    #[error("the migration is not being driven any more")]
    Gone,
}

impl Handle {
    /// Asks for something; `Ok` means it is in the journal.
    ///
    /// # Errors
    /// When it is not possible now or nobody is there to do it.
    pub async fn request(&self, request: Request) -> Result<(), RequestError> {
        let (answer, answered) = oneshot::channel();
        self.requests
            .send(Asked { request, answer })
            .await
            .map_err(|_| RequestError::Gone)?;
        answered
            .await
            .map_err(|_| RequestError::Gone)?
            .map_err(RequestError::Refused)
    }

    /// The status, and every change of it. The channel closes when the driver ends.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }
}

/// What is known about a migration that is being driven.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// The migration; none before its journal was read.
    pub migration: Option<MigrationStatus>,
    /// How far the step under way is.
    pub progress: Option<Progress>,
    /// Why the journal, for which everything waits, cannot be written right now.
    pub doubt: Option<String>,
}

/// What the machine knows.
#[derive(Clone, Debug)]
pub struct MigrationStatus {
    /// When this was true.
    pub now: Timestamp,
    /// What was asked for.
    pub spec: Arc<MigrationSpec>,
    /// The epoch of this coordinator.
    pub epoch: Epoch,
    /// The phase.
    pub phase: Phase,
    /// What the check found that people should know.
    pub warnings: Vec<String>,
    /// The steps under way.
    pub steps: Vec<Step>,
    /// The passes that ended, in order; a pass that was cut short is not complete.
    pub passes: Vec<PassCost>,
    /// The downtime to expect, and what that means.
    pub assessment: Option<Assessment>,
    /// The downtime, once it has begun.
    pub downtime: Option<DowntimeSpan>,
    /// Where the workload is.
    pub whereabouts: Whereabouts,
    /// What a person must answer before it goes on.
    pub question: Option<Question>,
    /// The last failure, while its step has not succeeded since.
    pub trouble: Option<String>,
    /// How it ended.
    pub outcome: Option<Outcome>,
}

impl MigrationStatus {
    /// What `machine` knows at `now`.
    pub(super) fn of(machine: &Machine, spec: &Arc<MigrationSpec>, now: Timestamp) -> Self {
        let question = match machine.next(now) {
            Next::Ask(question) => Some(question),
            _ => None,
        };
        Self {
            now,
            spec: Arc::clone(spec),
            epoch: machine.epoch(),
            phase: machine.phase(),
            warnings: machine.warnings().to_vec(),
            steps: machine.under_way(),
            passes: machine.passes().to_vec(),
            assessment: machine.assessment(),
            downtime: machine.downtime(),
            whereabouts: machine.whereabouts(),
            question,
            trouble: machine.trouble(),
            outcome: machine.outcome(),
        }
    }
}

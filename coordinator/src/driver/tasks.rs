//! The calls to the platform that are under way.
//!
//! They are polled by the driver's own task, not spawned: dropping the driver drops them at that
//! very moment, so nothing acts on behalf of a coordinator that is gone.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

use livmig_engine::{
    result::{Probe, StepFailure, StepOutcome},
    step::Step,
};
use livmig_proto::ids::PassNumber;
use tracing::{Instrument as _, Span, info_span};

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum TaskPurpose {
    Perform(Step),
    Probe(Step),
    Stop(PassNumber),
}

impl TaskPurpose {
    /// In which what the call logs can be found.
    fn span(self) -> Span {
        match self {
            Self::Perform(step) => info_span!("step", %step),
            Self::Probe(step) => info_span!("probe", %step),
            Self::Stop(pass) => info_span!("stop", %pass),
        }
    }
}

/// What a call brought.
#[derive(Debug)]
pub(super) enum TaskAnswer {
    Performed(Step, Result<StepOutcome, StepFailure>),
    Probed(Step, Result<Probe, StepFailure>),
    Stopped(PassNumber, Result<(), StepFailure>),
}

/// The calls under way.
#[derive(Default)]
pub(super) struct Tasks<'a> {
    tasks: Vec<Task<'a>>,
}

struct Task<'a> {
    purpose: TaskPurpose,
    call: Pin<Box<dyn Future<Output = TaskAnswer> + Send + 'a>>,
}

impl<'a> Tasks<'a> {
    pub(super) fn start(
        &mut self,
        purpose: TaskPurpose,
        call: impl Future<Output = TaskAnswer> + Send + 'a,
    ) {
        self.tasks.push(Task {
            purpose,
            call: Box::pin(call.instrument(purpose.span())),
        });
    }

    pub(super) fn has(&self, purpose: TaskPurpose) -> bool {
        self.tasks.iter().any(|task| task.purpose == purpose)
    }

    /// Cuts off every call whose purpose is not wanted.
    pub(super) fn keep(&mut self, wanted: impl Fn(TaskPurpose) -> bool) {
        self.tasks.retain(|task| wanted(task.purpose));
    }

    /// The next answer; never, while nothing is under way.
    pub(super) async fn next(&mut self) -> TaskAnswer {
        poll_fn(|context| {
            for index in 0..self.tasks.len() {
                let Some(task) = self.tasks.get_mut(index) else {
                    break;
                };
                if let Poll::Ready(answer) = task.call.as_mut().poll(context) {
                    self.tasks.remove(index);
                    return Poll::Ready(answer);
                }
            }
            Poll::Pending
        })
        .await
    }
}

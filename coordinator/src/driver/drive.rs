//! A run that has begun: the loop between the machine, the journal and the platform.

use std::{future::pending, sync::Arc, time::Duration};

use livmig_engine::{
    machine::{Machine, Next},
    outcome::Outcome,
    record::{Event, Record},
    request::Request,
    result::{Probe, StepFailure},
    spec::MigrationSpec,
    step::Step,
    time::Timestamp,
};
use livmig_proto::ids::PassNumber;
use tokio::sync::{mpsc, watch};

use super::{
    Clock, DriverError, First, Status,
    handle::{Asked, MigrationStatus},
    tasks::{TaskAnswer, TaskPurpose, Tasks},
};
use crate::{
    journal::Journal,
    platform::{Context, Platform, ProgressSink},
};

/// A run that has begun.
pub(super) struct Drive<'a, P, J, C> {
    pub(super) spec: Arc<MigrationSpec>,
    pub(super) platform: &'a P,
    pub(super) journal: J,
    pub(super) clock: &'a C,
    /// How far the journal's last record lay ahead of this clock.
    pub(super) lead: Duration,
    pub(super) machine: Machine,
    /// The machine as far as its records are stored.
    pub(super) stored: Machine,
    /// Records that are decided on and not stored yet. They are before anything is done, waited
    /// for or answered: what leads to the next step is written with that step's intent.
    pub(super) queued: Vec<Record>,
    pub(super) status: watch::Sender<Status>,
    /// None once every handle is gone.
    pub(super) requests: Option<mpsc::Receiver<Asked>>,
    pub(super) stop_asked: Option<PassNumber>,
}

impl<'a, P: Platform, J: Journal, C: Clock> Drive<'a, P, J, C> {
    pub(super) async fn run(&mut self) -> Result<Outcome, DriverError> {
        let mut tasks = Tasks::default();
        self.publish();
        loop {
            // A probe whose step is no longer in doubt has nothing to tell any more.
            let doubts = self.machine.in_doubt();
            tasks.keep(|purpose| match purpose {
                TaskPurpose::Probe(step) => doubts.contains(&step),
                TaskPurpose::Perform(_) | TaskPurpose::Stop(_) => true,
            });
            match self.machine.next(self.now()) {
                Next::Perform(step) => {
                    self.append(Event::Intent { step })?;
                    self.flush().await?;
                    self.perform(&mut tasks, step);
                }
                Next::Probe(step) if tasks.has(TaskPurpose::Probe(step)) => {
                    let limit = self.machine.limit();
                    self.wait(&mut tasks, limit).await?;
                }
                Next::Probe(step) => {
                    self.flush().await?;
                    self.probe(&mut tasks, step);
                }
                Next::Record(event) => self.append(event)?,
                Next::Abandon(step) => {
                    if let Step::Pass { number, .. } = step {
                        self.ask_to_stop(&mut tasks, number);
                    }
                    tasks.keep(|purpose| purpose != TaskPurpose::Perform(step));
                    self.append(Event::Abandoned { step })?;
                }
                Next::Await { stop, until } => {
                    if let Some(pass) = stop {
                        self.flush().await?;
                        self.ask_to_stop(&mut tasks, pass);
                    }
                    self.wait(&mut tasks, until).await?;
                }
                Next::Ask(_) => self.wait(&mut tasks, None).await?,
                Next::Finished(outcome) => {
                    self.flush().await?;
                    return Ok(outcome);
                }
            }
        }
    }

    fn perform(&self, tasks: &mut Tasks<'a>, step: Step) {
        let (platform, context) = (self.platform, self.context());
        tasks.start(TaskPurpose::Perform(step), async move {
            TaskAnswer::Performed(step, platform.perform(step, &context).await)
        });
    }

    fn probe(&self, tasks: &mut Tasks<'a>, step: Step) {
        let (platform, context) = (self.platform, self.context());
        tasks.start(TaskPurpose::Probe(step), async move {
            TaskAnswer::Probed(step, platform.probe(step, &context).await)
        });
    }

    /// Asks the movers once to stop `pass`; the answer is not waited for.
    fn ask_to_stop(&mut self, tasks: &mut Tasks<'a>, pass: PassNumber) {
        if self.stop_asked == Some(pass) {
            return;
        }
        self.stop_asked = Some(pass);
        let (platform, context) = (self.platform, self.context());
        tasks.start(TaskPurpose::Stop(pass), async move {
            TaskAnswer::Stopped(pass, platform.stop_pass(pass, &context).await)
        });
    }

    /// Waits for an answer, a request or `until`, and records what came.
    async fn wait(
        &mut self,
        tasks: &mut Tasks<'a>,
        until: Option<Timestamp>,
    ) -> Result<(), DriverError> {
        self.flush().await?;
        let pause = until.map(|until| until.since(self.now()));
        let clock = self.clock;
        let requests = &mut self.requests;
        tokio::select! {
            biased;
            asked = next_request(requests) => self.asked(asked).await,
            answer = tasks.next() => self.answered(answer),
            () = sleep(clock, pause) => Ok(()),
        }
    }

    async fn asked(&mut self, asked: Option<Asked>) -> Result<(), DriverError> {
        let Some(Asked { request, answer }) = asked else {
            self.requests = None;
            // Nobody is left to answer a question: leave it for a resume.
            if matches!(self.machine.next(self.now()), Next::Ask(_)) {
                let event = self.machine.request(Request::Interrupt)?;
                self.append(event)?;
            }
            return Ok(());
        };
        let taken = match self.machine.request(request) {
            Ok(event) => {
                self.append(event)?;
                self.flush().await?;
                Ok(())
            }
            Err(refusal) => Err(refusal),
        };
        // Whoever asked may be gone.
        let _ = answer.send(taken);
        Ok(())
    }

    fn answered(&mut self, answer: TaskAnswer) -> Result<(), DriverError> {
        match answer {
            TaskAnswer::Performed(step, Ok(outcome)) if outcome.fits(step) => {
                self.append(Event::Outcome { step, outcome })
            }
            TaskAnswer::Performed(step, Ok(_)) => {
                let failure = misfit(step);
                self.append(Event::Failure { step, failure })
            }
            TaskAnswer::Performed(step, Err(failure)) | TaskAnswer::Probed(step, Err(failure)) => {
                tracing::warn!(%step, %failure, "step failed");
                self.append(Event::Failure { step, failure })
            }
            TaskAnswer::Probed(step, Ok(Probe::Done { outcome })) if !outcome.fits(step) => {
                let failure = misfit(step);
                self.append(Event::Failure { step, failure })
            }
            TaskAnswer::Probed(step, Ok(found)) => self.append(Event::Probed { step, found }),
            TaskAnswer::Stopped(pass, result) => {
                if let Err(failure) = result {
                    tracing::warn!(%pass, %failure, "the pass could not be asked to stop");
                }
                Ok(())
            }
        }
    }

    pub(super) async fn store_first(&mut self, first: First) -> Result<(), DriverError> {
        match first {
            First::Planned(record) => self.queued.push(*record),
            First::Adopted => self.append(Event::Adopted)?,
        }
        self.flush().await
    }

    /// Takes the record of `event` into account; it is stored before anything else is done.
    pub(super) fn append(&mut self, event: Event) -> Result<(), DriverError> {
        let record = self.machine.record(event, self.now());
        // Refused before it is stored: a journal must never hold what cannot be replayed.
        let mut after = self.machine.clone();
        after.apply(&record)?;
        self.queued.push(record);
        let (before, now) = (self.machine.phase(), after.phase());
        if before.name() != now.name() {
            tracing::info!(from = before.name(), to = now.name(), "phase");
        }
        self.machine = after;
        Ok(())
    }

    /// Stores what is decided on and not stored yet.
    pub(super) async fn flush(&mut self) -> Result<(), DriverError> {
        if !self.queued.is_empty() {
            self.journal
                .append_all(&self.queued)
                .await
                // Only what is stored says where the workload is.
                .map_err(|source| DriverError::append(&self.stored, source))?;
            self.queued.clear();
            self.stored = self.machine.clone();
        }
        self.publish();
        Ok(())
    }

    fn now(&self) -> Timestamp {
        self.clock.now().after(self.lead)
    }

    fn context(&self) -> Context {
        let status = self.status.clone();
        Context {
            epoch: self.machine.epoch(),
            progress: ProgressSink::new(move |progress| {
                status.send_modify(|status| status.progress = Some(progress));
            }),
        }
    }

    pub(super) fn publish(&self) {
        let migration = MigrationStatus::of(&self.machine, &self.spec, self.now());
        self.status.send_modify(|status| {
            let before = status.migration.take().map(|migration| migration.steps);
            if before.as_ref() != Some(&migration.steps) {
                status.progress = None;
            }
            status.migration = Some(migration);
        });
    }
}

async fn next_request(requests: &mut Option<mpsc::Receiver<Asked>>) -> Option<Asked> {
    match requests {
        Some(requests) => requests.recv().await,
        None => pending().await,
    }
}

async fn sleep<C: Clock>(clock: &C, pause: Option<Duration>) {
    match pause {
        Some(pause) => clock.sleep(pause).await,
        None => pending().await,
    }
}

fn misfit(step: Step) -> StepFailure {
    StepFailure::permanent(format!(
        "the platform answered {step} with another step's outcome, a defect of livmig"
    ))
}

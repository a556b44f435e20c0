//! The driver: one loop that does what the machine says.
//!
//! ```text
//!             ┌───────────── append ─────────────┐
//!             ▼                                  │
//!   journal ──replay──► machine ──next──► perform / probe / wait / ask
//!                                                │
//!                        platform ◄──────────────┘
//! ```
//!
//! A step's intent is stored before it is performed and its outcome after, together with what the
//! machine decides on it. A record that cannot
//! be stored stops the driver: it must never act on what a later coordinator would not know. The
//! driver decides nothing; everything it does follows from the journal, the time and requests.

mod clock;
mod drive;
mod error;
mod handle;
mod tasks;

pub use clock::{Clock, SystemClock};
pub use error::DriverError;
pub use handle::{Handle, MigrationStatus, RequestError, Status};

use std::sync::Arc;

use livmig_engine::{
    machine::{Machine, RequestRefusal},
    outcome::Outcome,
    record::{Event, Record, SCHEMA},
    request::Request,
    spec::MigrationSpec,
    time::Timestamp,
};
use livmig_proto::ids::Epoch;
use tokio::sync::{mpsc, watch};
use tracing::Instrument as _;

use self::{drive::Drive, handle::Asked};
use crate::{
    journal::{Doubts, Journal},
    platform::Platform,
};

/// How a run begins.
#[derive(Debug)]
pub enum Start {
    /// A migration that was never recorded.
    New(Box<MigrationSpec>),
    /// One that was, and has not ended.
    Resume {
        /// What to ask for as soon as it is taken over.
        request: Option<Request>,
    },
}

/// Drives one migration.
#[derive(Debug)]
pub struct Driver<P, J, C> {
    platform: P,
    journal: J,
    clock: C,
    requests: mpsc::Receiver<Asked>,
    status: watch::Sender<Status>,
}

/// Requests that may wait for the driver.
const REQUESTS_WAITING: usize = 8;

impl<P: Platform, J: Journal, C: Clock> Driver<P, J, C> {
    /// A driver that has not begun, and the handle to talk to it.
    pub fn new(platform: P, journal: J, clock: C) -> (Self, Handle) {
        let (asking, requests) = mpsc::channel(REQUESTS_WAITING);
        let (status, seen) = watch::channel(Status::default());
        let driver = Self {
            platform,
            journal,
            clock,
            requests,
            status,
        };
        let handle = Handle {
            requests: asking,
            status: seen,
        };
        (driver, handle)
    }

    /// Drives until the migration has ended, halts or is interrupted. Dropping the future is like
    /// a crash: a resume goes on.
    ///
    /// # Errors
    /// When the journal cannot be read or written, is no migration's, or the first request is
    /// refused. The message says where the workload is.
    pub async fn run(self, start: Start) -> Result<Outcome, DriverError> {
        let Self {
            platform,
            mut journal,
            clock,
            requests,
            status,
        } = self;
        let records = journal.load().await.map_err(DriverError::load)?;
        let telling = status.clone();
        journal.tell(Doubts::new(move |doubt| {
            telling.send_if_modified(|status| {
                let changed = status.doubt.is_some() != doubt.is_some();
                status.doubt.clone_from(&doubt);
                changed
            });
        }));
        let (machine, first, then) = begin(&records, start, clock.now())?;
        // A clock that was set back since the last record must not stretch the downtime.
        let lead = machine.last_at().since(clock.now());
        let mut drive = Drive {
            spec: Arc::new(machine.spec().clone()),
            platform: &platform,
            journal,
            clock: &clock,
            lead,
            stored: machine.clone(),
            machine,
            queued: Vec::new(),
            status,
            requests: Some(requests),
            stop_asked: None,
        };
        if let Some(outcome) = drive.machine.outcome().filter(Outcome::is_final) {
            drive.publish();
            return Ok(outcome);
        }
        drive.store_first(first).await?;
        if let Some(request) = then {
            // Checked by `begin` on a copy already.
            let event = drive.machine.request(request)?;
            drive.append(event)?;
        }
        let (name, epoch) = (drive.spec.name.clone(), drive.machine.epoch());
        let span = tracing::info_span!("migration", %name, %epoch);
        drive.run().instrument(span).await
    }
}

/// The machine before the first record of this run, that record, and the request to follow it.
fn begin(
    records: &[Record],
    start: Start,
    now: Timestamp,
) -> Result<(Machine, First, Option<Request>), DriverError> {
    match start {
        Start::New(spec) => {
            if !records.is_empty() {
                return Err(DriverError::Exists(spec.name));
            }
            let record = Record {
                schema: SCHEMA,
                seq: 0,
                epoch: Epoch(1),
                at: now,
                event: Event::Planned { spec },
            };
            let machine = Machine::replay(std::slice::from_ref(&record))?;
            Ok((machine, First::Planned(Box::new(record)), None))
        }
        Start::Resume { request } => {
            let machine = Machine::replay(records)?;
            if let Some(request) = request {
                let mut trial = machine.clone();
                if trial.outcome().is_some_and(|outcome| outcome.is_final()) {
                    return Err(RequestRefusal::Ended.into());
                }
                trial.apply(&trial.record(Event::Adopted, now))?;
                // A rollback that is under way is what was asked for.
                match trial.request(request) {
                    Err(RequestRefusal::RollingBack) if request == Request::RollBack => {
                        return Ok((machine, First::Adopted, None));
                    }
                    asked => asked.map(|_| ())?,
                }
            }
            Ok((machine, First::Adopted, request))
        }
    }
}

/// The record a run begins with.
enum First {
    /// Applied already, to be stored.
    Planned(Box<Record>),
    /// Taking over.
    Adopted,
}

//! What each request does.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use livmig_proto::{
    control::{
        Fault, FaultCode, ManifestReport, PassKind, PassReport, PassRequest, Progress, RequestBody,
        ResponseBody, Side, VERSION, VerifyLevel, Welcome,
    },
    ids::{Epoch, MigrationUid, PassNumber},
};
use tokio::sync::{mpsc, watch};

use crate::{
    destination::state::Destination,
    fault,
    fs::volume::{self, Volume},
    inspect::{self, InspectScope},
    source::{pass::Source, shared::Counts},
};

/// How often progress is told.
const PROGRESS: Duration = Duration::from_millis(250);

/// A mover that answers requests.
#[derive(Debug)]
pub struct ServedMover {
    /// Which end, and its work.
    pub end: End,
    /// The migration.
    pub migration: MigrationUid,
    /// The volume's path, to read it again from the beginning.
    pub root: PathBuf,
    /// The state directory.
    pub state: PathBuf,
    /// What came of the kernel's confinement.
    pub confinement: String,
    epoch: AtomicU64,
    running: Mutex<Option<Running>>,
    /// Told to end, and how.
    shutdown: watch::Sender<Option<Ending>>,
}

/// How a mover ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// At once.
    Exit,
    /// When it is ended, holding nothing until then.
    Retire,
}

/// Which end a mover is.
#[derive(Debug)]
pub enum End {
    /// It reads.
    Source(Arc<Source>),
    /// It writes, and listens for data here.
    Destination(Arc<Destination>, SocketAddr),
}

/// A pass under way.
#[derive(Clone, Debug)]
struct Running {
    pass: PassNumber,
    kind: PassKind,
    /// Where its destination listens.
    destination: SocketAddr,
    epoch: Epoch,
    counts: Arc<Counts>,
    begun: Instant,
    report: watch::Receiver<Option<PassReport>>,
}

impl Running {
    /// Whether it has a report, or never will because its thread is gone.
    fn is_over(&self) -> bool {
        self.report.borrow().is_some() || self.report.has_changed().is_err()
    }
}

impl ServedMover {
    /// A mover that nobody has asked anything.
    pub fn new(
        end: End,
        migration: MigrationUid,
        root: PathBuf,
        state: PathBuf,
        confinement: String,
    ) -> Self {
        Self {
            end,
            migration,
            root,
            state,
            confinement,
            epoch: AtomicU64::new(0),
            running: Mutex::new(None),
            shutdown: watch::Sender::new(None),
        }
    }

    /// Says how, once the mover should end.
    pub fn shutdown(&self) -> watch::Receiver<Option<Ending>> {
        self.shutdown.subscribe()
    }

    /// Whether a pass is under way.
    pub fn is_busy(&self) -> bool {
        self.running().is_some_and(|running| !running.is_over())
    }

    /// Answers one request: progress through `progress`, the last word as the result.
    pub async fn answer(
        self: &Arc<Self>,
        epoch: Epoch,
        body: RequestBody,
        progress: &mpsc::Sender<Progress>,
    ) -> ResponseBody {
        let result = match self.see_epoch(epoch) {
            Ok(()) => self.obey(epoch, body, progress).await,
            Err(fault) => Err(fault),
        };
        result.unwrap_or_else(ResponseBody::Refused)
    }

    async fn obey(
        self: &Arc<Self>,
        epoch: Epoch,
        body: RequestBody,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<ResponseBody, Fault> {
        match (body, &self.end) {
            (RequestBody::Hello, _) => {
                let mover = Arc::clone(self);
                blocking(self.side(), move || mover.welcome())
                    .await
                    .map(|welcome| ResponseBody::Welcome(Box::new(welcome)))
            }
            (RequestBody::Pass(request), End::Source(source)) => {
                self.pass(source, epoch, request, progress).await
            }
            (RequestBody::StopPass { pass }, End::Source(_)) => {
                if let Some(running) = self.running().filter(|running| running.pass == pass) {
                    running.counts.stop.ask();
                }
                Ok(ResponseBody::Accepted)
            }
            (RequestBody::Limit(load), End::Source(source)) => {
                tracing::info!(?load, "limits");
                source.limiter().set(load);
                Ok(ResponseBody::Accepted)
            }
            (RequestBody::Acknowledge { pass }, End::Source(source)) => {
                if source
                    .stored_report()
                    .is_some_and(|report| report.pass == pass)
                {
                    source.acknowledge()?;
                }
                Ok(ResponseBody::Accepted)
            }
            (RequestBody::Manifest { level }, _) => {
                let mover = Arc::clone(self);
                blocking(self.side(), move || mover.manifest(level))
                    .await
                    .map(ResponseBody::Manifest)
            }
            (RequestBody::Shutdown, _) => {
                self.shut_down(Ending::Exit).await;
                Ok(ResponseBody::Accepted)
            }
            (RequestBody::Retire, _) => {
                self.shut_down(Ending::Retire).await;
                Ok(ResponseBody::Accepted)
            }
            (
                RequestBody::Pass(_)
                | RequestBody::StopPass { .. }
                | RequestBody::Limit(_)
                | RequestBody::Acknowledge { .. },
                End::Destination(..),
            ) => Err(fault::plain(
                Side::Destination,
                FaultCode::BadRequest,
                "destination: passes are the source's to run",
            )),
        }
    }

    fn see_epoch(&self, epoch: Epoch) -> Result<(), Fault> {
        let highest = self.epoch.fetch_max(epoch.0, Ordering::SeqCst);
        if let End::Destination(destination, _) = &self.end {
            destination.see_epoch(epoch)?;
        }
        if epoch.0 >= highest {
            return Ok(());
        }
        Err(fault::plain(
            self.side(),
            FaultCode::StaleEpoch,
            format!(
                "{}: epoch {epoch} is over; a coordinator with epoch {highest} has taken over",
                self.side()
            ),
        ))
    }

    fn side(&self) -> Side {
        match self.end {
            End::Source(_) => Side::Source,
            End::Destination(..) => Side::Destination,
        }
    }

    fn volume(&self) -> &Volume {
        match &self.end {
            End::Source(source) => source.volume(),
            End::Destination(destination, _) => destination.volume(),
        }
    }

    fn welcome(&self) -> Result<Welcome, Fault> {
        let side = self.side();
        let root = self.volume().facts().map_err(|errno| {
            fault::plain(
                side,
                fault::code_of(errno),
                format!("{side}: could not look at the volume ({errno})"),
            )
        })?;
        let running = self.running().filter(|running| !running.is_over());
        let (data, reported) = match &self.end {
            End::Source(source) => (None, source.stored_report().map(|report| report.pass)),
            End::Destination(_, data) => (Some(*data), None),
        };
        Ok(Welcome {
            version: VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            migration: self.migration,
            side,
            pid: std::process::id(),
            boot_id: volume::boot_id(),
            data,
            root,
            confinement: self.confinement.clone(),
            running: running.map(|running| running.pass),
            reported,
        })
    }

    fn manifest(&self, level: VerifyLevel) -> Result<ManifestReport, Fault> {
        let side = self.side();
        if level == VerifyLevel::Full {
            let failed = |why: String| {
                fault::plain(
                    side,
                    FaultCode::Io,
                    format!("{side}: could not read it all: {why}"),
                )
            };
            let volume = Volume::open(&self.root)
                .map_err(|errno| failed(errno.to_string()))?
                .with_root_of(self.volume().root_owner());
            let (carry, apart) = match &self.end {
                End::Source(source) => (source.carry(), source.apart()),
                End::Destination(destination, _) => (destination.carry(), destination.apart()),
            };
            let scope = InspectScope { side, carry, apart };
            return inspect::inspect(volume, &self.state, level, scope)
                .map_err(|error| failed(error.to_string()))?
                .run();
        }
        match &self.end {
            End::Destination(destination, _) => Ok(destination.manifest(level)),
            End::Source(source) => source.manifest().ok_or_else(|| {
                fault::plain(
                    side,
                    FaultCode::BadRequest,
                    "source: no complete pass has run since this mover was started",
                )
            }),
        }
    }

    async fn pass(
        &self,
        source: &Arc<Source>,
        epoch: Epoch,
        request: PassRequest,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<ResponseBody, Fault> {
        let older = self.running().filter(|running| {
            let is_elsewhere = running.destination != request.destination;
            running.pass < request.pass || running.pass == request.pass && is_elsewhere
        });
        if let Some(mut older) = older {
            // Whoever asks for the next pass has given this one up; perhaps its destination died. Or
            // another listens in its place, which a pass that tries to connect again would not find.
            older.counts.abandon();
            let _ = older.report.wait_for(Option::is_some).await;
        }
        loop {
            let running = self.start(source, epoch, request.clone())?;
            let begun_for = running.epoch;
            let report = follow(running, source.entries_expected(), progress).await?;
            // Joined, and begun for a coordinator that is over by now.
            if is_stale(&report) && begun_for < epoch {
                continue;
            }
            return Ok(ResponseBody::Report(Box::new(report)));
        }
    }

    /// Starts a pass, or joins the one of that number, or finds its report.
    fn start(
        &self,
        source: &Arc<Source>,
        epoch: Epoch,
        request: PassRequest,
    ) -> Result<Running, Fault> {
        let mut current = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = &*current {
            let is_over_for_it =
                running.epoch < epoch && running.report.borrow().as_ref().is_some_and(is_stale);
            if running.pass == request.pass && running.kind == request.kind && !is_over_for_it {
                return Ok(running.clone());
            }
            if !running.is_over() {
                return Err(fault::plain(
                    Side::Source,
                    FaultCode::Busy,
                    format!("source: pass {} is under way", running.pass),
                ));
            }
        }
        let counts = Arc::new(Counts::default());
        let (done, report) = watch::channel(None);
        let running = Running {
            pass: request.pass,
            kind: request.kind,
            destination: request.destination,
            epoch,
            counts: Arc::clone(&counts),
            begun: Instant::now(),
            report,
        };
        let stored = source
            .stored_report()
            .filter(|report| report.pass == request.pass && report.kind == request.kind)
            .filter(|report| !is_stale(report));
        if stored.is_some() {
            let _ = done.send(stored);
        } else {
            let source = Arc::clone(source);
            let runtime = tokio::runtime::Handle::current();
            tokio::task::spawn_blocking(move || {
                let report = source.run(&runtime, epoch, &request, &counts);
                let _ = done.send(Some(report));
            });
        }
        *current = Some(running.clone());
        Ok(running)
    }

    /// Ends the pass under way, if any, and tells the process to end.
    async fn shut_down(&self, ending: Ending) {
        if let Some(mut running) = self.running() {
            running.counts.stop.ask();
            let _ = running.report.wait_for(Option::is_some).await;
        }
        let _ = self.shutdown.send(Some(ending));
    }

    fn running(&self) -> Option<Running> {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// The report of `running`, and its progress until then.
async fn follow(
    mut running: Running,
    expected: Option<u64>,
    progress: &mpsc::Sender<Progress>,
) -> Result<PassReport, Fault> {
    let mut ticks = tokio::time::interval(PROGRESS);
    loop {
        tokio::select! {
            changed = running.report.wait_for(Option::is_some) => {
                let report = changed.ok().and_then(|report| report.clone());
                return report.ok_or_else(|| internal(Side::Source));
            }
            _ = ticks.tick() => {
                let told = running.counts.progress(expected, running.begun.elapsed());
                // A coordinator that does not listen misses progress, nothing else.
                let _ = progress.try_send(told);
            }
        }
    }
}

/// Whether the destination obeys a later coordinator than the one that the pass was begun for. That
/// one may be asking by now: such a report answers nobody but the first.
fn is_stale(report: &PassReport) -> bool {
    let mut faults = report.faults.iter();
    faults.any(|fault| fault.code == FaultCode::StaleEpoch)
}

async fn blocking<T: Send + 'static>(
    side: Side,
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(internal(side)))
}

fn internal(side: Side) -> Fault {
    fault::plain(
        side,
        FaultCode::Internal,
        format!("{side}: a thread ended unexpectedly"),
    )
}

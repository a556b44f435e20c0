//! The two movers of a migration on this machine, as child processes that outlive a coordinator.
//!
//! Each runs in a process group of its own, so a Ctrl-C at the terminal is not for it, and goes on
//! with its pass when the coordinator dies. What a later coordinator needs to find it again (the
//! process, the address) is written down before it is used; one that answers is taken over, one
//! that does not is ended and started anew on the same state folder.

mod error;
mod keys;

pub use error::MoverError;

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use livmig_proto::{
    control::{FaultCode, Listening, Side, Welcome},
    ids::{Epoch, MigrationUid},
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    sync::Mutex,
    time::timeout,
};

use self::keys::KeysError;
use super::{
    process::{ProcessIdentity, with_argument},
    store::file::{create_folder, replace_durably},
};
use crate::movers::{
    control::{ControlClient, ControlError},
    keys::Keys,
};

/// How long a mover may take from its start until it listens.
const START_MAX: Duration = Duration::from_secs(30);

/// How long a mover may take to end after it was asked.
const END_GRACE: Duration = Duration::from_secs(10);

/// A mover that runs, obeys this coordinator's epoch and is connected.
#[derive(Debug)]
pub struct Mover {
    /// The connection.
    pub client: ControlClient,
    /// What it said of itself.
    pub welcome: Welcome,
    process: ProcessIdentity,
    epoch: Epoch,
}

/// The movers of one migration.
pub struct Movers {
    setup: Setup,
    keys: Keys,
    source: Mutex<Option<Arc<Mover>>>,
    destination: Mutex<Option<Arc<Mover>>>,
}

/// What the movers of one migration are started with; every path is absolute.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The mover's program.
    pub program: PathBuf,
    /// The migration's state folder.
    pub folder: PathBuf,
    /// The migration.
    pub migration: MigrationUid,
    /// The source directory.
    pub source: PathBuf,
    /// The destination directory.
    pub destination: PathBuf,
}

/// What a later coordinator needs to find a mover.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct KnownMover {
    process: ProcessIdentity,
    listening: Listening,
}

impl Movers {
    /// The movers that `setup` describes, none of them started yet by this coordinator.
    pub fn new(setup: Setup) -> Result<Self, MoverError> {
        let keys = keys::ensure(&setup.folder.join("keys.json"))?;
        Ok(Self {
            setup,
            keys,
            source: Mutex::new(None),
            destination: Mutex::new(None),
        })
    }

    /// The log of one mover.
    pub fn log(&self, side: Side) -> PathBuf {
        self.place(side).join("log")
    }

    /// The mover at `side`: the one this coordinator is connected to, else the one an earlier
    /// coordinator left, else a new one.
    pub async fn ensure(&self, side: Side, epoch: Epoch) -> Result<Arc<Mover>, MoverError> {
        let mut slot = self.slot(side).lock().await;
        if let Some(mover) = self.find_into(&mut slot, side, epoch).await? {
            return Ok(mover);
        }
        let mover = Arc::new(self.start(side, epoch).await?);
        *slot = Some(Arc::clone(&mover));
        Ok(mover)
    }

    /// The mover at `side` if one runs and answers; starts none.
    pub async fn find(&self, side: Side, epoch: Epoch) -> Result<Option<Arc<Mover>>, MoverError> {
        let mut slot = self.slot(side).lock().await;
        self.find_into(&mut slot, side, epoch).await
    }

    async fn find_into(
        &self,
        slot: &mut Option<Arc<Mover>>,
        side: Side,
        epoch: Epoch,
    ) -> Result<Option<Arc<Mover>>, MoverError> {
        if let Some(mover) = slot.as_ref()
            && mover.client.is_open()
            && mover.epoch == epoch
        {
            return Ok(Some(Arc::clone(mover)));
        }
        *slot = self.adopt(side, epoch).await?.map(Arc::new);
        Ok(slot.clone())
    }

    /// The mover at `side`, if this coordinator is connected to it.
    pub async fn connected(&self, side: Side) -> Option<Arc<Mover>> {
        self.slot(side)
            .lock()
            .await
            .clone()
            .filter(|mover| mover.client.is_open())
    }

    /// Processes of the movers that run, so that nobody takes them for the workload.
    pub fn processes(&self) -> BTreeSet<u32> {
        [Side::Source, Side::Destination]
            .into_iter()
            .filter_map(|side| self.recorded(side))
            .filter(|found| found.process.is_alive().unwrap_or(true))
            .map(|found| found.process.pid)
            .collect()
    }

    /// Ends the mover at `side`, asking it first; nothing happens when there is none.
    pub async fn shut_down(&self, side: Side, epoch: Epoch) -> Result<(), MoverError> {
        let mut slot = self.slot(side).lock().await;
        let mover = match slot.take() {
            Some(mover) if mover.client.is_open() => Some(mover),
            _ => self.adopt(side, epoch).await?.map(Arc::new),
        };
        if let Some(mover) = mover {
            let ends = mover.client.shutdown().await;
            if let Err(error) = ends {
                tracing::warn!(%side, %error, "mover does not shut down by itself");
            } else if matches!(mover.process.wait(END_GRACE).await, Ok(true)) {
                return self.forget(side);
            }
        }
        self.end_leftovers(side).await?;
        self.forget(side)
    }

    /// Ends the mover at `side` without asking it, for the next [`ensure`](Self::ensure) to start
    /// it anew on what it has stored.
    pub async fn end(&self, side: Side) -> Result<(), MoverError> {
        let mut slot = self.slot(side).lock().await;
        *slot = None;
        self.end_leftovers(side).await
    }

    /// Removes what only a running migration needs: the movers' keys and remembered digests.
    pub fn remove_traces(&self) -> io::Result<()> {
        for side in [Side::Source, Side::Destination] {
            remove_if_there(fs::remove_dir_all(self.place(side).join("state")))?;
        }
        remove_if_there(fs::remove_file(self.setup.folder.join("keys.json")))
    }

    fn slot(&self, side: Side) -> &Mutex<Option<Arc<Mover>>> {
        match side {
            Side::Source => &self.source,
            Side::Destination => &self.destination,
        }
    }

    fn place(&self, side: Side) -> PathBuf {
        self.setup.folder.join(side.to_string())
    }

    fn session_path(&self, side: Side) -> PathBuf {
        self.place(side).join("session.json")
    }

    fn recorded(&self, side: Side) -> Option<KnownMover> {
        let bytes = fs::read(self.place(side).join("mover.json")).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Takes over the mover that an earlier coordinator left, or ends it when it does not answer.
    async fn adopt(&self, side: Side, epoch: Epoch) -> Result<Option<Mover>, MoverError> {
        let Some(found) = self.recorded(side) else {
            return Ok(None);
        };
        if !found.process.is_alive().unwrap_or(true) {
            return Ok(None);
        }
        match self.greet(side, &found, epoch).await {
            Ok(mover) => Ok(Some(mover)),
            Err(MoverError::Control {
                source: ControlError::Refused(fault),
                side,
            }) if fault.code == FaultCode::StaleEpoch => Err(MoverError::Control {
                source: ControlError::Refused(fault),
                side,
            }),
            Err(error) => {
                tracing::warn!(%side, pid = found.process.pid, %error, "mover is replaced");
                Ok(None)
            }
        }
    }

    async fn greet(
        &self,
        side: Side,
        found: &KnownMover,
        epoch: Epoch,
    ) -> Result<Mover, MoverError> {
        let failed = |source| MoverError::Control { side, source };
        let peer = self.keys.mover(side).public().map_err(KeysError::from)?;
        let own = self.keys.coordinator();
        let client = ControlClient::connect(found.listening.control, own, &peer, epoch)
            .await
            .map_err(failed)?;
        let welcome = client.hello().await.map_err(failed)?;
        if welcome.side != side || welcome.migration != self.setup.migration {
            return Err(MoverError::Stranger { side });
        }
        Ok(Mover {
            client,
            welcome,
            process: found.process.clone(),
            epoch,
        })
    }

    async fn start(&self, side: Side, epoch: Epoch) -> Result<Mover, MoverError> {
        self.end_leftovers(side).await?;
        let failed = |what| move |source| MoverError::Start { side, what, source };
        let place = self.place(side);
        let state = place.join("state");
        create_folder(&state).map_err(failed("its state folder"))?;
        let session = serde_json::to_vec(
            &self
                .keys
                .session(self.setup.migration, side)
                .map_err(KeysError::from)?,
        )
        .map_err(|error| failed("its session")(error.into()))?;
        replace_durably(&self.session_path(side), &session).map_err(failed("its session"))?;
        let log_path = self.log(side);
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log_path)
            .map_err(failed("its log"))?;
        let log_start = log.metadata().map_or(0, |metadata| metadata.len());
        let root = match side {
            Side::Source => &self.setup.source,
            Side::Destination => &self.setup.destination,
        };
        let mut child = Command::new(&self.setup.program)
            .arg(side.to_string())
            .arg("--root")
            .arg(root)
            .arg("--state")
            .arg(&state)
            .arg("--session")
            .arg(self.session_path(side))
            // Whoever calls livmig may stand in a folder that is about to be left.
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0)
            .spawn()
            .map_err(failed("its program"))?;

        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            let mut stdout = BufReader::new(stdout);
            if let Ok(read) = timeout(START_MAX, stdout.read_line(&mut line)).await {
                read.map_err(failed("its greeting"))?;
            } else {
                self.end_leftovers(side).await?;
                return Err(MoverError::Slow {
                    side,
                    limit: START_MAX,
                    log: log_path,
                });
            }
        }
        let Ok(listening) = serde_json::from_str::<Listening>(&line) else {
            self.end_leftovers(side).await?;
            let status = timeout(END_GRACE, child.wait()).await;
            let output = super::workload::tail(&log_path, log_start);
            return Err(MoverError::Ended {
                side,
                output: match (output.lines().last(), status) {
                    (Some(line), _) => line.to_owned(),
                    (None, Ok(Ok(status))) => status.to_string(),
                    (None, _) => "no output".to_owned(),
                },
                log: log_path,
            });
        };
        let process = child
            .id()
            .and_then(|pid| ProcessIdentity::of(pid).ok().flatten())
            .ok_or_else(|| failed("its process")(io::ErrorKind::NotFound.into()))?;
        let found = KnownMover { process, listening };
        let record =
            serde_json::to_vec(&found).map_err(|error| failed("its record")(error.into()))?;
        replace_durably(&place.join("mover.json"), &record).map_err(failed("its record"))?;
        self.greet(side, &found, epoch).await
    }

    /// Ends every mover that was started for this end of this migration, written down or not: the
    /// path of its session file stands in its arguments and belongs to nobody else.
    async fn end_leftovers(&self, side: Side) -> Result<(), MoverError> {
        let session = self.session_path(side);
        let failed = |pid, source| MoverError::End { side, pid, source };
        for pid in with_argument(session.as_os_str()).map_err(|error| failed(0, error))? {
            if let Some(process) = ProcessIdentity::of(pid).map_err(|error| failed(pid, error))? {
                process
                    .end(END_GRACE)
                    .await
                    .map_err(|error| failed(pid, error))?;
            }
        }
        Ok(())
    }

    fn forget(&self, side: Side) -> Result<(), MoverError> {
        for name in ["mover.json", "session.json"] {
            remove_if_there(fs::remove_file(self.place(side).join(name))).map_err(|source| {
                MoverError::Start {
                    side,
                    what: "removing its record",
                    source,
                }
            })?;
        }
        Ok(())
    }
}

/// The mover's program: the one asked for, else `LIVMIG_MOVER`, else beside this program.
pub fn find_program(asked: Option<&Path>) -> Result<PathBuf, MoverError> {
    let candidate = asked
        .map(Path::to_owned)
        .or_else(|| std::env::var_os("LIVMIG_MOVER").map(PathBuf::from))
        .or_else(|| Some(std::env::current_exe().ok()?.parent()?.join("livmig-mover")));
    let Some(candidate) = candidate else {
        return Err(MoverError::NoProgram {
            looked: "LIVMIG_MOVER".to_owned(),
        });
    };
    match candidate.canonicalize() {
        Ok(program) if program.is_file() => Ok(program),
        _ => Err(MoverError::NoProgram {
            looked: candidate.display().to_string(),
        }),
    }
}

fn remove_if_there(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

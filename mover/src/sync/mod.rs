//! `sync`: both ends in one process, over the same code and the loopback device.

mod prepare;

pub use prepare::{Prepared, prepare};

use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use livmig_proto::{
    attributes::Carry,
    control::{
        Fault, FaultCode, Limits, PassKind, PassReport, PassRequest, Side, Transport, VerifyLevel,
    },
    identity::{IdentityError, PrivateKey},
    ids::{Epoch, MigrationUid, PassNumber},
    name::RelPath,
};
use rustix::io::Errno;

use crate::{
    catalog::store::Store,
    destination::{self, state::Destination},
    fault,
    fs::{volume::Volume, volume_lock::Taken},
    inspect::{self, InspectScope},
    random::random,
    source::{
        pass::{self, Source},
        shared::Counts,
    },
    transport::{
        accept::Listener,
        quic::{self, QuicError},
    },
};

/// What to make equal to what, and how.
#[derive(Clone, Debug)]
pub struct SyncOptions {
    /// The directory that is read.
    pub source: PathBuf,
    /// The directory that is made equal to it; made if its parent exists.
    pub destination: PathBuf,
    /// Where state lies and is kept between runs; without, it goes with the run.
    pub state: Option<PathBuf>,
    /// How to prove the result.
    pub verify: VerifyLevel,
    /// Whether an empty source may empty the destination.
    pub allow_empty: bool,
    /// What carries the data between the two ends in this process; without, it is measured.
    pub transport: Option<Transport>,
    /// The load that it may be.
    pub load: Limits,
}

/// Why nothing was synchronised.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The arguments make no sense together; nothing was touched.
    #[error("{0}")]
    Usage(String),
    /// A directory could not be opened.
    #[error("could not open {} ({errno})", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
    /// Somebody else is at work there; nothing was touched.
    #[error("{taken} {}", path.display())]
    Busy {
        /// Who.
        taken: Taken,
        /// Where.
        path: PathBuf,
    },
    /// Somebody else uses the state directory, or nobody can.
    #[error("{0}")]
    StateTaken(String),
    /// The state directory could not be used.
    #[error("could not use the state directory")]
    State(#[from] io::Error),
    /// No keys.
    #[error("could not make keys for the run")]
    Identity(#[from] IdentityError),
    /// No connection to ourselves.
    #[error("could not listen on the loopback device")]
    Quic(#[from] QuicError),
    /// The source could not begin.
    #[error("{0}")]
    Fault(#[from] Fault),
}

/// Runs one verified pass.
pub fn run(
    options: &SyncOptions,
    prepared: Prepared,
    counts: &Counts,
) -> Result<PassReport, SyncError> {
    let Prepared {
        source,
        destination,
        state: kept,
    } = prepared;
    let state = kept.path();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(quic::cores().max(2))
        .thread_name("livmig-net")
        .build()?;
    let [own, peer] = [PrivateKey::generate()?, PrivateKey::generate()?];
    let migration = migration_of(state)?;
    let (source_state, destination_state) = (state.join("source"), state.join("destination"));
    std::fs::create_dir_all(&source_state)?;
    std::fs::create_dir_all(&destination_state)?;

    let (listener, sessions) = {
        let _context = runtime.enter();
        Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)), &peer, &own.public()?)?
    };
    let address = listener.address();
    let target = Arc::new(Destination::new(
        destination,
        &destination_state,
        migration,
    )?);
    runtime.spawn(destination::session::serve(Arc::clone(&target), sessions));

    let identity = pass::PassIdentity {
        migration,
        own,
        peer: peer.public()?,
    };
    let origin = Source::new(
        source,
        Store::open(&source_state)?,
        identity,
        options.transport,
    )?;
    origin.limiter().set(options.load);
    let request = PassRequest {
        pass: PassNumber::FIRST,
        kind: PassKind::Live,
        destination: address,
        verify: options.verify,
        adopt: true,
        may_leave_read_back: false,
        allow_empty: options.allow_empty,
    };
    let mut report = origin.run(runtime.handle(), Epoch(0), &request, counts);
    if report.complete && options.verify == VerifyLevel::Full {
        read_everything(
            [origin.volume(), target.volume()],
            state,
            origin.carry(),
            &counts.apart(),
            &mut report,
        )?;
    }
    runtime.block_on(listener.close());
    runtime.shutdown_timeout(Duration::from_secs(5));
    Ok(report)
}

/// Level `full`: both ends read again, from the device, and compared.
fn read_everything(
    [source, destination]: [&Volume; 2],
    state: &Path,
    carry: Option<Carry>,
    apart: &BTreeSet<RelPath>,
    report: &mut PassReport,
) -> Result<(), SyncError> {
    let read = |volume: &Volume, side: Side| -> Result<String, SyncError> {
        let owner = volume.root_owner();
        let volume = Volume::of_handle(volume.root())
            .map_err(io::Error::from)?
            .with_root_of(owner);
        let scope = InspectScope {
            side,
            carry,
            apart: apart.clone(),
        };
        let inspection = inspect::inspect(volume, state, VerifyLevel::Full, scope)?;
        Ok(inspection.run()?.digest)
    };
    report.digest_source = read(source, Side::Source)?;
    report.digest_destination = read(destination, Side::Destination)?;
    if report.digest_source != report.digest_destination {
        report.complete = false;
        report.faults_total += 1;
        report.faults.push(fault::plain(
            Side::Destination,
            FaultCode::Mismatch,
            "destination: differs from the source after both were read again (does something \
             write to the source?)",
        ));
    }
    Ok(())
}

/// The identity of all runs with one state directory.
fn migration_of(state: &Path) -> io::Result<MigrationUid> {
    let file = state.join("uid");
    match std::fs::read(&file) {
        Ok(bytes) => {
            let uid = <[u8; 16]>::try_from(bytes)
                .map_err(|_| io::Error::other("the file `uid` is damaged; remove it"))?;
            Ok(MigrationUid(uid))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let uid = random();
            std::fs::write(file, uid)?;
            Ok(MigrationUid(uid))
        }
        Err(error) => Err(error),
    }
}

//! `sync`: both ends in one process, over the same code and the loopback device.

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
        Fault, FaultCode, Load, PassKind, PassReport, PassRequest, Side, Transport, VerifyLevel,
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
    fs::volume::Volume,
    inspect::{self, Scope},
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
    /// Where state lies; kept between runs if the caller keeps it.
    pub state: PathBuf,
    /// How to prove the result.
    pub verify: VerifyLevel,
    /// Whether an empty source may empty the destination.
    pub allow_empty: bool,
    /// What carries the data between the two ends in this process; without, it is measured.
    pub transport: Option<Transport>,
    /// The load that it may be.
    pub load: Load,
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
    /// Another mover is at work there; nothing was touched.
    #[error("another livmig-mover works on {}", path.display())]
    Busy {
        /// Where.
        path: PathBuf,
    },
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

/// Checks the two directories; makes the destination if only it is missing.
pub fn prepare(options: &SyncOptions) -> Result<(Volume, Volume), SyncError> {
    let source = open_directory(&options.source, "source")?;
    match std::fs::create_dir(&options.destination) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => {
            return Err(SyncError::Usage(format!(
                "the destination {} does not exist and could not be made: {error}",
                options.destination.display()
            )));
        }
    }
    let destination = open_directory(&options.destination, "destination")?;
    let canonical = |path: &Path| std::fs::canonicalize(path).map_err(SyncError::State);
    let (from, to) = (
        canonical(&options.source)?,
        canonical(&options.destination)?,
    );
    let same = source.stat().identity.ino == destination.stat().identity.ino
        && source.stat().device == destination.stat().device;
    let usage = |text: String| Err(SyncError::Usage(text));
    if same {
        return usage(format!(
            "source and destination are the same directory: {}",
            from.display()
        ));
    }
    if to.starts_with(&from) {
        return usage(format!(
            "the destination {} lies inside the source {}",
            to.display(),
            from.display()
        ));
    }
    if from.starts_with(&to) {
        return usage(format!(
            "the source {} lies inside the destination {}",
            from.display(),
            to.display()
        ));
    }
    let state = canonical(&options.state)?;
    for root in [&from, &to] {
        if state.starts_with(root) {
            return usage(format!(
                "the state directory {} lies inside {}; choose another with --state or TMPDIR",
                state.display(),
                root.display()
            ));
        }
    }
    for (volume, exclusive, path) in [(&source, false, &from), (&destination, true, &to)] {
        if !volume.lock(exclusive) {
            return Err(SyncError::Busy { path: path.clone() });
        }
    }
    Ok((source, destination))
}

/// Runs one verified pass.
pub fn run(
    options: &SyncOptions,
    source: Volume,
    destination: Volume,
    counts: &Counts,
) -> Result<PassReport, SyncError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(quic::cores().max(2))
        .thread_name("livmig-net")
        .build()?;
    let [own, peer] = [PrivateKey::generate()?, PrivateKey::generate()?];
    let migration = migration_of(&options.state)?;
    let (source_state, destination_state) = (
        options.state.join("source"),
        options.state.join("destination"),
    );
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

    let identity = pass::Identity {
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
        read_everything(options, origin.carry(), &counts.apart(), &mut report)?;
    }
    runtime.block_on(listener.close());
    runtime.shutdown_timeout(Duration::from_secs(5));
    Ok(report)
}

/// Level `full`: both ends read again, from the device, and compared.
fn read_everything(
    options: &SyncOptions,
    carry: Option<Carry>,
    apart: &BTreeSet<RelPath>,
    report: &mut PassReport,
) -> Result<(), SyncError> {
    let read = |path: &Path, side: Side| -> Result<String, SyncError> {
        let volume = open_directory(path, &side.to_string())?;
        let scope = Scope {
            side,
            carry,
            apart: apart.clone(),
        };
        let inspection = inspect::inspect(volume, &options.state, VerifyLevel::Full, scope)?;
        Ok(inspection.run()?.digest)
    };
    report.digest_source = read(&options.source, Side::Source)?;
    report.digest_destination = read(&options.destination, Side::Destination)?;
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

fn open_directory(path: &Path, what: &str) -> Result<Volume, SyncError> {
    match Volume::open(path) {
        Ok(volume) => Ok(volume),
        Err(Errno::NOENT) => Err(SyncError::Usage(format!(
            "the {what} {} does not exist",
            path.display()
        ))),
        Err(Errno::NOTDIR) => Err(SyncError::Usage(format!(
            "the {what} {} is not a directory",
            path.display()
        ))),
        Err(errno) => Err(SyncError::Open {
            path: path.to_owned(),
            errno,
        }),
    }
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

//! `livmig-mover source` and `livmig-mover destination`.

use std::{
    fs::File, io::Read as _, net::SocketAddr, os::fd::AsFd as _, path::Path, sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use livmig_proto::{
    control::{ALPN, Listening, Session, Side},
    identity::{self, PrivateKey, PublicKey},
};
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_rustls::TlsAcceptor;

use super::{Carrier, Exit, ServeArgs, print, tell};
use crate::{
    catalog::store::Store,
    control::{
        requests::{End, Ending, ServedMover},
        server,
    },
    destination::{self, state::Destination},
    fs::{
        confine,
        volume::{RootOwner, Volume},
        volume_lock::{self, Use},
    },
    source::pass::{self, Source},
    transport::{accept::Listener, quic},
};

/// Serves the source.
pub fn source(args: &ServeArgs, transport: Carrier) -> anyhow::Result<Exit> {
    let Some(start) = ServeStart::new(args, Side::Source)? else {
        return Ok(Exit::Failed);
    };
    let confinement = confine::confine(&[start.volume.root()], &[start.state.as_fd()]);
    let identity = pass::PassIdentity {
        migration: start.session.migration,
        own: start.own.clone(),
        peer: PublicKey(start.session.peer.clone()),
    };
    let source = Source::new(
        start.volume,
        Store::open(&args.state)?,
        identity,
        transport.chosen(),
    )?;
    let end = End::Source(Arc::new(source));
    let mover = mover(args, end, &start.session, confinement);
    let runtime = runtime()?;
    let ending = serve(
        &runtime,
        args,
        mover,
        &start.own,
        &start.session.coordinator,
        None,
    )?;
    drop((runtime, start.lock));
    Ok(finish(ending, args))
}

/// Serves the destination.
pub fn destination(args: &ServeArgs, data: SocketAddr) -> anyhow::Result<Exit> {
    let Some(start) = ServeStart::new(args, Side::Destination)? else {
        return Ok(Exit::Failed);
    };
    let confinement = confine::confine(&[], &[start.volume.root(), start.state.as_fd()]);
    let destination = Arc::new(Destination::new(
        start.volume,
        &args.state,
        start.session.migration,
    )?);
    let runtime = runtime()?;
    let (listener, sessions) = {
        let _context = runtime.enter();
        let peer = PublicKey(start.session.peer.clone());
        Listener::bind(data, &start.own, &peer)
            .with_context(|| format!("could not listen for data on {data}"))?
    };
    let data = listener.address();
    runtime.spawn(destination::session::serve(
        Arc::clone(&destination),
        sessions,
    ));
    let mover = mover(
        args,
        End::Destination(destination, data),
        &start.session,
        confinement,
    );
    let ending = serve(
        &runtime,
        args,
        mover,
        &start.own,
        &start.session.coordinator,
        Some(data),
    )?;
    runtime.block_on(listener.close());
    // What is still being read back, perhaps a large file, is of no use to anybody any more.
    runtime.shutdown_background();
    drop(start.lock);
    Ok(finish(ending, args))
}

/// Ends as it was told to. Everything is closed before.
fn finish(ending: Ending, args: &ServeArgs) -> Exit {
    if ending == Ending::Retire {
        tracing::info!("retired");
        // SIGTERM ends the process from a thread of its own.
        std::thread::sleep(Duration::from_secs(args.orphan_timeout));
    }
    Exit::Done
}

/// What both ends begin with.
struct ServeStart {
    volume: Volume,
    session: Session,
    own: PrivateKey,
    state: File,
    /// Held as long as the mover works.
    lock: File,
}

impl ServeStart {
    fn new(args: &ServeArgs, side: Side) -> anyhow::Result<Option<Self>> {
        std::fs::create_dir_all(&args.state)
            .with_context(|| format!("could not make {}", args.state.display()))?;
        let lock = match volume_lock::lock_state(&args.state, &args.state) {
            Ok(lock) => lock,
            Err(text) => {
                tell(&format!("error: {text}"));
                return Ok(None);
            }
        };
        let volume = match Volume::open(&args.root) {
            Ok(volume) => volume,
            Err(errno) => {
                tell(&format!(
                    "error: could not open the {side} {} ({errno})",
                    args.root.display()
                ));
                return Ok(None);
            }
        };
        let usage = match side {
            Side::Source => Use::Reading,
            Side::Destination => Use::Writing,
        };
        let volume = match volume.claimed(usage) {
            Ok(volume) => volume,
            Err(taken) => {
                let root = args.root.display();
                tell(&format!("error: {taken} the {side} {root}"));
                return Ok(None);
            }
        };
        let state = File::open(&args.state)
            .with_context(|| format!("could not open {}", args.state.display()))?;
        let session = session(&args.session)?;
        let volume = volume.with_root_of(if session.foreign_root {
            RootOwner::Foreign
        } else {
            RootOwner::Own
        });
        if session.side != side {
            bail!("the session is for the {}, not the {side}", session.side);
        }
        let own = PrivateKey::from_pkcs8(session.private_key.clone());
        Ok(Some(Self {
            volume,
            session,
            own,
            state,
            lock,
        }))
    }
}

fn session(path: &Path) -> anyhow::Result<Session> {
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin()
            .read_to_end(&mut bytes)
            .context("could not read the session")?;
    } else {
        let shown = path.display();
        let mut file =
            File::open(path).with_context(|| format!("could not open the session {shown}"))?;
        file.read_to_end(&mut bytes)
            .with_context(|| format!("could not read the session {shown}"))?;
    }
    // The content holds a key: errors must not quote it.
    serde_json::from_slice(&bytes)
        .map_err(|error| anyhow::anyhow!("the session is damaged at column {}", error.column()))
}

fn mover(args: &ServeArgs, end: End, session: &Session, confinement: String) -> Arc<ServedMover> {
    let (root, state) = (args.root.clone(), args.state.clone());
    Arc::new(ServedMover::new(
        end,
        session.migration,
        root,
        state,
        confinement,
    ))
}

fn runtime() -> anyhow::Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(quic::cores().max(2))
        .thread_name("livmig-net")
        .build()?)
}

fn serve(
    runtime: &Runtime,
    args: &ServeArgs,
    mover: Arc<ServedMover>,
    own: &PrivateKey,
    coordinator: &[u8],
    data: Option<SocketAddr>,
) -> anyhow::Result<Ending> {
    let tls = identity::server_config(own, &PublicKey(coordinator.to_vec()), ALPN)?;
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    runtime.block_on(async {
        let listener = TcpListener::bind(args.control)
            .await
            .with_context(|| format!("could not listen for control on {}", args.control))?;
        let control = listener.local_addr()?;
        let listening = Listening {
            control,
            data,
            pid: std::process::id(),
        };
        print(&serde_json::to_string(&listening)?)?;
        let orphaned = Duration::from_secs(args.orphan_timeout);
        Ok(server::serve(mover, listener, acceptor, orphaned).await)
    })
}

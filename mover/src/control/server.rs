//! Accepts coordinators and carries their requests.

use std::{io, sync::Arc, time::Duration};

use livmig_proto::control::{MoverRequest, Progress, Response, ResponseBody};
use tokio::{
    io::{AsyncWrite, split},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::requests::{Ending, ServedMover};
use crate::transport::messages;

/// How long a TLS handshake may take, whatever the peer trickles.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Handshakes under way at once; more wait in the kernel's queue.
const HANDSHAKES_MAX: usize = 16;

/// Serves coordinators until the mover is told to end, or until none has been connected for
/// `orphaned` and no pass is under way; how to end.
pub async fn serve(
    mover: Arc<ServedMover>,
    listener: TcpListener,
    tls: TlsAcceptor,
    orphaned: Duration,
) -> Ending {
    let mut shutdown = mover.shutdown();
    let connected = Arc::new(watch::Sender::new(0_usize));
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    // Made once: a stranger who connects must not start the time anew.
    let mut alone = std::pin::pin!(alone(connected.subscribe(), &mover, orphaned));
    loop {
        tokio::select! {
            accepted = accept(&listener, &handshakes) => {
                let Ok((stream, permit)) = accepted else { continue };
                let (mover, tls, connected) =
                    (Arc::clone(&mover), tls.clone(), Arc::clone(&connected));
                tokio::spawn(async move {
                    let _ = stream.set_nodelay(true);
                    let stream = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await;
                    drop(permit);
                    // A stranger, or garbage: nothing was said to it but that it failed.
                    let Ok(Ok(stream)) = stream else {
                        tracing::debug!("control: a connection was refused");
                        return;
                    };
                    connected.send_modify(|count| *count += 1);
                    coordinator(&mover, stream).await;
                    connected.send_modify(|count| *count -= 1);
                });
            }
            () = &mut alone => {
                tracing::warn!("no coordinator for {} s: ending", orphaned.as_secs());
                return Ending::Exit;
            }
            ending = told(&mut shutdown) => {
                // The answer to whoever asked is on its way; it closes the connection.
                let mut connected = connected.subscribe();
                let gone = connected.wait_for(|count| *count == 0);
                let _ = tokio::time::timeout(Duration::from_secs(1), gone).await;
                return ending;
            }
        }
    }
}

/// How the mover is told to end, once it is.
async fn told(shutdown: &mut watch::Receiver<Option<Ending>>) -> Ending {
    let told = shutdown.wait_for(Option::is_some).await;
    told.ok().and_then(|told| *told).unwrap_or(Ending::Exit)
}

/// The next connection, once a handshake may begin, and the permit for it. May be dropped at any
/// time: nothing is lost.
async fn accept(
    listener: &TcpListener,
    handshakes: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(handshakes)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

/// Returns once no coordinator has been connected for `orphaned` and no pass is under way.
async fn alone(mut connected: watch::Receiver<usize>, mover: &ServedMover, orphaned: Duration) {
    loop {
        if connected.wait_for(|count| *count == 0).await.is_err() {
            return;
        }
        let company = connected.wait_for(|count| *count > 0);
        if tokio::time::timeout(orphaned, company).await.is_err() && !mover.is_busy() {
            return;
        }
    }
}

async fn coordinator(mover: &Arc<ServedMover>, stream: tokio_rustls::server::TlsStream<TcpStream>) {
    let (mut read, write) = split(stream);
    let (answers, outgoing) = mpsc::channel(64);
    let writer = tokio::spawn(write_all(write, outgoing));
    let mut requests = JoinSet::new();
    loop {
        match messages::read_json::<MoverRequest>(&mut read).await {
            Ok(Some((request, _))) => {
                let (mover, answers) = (Arc::clone(mover), answers.clone());
                requests.spawn(async move { answer(&mover, request, &answers).await });
            }
            Ok(None) => break,
            Err(error) => {
                tracing::debug!("control: {error}");
                break;
            }
        }
    }
    // What was begun goes on without its coordinator; only the telling ends.
    requests.abort_all();
    drop(answers);
    let _ = writer.await;
}

async fn answer(mover: &Arc<ServedMover>, request: MoverRequest, answers: &mpsc::Sender<Response>) {
    let MoverRequest { id, epoch, body } = request;
    let (progress, mut told) = mpsc::channel::<Progress>(4);
    let mut answering = std::pin::pin!(mover.answer(epoch, body, &progress));
    let last = loop {
        tokio::select! {
            Some(progress) = told.recv() => {
                let body = ResponseBody::Progress(progress);
                let _ = answers.send(Response { id, body }).await;
            }
            body = &mut answering => break body,
        }
    };
    let _ = answers.send(Response { id, body: last }).await;
}

async fn write_all(mut stream: impl AsyncWrite + Unpin, mut outgoing: mpsc::Receiver<Response>) {
    while let Some(response) = outgoing.recv().await {
        if messages::write_json(&mut stream, &response).await.is_err() {
            break;
        }
    }
    let _ = tokio::io::AsyncWriteExt::shutdown(&mut stream).await;
}

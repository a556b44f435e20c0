//! The client of the control protocol: one TLS connection to one mover, several requests at once.
//!
//! A request is answered by any number of progress messages and one last word. Requests are
//! idempotent by (epoch, pass), so whoever loses a connection connects again and asks again.

mod connection;
mod error;

pub use self::error::{ControlError, MoverAddress};

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use livmig_proto::{
    control::{
        self, Limits, ManifestReport, MoverRequest, PassReport, PassRequest, Progress, RequestBody,
        ResponseBody, VerifyLevel, Welcome,
    },
    identity::{self, PrivateKey, PublicKey},
    ids::{Epoch, PassNumber},
};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::mpsc,
    task::AbortHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use self::connection::{Pending, serve};

/// How long connecting, the handshake and the first greeting may take, each.
const GREETING_MAX: Duration = Duration::from_secs(10);

/// The minor version since which a mover says by reasons what it leaves out.
const TELLS_REASONS: u32 = 2;

/// How long a mover may say nothing at all while a request is under way; it reports progress
/// several times a second.
const SILENCE_MAX: Duration = Duration::from_mins(1);

/// A connection to a mover. Dropping it closes it; the mover goes on with what it does.
#[derive(Debug)]
pub struct ControlClient {
    peer: MoverAddress,
    epoch: Epoch,
    next_id: AtomicU64,
    frames: mpsc::UnboundedSender<Vec<u8>>,
    pending: Arc<Pending>,
    task: AbortHandle,
}

impl ControlClient {
    /// Connects to the mover at `address`, proves to be the holder of `own`, accepts nobody but
    /// the holder of `peer`. Every request will carry `epoch`.
    pub async fn connect(
        address: SocketAddr,
        own: &PrivateKey,
        peer: &PublicKey,
        epoch: Epoch,
    ) -> Result<Self, ControlError> {
        let socket = timeout(GREETING_MAX, TcpStream::connect(address))
            .await
            .map_err(|_| silent(&address.into()))?
            .map_err(|source| ControlError::Connect {
                peer: address.into(),
                source,
            })?;
        // Requests are small and waited for; a refusal only costs a little time.
        let _ = socket.set_nodelay(true);
        Self::over(socket, address.into(), own, peer, epoch).await
    }

    /// The same over a stream that leads to the mover already; `place` says where that is.
    pub async fn over<S>(
        stream: S,
        place: MoverAddress,
        own: &PrivateKey,
        peer: &PublicKey,
        epoch: Epoch,
    ) -> Result<Self, ControlError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let config = identity::client_config(own, peer, control::ALPN)?;
        let failed = |source| ControlError::Handshake {
            peer: place.clone(),
            source,
        };
        let name = ServerName::try_from(identity::SERVER_NAME)
            .map_err(|error| failed(io::Error::other(error)))?;
        let stream = timeout(
            GREETING_MAX,
            TlsConnector::from(Arc::new(config)).connect(name, stream),
        )
        .await
        .map_err(|_| silent(&place))?
        .map_err(failed)?;

        let (frames, outgoing) = mpsc::unbounded_channel();
        let pending = Arc::new(Pending::default());
        let task = tokio::spawn(serve(stream, outgoing, Arc::clone(&pending))).abort_handle();
        Ok(Self {
            peer: place,
            epoch,
            next_id: AtomicU64::new(1),
            frames,
            pending,
            task,
        })
    }

    /// Whether the connection still stands, as far as this end knows.
    pub fn is_open(&self) -> bool {
        self.pending.is_open()
    }

    /// Waits until the connection has ended, for whatever reason.
    pub async fn closed(&self) {
        self.pending.closed().await;
    }

    /// Who is there?
    pub async fn hello(&self) -> Result<Welcome, ControlError> {
        match self
            .ask(RequestBody::Hello, GREETING_MAX, &mut |_| ())
            .await?
        {
            ResponseBody::Welcome(welcome) if welcome.version < TELLS_REASONS => {
                Err(ControlError::Old {
                    peer: self.peer.clone(),
                    program: welcome.program,
                })
            }
            ResponseBody::Welcome(welcome) => Ok(*welcome),
            _ => Err(self.unexpected()),
        }
    }

    /// Runs a pass, or joins it, or fetches the report of one that has ended.
    pub async fn pass(
        &self,
        request: PassRequest,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<PassReport, ControlError> {
        match self
            .ask(RequestBody::Pass(request), SILENCE_MAX, progress)
            .await?
        {
            ResponseBody::Report(report) => Ok(*report),
            _ => Err(self.unexpected()),
        }
    }

    /// The digest of all that this end holds.
    pub async fn manifest(
        &self,
        level: VerifyLevel,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<ManifestReport, ControlError> {
        match self
            .ask(RequestBody::Manifest { level }, SILENCE_MAX, progress)
            .await?
        {
            ResponseBody::Manifest(report) => Ok(report),
            _ => Err(self.unexpected()),
        }
    }

    /// Ends the pass under way at its next entry boundary.
    pub async fn stop_pass(&self, pass: PassNumber) -> Result<(), ControlError> {
        self.accepted(RequestBody::StopPass { pass }).await
    }

    /// Limits live passes, the one under way and those to come.
    pub async fn limit(&self, load: Limits) -> Result<(), ControlError> {
        self.accepted(RequestBody::Limit(load)).await
    }

    /// Tells the mover that the report of `pass` is stored.
    pub async fn acknowledge(&self, pass: PassNumber) -> Result<(), ControlError> {
        self.accepted(RequestBody::Acknowledge { pass }).await
    }

    /// Asks the mover to close everything and end.
    pub async fn shutdown(&self) -> Result<(), ControlError> {
        self.accepted(RequestBody::Shutdown).await
    }

    /// Asks the mover to close everything and to stay, holding nothing, until its process is ended.
    pub async fn retire(&self) -> Result<(), ControlError> {
        self.accepted(RequestBody::Retire).await
    }

    async fn accepted(&self, body: RequestBody) -> Result<(), ControlError> {
        match self.ask(body, SILENCE_MAX, &mut |_| ()).await? {
            ResponseBody::Accepted => Ok(()),
            _ => Err(self.unexpected()),
        }
    }

    /// Sends one request and waits for its last word.
    async fn ask(
        &self,
        body: RequestBody,
        silence: Duration,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<ResponseBody, ControlError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let frame = control::encode(&MoverRequest {
            id,
            epoch: self.epoch,
            body,
        })
        .map_err(ControlError::Encode)?;
        let mut answers = self.pending.expect(id);
        // A closed channel shows below as an answer that never comes.
        let _ = self.frames.send(frame);
        loop {
            match timeout(silence, answers.recv()).await {
                Err(_) => {
                    return Err(ControlError::Silent {
                        peer: self.peer.clone(),
                        limit: silence,
                    });
                }
                Ok(None) => {
                    return Err(ControlError::Lost {
                        peer: self.peer.clone(),
                        reason: self.pending.reason(),
                    });
                }
                Ok(Some(ResponseBody::Progress(step))) => progress(step),
                Ok(Some(ResponseBody::Refused(fault))) => {
                    return Err(ControlError::Refused(fault));
                }
                Ok(Some(last)) => return Ok(last),
            }
        }
    }

    fn unexpected(&self) -> ControlError {
        ControlError::Unexpected {
            peer: self.peer.clone(),
        }
    }
}

/// A mover that does not greet.
fn silent(peer: &MoverAddress) -> ControlError {
    ControlError::Silent {
        peer: peer.clone(),
        limit: GREETING_MAX,
    }
}

impl Drop for ControlClient {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use livmig_proto::control::{Fault, FaultCode, Response, Side};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// A mover's side of one connection: answers each request with what `answer` makes of it.
    async fn peer(
        listener: TcpListener,
        own: PrivateKey,
        coordinator: PublicKey,
        answer: impl Fn(&MoverRequest) -> Vec<ResponseBody> + Send + 'static,
    ) {
        let config = identity::server_config(&own, &coordinator, control::ALPN).unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(socket).await else {
            return;
        };
        loop {
            let mut prefix = [0; 4];
            if stream.read_exact(&mut prefix).await.is_err() {
                return;
            }
            let mut json = vec![0; control::decode_length(prefix).unwrap()];
            stream.read_exact(&mut json).await.unwrap();
            let request: MoverRequest = control::decode(&json).unwrap();
            let bodies = answer(&request);
            if bodies.is_empty() {
                return;
            }
            for body in bodies {
                let frame = control::encode(&Response {
                    id: request.id,
                    body,
                })
                .unwrap();
                stream.write_all(&frame).await.unwrap();
            }
        }
    }

    async fn connected(
        answer: impl Fn(&MoverRequest) -> Vec<ResponseBody> + Send + 'static,
    ) -> ControlClient {
        let [own, mover] = [(); 2].map(|()| PrivateKey::generate().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let public = mover.public().unwrap();
        tokio::spawn(peer(listener, mover, own.public().unwrap(), answer));
        ControlClient::connect(address, &own, &public, Epoch(3))
            .await
            .unwrap()
    }

    fn digest(request: &MoverRequest) -> ResponseBody {
        ResponseBody::Manifest(ManifestReport {
            level: VerifyLevel::Readback,
            digest: format!("{:02x}{:02x}", request.id, request.epoch.0),
            entries: 1,
            bytes: 2,
        })
    }

    #[tokio::test]
    async fn progress_comes_before_the_last_word() {
        let client = connected(|request| {
            let step = ResponseBody::Progress(Progress {
                entries: 9,
                ..Progress::default()
            });
            vec![step.clone(), step, digest(request)]
        })
        .await;
        let mut steps = 0;
        let report = client
            .manifest(VerifyLevel::Readback, &mut |step| steps += step.entries)
            .await
            .unwrap();
        assert_eq!((steps, report.digest.as_str()), (18, "0103"));
    }

    #[tokio::test]
    async fn requests_that_overlap_get_their_own_answers() {
        let client = connected(|request| vec![digest(request)]).await;
        let (mut first_progress, mut second_progress) = (|_| (), |_| ());
        let (first, second) = tokio::join!(
            client.manifest(VerifyLevel::Wire, &mut first_progress),
            client.manifest(VerifyLevel::Wire, &mut second_progress),
        );
        assert_eq!(first.unwrap().digest, "0103");
        assert_eq!(second.unwrap().digest, "0203");
    }

    #[tokio::test]
    async fn a_refusal_is_the_fault_and_a_lost_connection_says_so() {
        let fault = Fault {
            code: FaultCode::Busy,
            side: Side::Source,
            message: "A pass is under way".to_owned(),
            path: None,
            advice: None,
        };
        let client = connected(move |request| match request.body {
            RequestBody::Shutdown => Vec::new(),
            _ => vec![ResponseBody::Refused(fault.clone())],
        })
        .await;
        assert!(matches!(
            client.stop_pass(PassNumber(1)).await.unwrap_err(),
            ControlError::Refused(fault) if fault.code == FaultCode::Busy
        ));
        let lost = client.shutdown().await.unwrap_err();
        assert!(matches!(lost, ControlError::Lost { .. }), "{lost}");
        client.closed().await;
        assert!(!client.is_open());
        assert!(lost.is_transient());
        // Asked once more on the dead connection: an answer at once, not a wait.
        assert!(matches!(
            client.hello().await.unwrap_err(),
            ControlError::Lost { .. }
        ));
    }

    #[tokio::test]
    async fn a_mover_that_cannot_say_what_it_leaves_out_is_not_used() {
        for (version, used) in [(control::VERSION, true), (1, false)] {
            let client = connected(move |_| {
                let welcome = serde_json::json!({
                    "version": version, "program": "0.1.0", "migration": "07".repeat(16),
                    "side": "source", "pid": 1, "bootId": "b", "data": null,
                    "root": {
                        "filesystem": "ext4", "provesUnchanged": true, "empty": false,
                        "bytesTotal": 1, "bytesAvailable": 1,
                        "inodesTotal": 0, "inodesAvailable": 0,
                    },
                    "confinement": "none", "running": null, "reported": null,
                });
                let welcome: Welcome = serde_json::from_value(welcome).unwrap();
                vec![ResponseBody::Welcome(Box::new(welcome))]
            })
            .await;
            let greeted = client.hello().await;
            assert_eq!(greeted.is_ok(), used, "{greeted:?}");
            if let Err(error) = greeted {
                assert!(!error.is_transient(), "{error}");
                assert!(error.to_string().contains("too old"), "{error}");
            }
        }
    }

    #[tokio::test]
    async fn a_peer_with_another_key_is_not_talked_to() {
        let [own, mover, stranger] = [(); 3].map(|()| PrivateKey::generate().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(peer(listener, stranger, own.public().unwrap(), |_| {
            panic!("a request reached a stranger")
        }));
        let error = ControlClient::connect(address, &own, &mover.public().unwrap(), Epoch(1))
            .await
            .unwrap_err();
        assert!(matches!(error, ControlError::Handshake { .. }), "{error}");
        assert!(!error.is_transient());
    }
}

//! One connection: frames out, answers in, and who waits for which.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use livmig_proto::control::{self, Response, ResponseBody};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{mpsc, watch},
};
use tokio_rustls::client::TlsStream;

/// The requests that wait for an answer, and how the connection ended if it did.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    requests: Mutex<HashMap<u64, mpsc::UnboundedSender<ResponseBody>>>,
    ended: watch::Sender<Option<String>>,
}

impl Pending {
    /// Whether the connection still stands, as far as this end knows.
    pub(crate) fn is_open(&self) -> bool {
        self.ended.borrow().is_none()
    }

    /// Waits until the connection has ended.
    pub(crate) async fn closed(&self) {
        // The sender is here: waiting for it cannot fail.
        let _ = self.ended.subscribe().wait_for(Option::is_some).await;
    }

    /// Registers a request; on a connection that has ended the answers end at once.
    pub(crate) fn expect(&self, id: u64) -> mpsc::UnboundedReceiver<ResponseBody> {
        let (answers, receiver) = mpsc::unbounded_channel();
        let mut requests = self.lock();
        if self.is_open() {
            requests.insert(id, answers);
        }
        receiver
    }

    /// How the connection ended.
    pub(crate) fn reason(&self) -> String {
        self.ended
            .borrow()
            .clone()
            .unwrap_or_else(|| "no answer".to_owned())
    }

    /// Hands an answer on. One for a request that nobody waits for any more is dropped.
    fn deliver(&self, response: Response) {
        let mut requests = self.lock();
        if let Some(answers) = requests.get(&response.id) {
            let last = !matches!(response.body, ResponseBody::Progress(_));
            if answers.send(response.body).is_err() || last {
                requests.remove(&response.id);
            }
        }
    }

    /// Ends every wait.
    fn end(&self, reason: String) {
        // Held over both, so that no request is registered in between.
        let mut requests = self.lock();
        self.ended.send_replace(Some(reason));
        requests.clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, mpsc::UnboundedSender<ResponseBody>>> {
        // Nothing panics while holding it; the map is whole at every point.
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Carries frames both ways until either end closes.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: TlsStream<S>,
    mut outgoing: mpsc::UnboundedReceiver<Vec<u8>>,
    pending: Arc<Pending>,
) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let read = async {
        loop {
            let mut prefix = [0; 4];
            reader.read_exact(&mut prefix).await?;
            let length = control::decode_length(prefix).map_err(io::Error::other)?;
            let mut json = vec![0; length];
            reader.read_exact(&mut json).await?;
            pending.deliver(control::decode(&json).map_err(io::Error::other)?);
        }
    };
    let write = async {
        while let Some(frame) = outgoing.recv().await {
            writer.write_all(&frame).await?;
            writer.flush().await?;
        }
        // The client was dropped: nobody waits for answers.
        Ok::<(), io::Error>(())
    };
    let ended: Result<(), io::Error> = tokio::select! {
        ended = read => ended,
        ended = write => ended,
    };
    pending.end(match ended {
        Ok(()) => "closed by this end".to_owned(),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the mover closed it".to_owned()
        }
        Err(error) => error.to_string(),
    });
}

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::{io::AsyncReadExt as _, time::timeout};

use super::*;
use crate::{
    random::random,
    transport::{
        quic::CONNECTIONS_MAX,
        quic_dial::{self, QuicDialer},
    },
};

/// Nothing here takes as long.
const LIMIT: Duration = Duration::from_secs(10);

struct Keys {
    source: PrivateKey,
    destination: PrivateKey,
    public: PublicKey,
}

impl Keys {
    fn new() -> Self {
        let [source, destination] = [(); 2].map(|()| PrivateKey::generate().unwrap());
        let public = destination.public().unwrap();
        Self {
            source,
            destination,
            public,
        }
    }

    fn listen(&self) -> (Listener, mpsc::Receiver<Incoming>) {
        let peer = self.source.public().unwrap();
        Listener::bind(([127, 0, 0, 1], 0).into(), &self.destination, &peer).unwrap()
    }

    async fn dial(
        &self,
        listener: &Listener,
    ) -> Result<(QuicDialer, SendStream, RecvStream), QuicError> {
        QuicDialer::begin(listener.address(), &self.source, &self.public).await
    }

    /// A connection of its own.
    fn connect(&self, address: SocketAddr) -> (quinn::Endpoint, quinn::Connecting) {
        let config = quic::client(address, &self.source, &self.public).unwrap();
        quic::connect(address, config).unwrap()
    }

    async fn join(
        &self,
        listener: &Listener,
        token: Token,
    ) -> Result<(quinn::Endpoint, quinn::Connection), QuicError> {
        let (endpoint, connecting) = self.connect(listener.address());
        quic_dial::join(endpoint, connecting, token).await
    }

    /// A session of so many connections.
    async fn begin(
        &self,
        listener: &Listener,
        begun: &mut mpsc::Receiver<Incoming>,
        count: usize,
    ) -> Session {
        let (mut dialer, send, receive) = self.dial(listener).await.unwrap();
        let incoming = begun.recv().await.unwrap();
        let destination = incoming.accept_bi().await.unwrap();
        dialer.widen(count).await;
        Session {
            dialer,
            source: (send, receive),
            incoming,
            destination,
        }
    }
}

/// A session at both ends.
struct Session {
    dialer: QuicDialer,
    source: (SendStream, RecvStream),
    incoming: Incoming,
    destination: (SendStream, RecvStream),
}

impl Session {
    /// Both ends know, soon, that it is over.
    async fn expect_lost(mut self) {
        let lost = async {
            self.source.1.read_u8().await.unwrap_err();
            self.destination.1.read_u8().await.unwrap_err();
            assert!(self.incoming.accept_uni().await.is_none());
            assert!(self.incoming.accept_bi().await.is_none());
        };
        timeout(LIMIT, lost).await.unwrap();
        self.dialer.open_uni().await.unwrap_err();
        self.dialer.open_bi().await.unwrap_err();
    }
}

/// How often each number of a stream within its connection was seen: as often as there are
/// connections.
#[derive(Debug, Default)]
struct Numbers(BTreeMap<u64, usize>);

impl Numbers {
    fn see(&mut self, stream: &RecvStream) {
        match stream {
            RecvStream::Quic(stream) => *self.0.entry(stream.id().index()).or_default() += 1,
            RecvStream::Tcp(..) => unreachable!("nothing connects by TCP"),
        }
    }
}

async fn say(stream: &mut SendStream) {
    stream.write_bytes(Bytes::from_static(b"x")).await.unwrap();
}

#[tokio::test]
async fn streams_are_spread_over_the_connections_of_a_session() {
    let keys = Keys::new();
    let (listener, mut begun) = keys.listen();
    let session = keys.begin(&listener, &mut begun, CONNECTIONS_MAX).await;
    let (mut lanes, mut queries) = (Numbers::default(), Numbers::default());
    for _ in 0..2 * CONNECTIONS_MAX {
        // As a pass does it: a query between any two lanes.
        say(&mut session.dialer.open_uni().await.unwrap()).await;
        say(&mut session.dialer.open_bi().await.unwrap().0).await;
        lanes.see(&session.incoming.accept_uni().await.unwrap());
        queries.see(&session.incoming.accept_bi().await.unwrap().1);
    }
    assert_eq!(lanes.0, BTreeMap::from([(0, 4), (1, 4)]));
    // The first stream of each said what it is for.
    assert_eq!(queries.0, BTreeMap::from([(1, 4), (2, 4)]));
    session.dialer.close(0, "done");
    timeout(LIMIT, session.dialer.wait_closed()).await.unwrap();
    listener.close().await;
}

#[tokio::test]
async fn a_session_has_no_more_connections_than_it_may() {
    let keys = Keys::new();
    let (listener, mut begun) = keys.listen();
    let mut session = keys.begin(&listener, &mut begun, CONNECTIONS_MAX).await;
    let fifth = keys.join(&listener, session.dialer.token).await;
    assert!(refused(&fifth), "{fifth:?}");
    // It changes nothing for the others.
    say(&mut session.source.0).await;
    assert_eq!(session.destination.1.read_u8().await.unwrap(), b'x');
    session.dialer.close(0, "done");
}

#[tokio::test]
async fn a_token_of_no_session_opens_nothing() {
    let keys = Keys::new();
    let (listener, mut begun) = keys.listen();
    let session = keys.begin(&listener, &mut begun, 1).await;
    let token = session.dialer.token;
    let unknown = keys.join(&listener, random()).await;
    assert!(refused(&unknown), "{unknown:?}");
    let _joined = keys.join(&listener, token).await.unwrap();
    // Nor does that of a session whose streams are under way.
    say(&mut session.dialer.open_uni().await.unwrap()).await;
    session.incoming.accept_uni().await.unwrap();
    let late = keys.join(&listener, token).await;
    assert!(refused(&late), "{late:?}");
    session.dialer.close(0, "done");
    session.expect_lost().await;
    let over = keys.join(&listener, token).await;
    assert!(refused(&over), "{over:?}");
}

fn refused<T>(joined: &Result<T, QuicError>) -> bool {
    let Err(QuicError::Hello(error)) = joined else {
        return false;
    };
    format!("{error:?}").contains("ApplicationClosed(ApplicationClose { error_code: 3")
}

#[tokio::test]
async fn a_session_is_lost_with_any_of_its_connections() {
    let keys = Keys::new();
    let (listener, mut begun) = keys.listen();
    for lost in 0..3 {
        // At the source, without a word to the rest of it.
        let session = keys.begin(&listener, &mut begun, 3).await;
        for _ in 0..3 {
            say(&mut session.dialer.open_uni().await.unwrap()).await;
            session.incoming.accept_uni().await.unwrap();
        }
        let connection = session.dialer.bundle.turn(lost).unwrap();
        connection.close(9_u32.into(), b"lost");
        session.expect_lost().await;
        // At the destination.
        let session = keys.begin(&listener, &mut begun, 3).await;
        let connection = session.incoming.0.bundle.turn(lost).unwrap();
        connection.close(9_u32.into(), b"lost");
        session.expect_lost().await;
    }
}

/// A source that gave up waiting for the answer to a join goes on with the connections it has.
#[tokio::test]
async fn a_connection_that_was_never_used_is_no_loss() {
    let keys = Keys::new();
    let (listener, mut begun) = keys.listen();
    let mut session = keys.begin(&listener, &mut begun, 1).await;
    for _ in 0..2 * CONNECTIONS_MAX {
        // One before may still be there.
        let joined = async {
            loop {
                if let Ok(joined) = keys.join(&listener, session.dialer.token).await {
                    return joined;
                }
            }
        };
        let (_endpoint, connection) = timeout(LIMIT, joined).await.unwrap();
        connection.close(0_u32.into(), b"");
    }
    say(&mut session.source.0).await;
    assert_eq!(session.destination.1.read_u8().await.unwrap(), b'x');
    session.dialer.close(0, "done");
}

#[tokio::test]
async fn what_nobody_reads_is_bounded_however_many_connections_there_are() {
    const WINDOW: usize = 12 << 20;
    const PIECE: usize = 64 << 10;
    let keys = Keys::new();
    let (listener, mut begun) = keys.listen();
    for count in [1, 2, CONNECTIONS_MAX] {
        let session = keys.begin(&listener, &mut begun, count).await;
        let mut lanes = tokio::task::JoinSet::new();
        for _ in 0..2 * CONNECTIONS_MAX {
            let mut lane = session.dialer.open_uni().await.unwrap();
            lanes.spawn(async move {
                let mut written = 0;
                let piece = Bytes::from(vec![0; PIECE]);
                // As long as there is room a write takes no time.
                let patience = Duration::from_secs(1);
                while let Ok(result) = timeout(patience, lane.write_bytes(piece.clone())).await {
                    result.unwrap();
                    written += PIECE;
                }
                (lane, written)
            });
        }
        let written = lanes.join_all().await;
        let total: usize = written.iter().map(|(_, written)| written).sum();
        // Each lane has begun one piece more.
        let begun = 2 * CONNECTIONS_MAX * PIECE;
        assert!(total <= WINDOW, "{total} over {count}");
        assert!(total + begun >= WINDOW - PIECE, "{total} over {count}");
        session.dialer.close(0, "done");
    }
}

/// Whoever begins handshakes in the name of addresses that are not its own keeps nobody out.
#[tokio::test]
async fn handshakes_that_are_never_ended_hold_nobody_up() {
    let keys = Keys::new();
    let (listener, mut begun) = keys.listen();
    let mut ours = Vec::new();
    // From several addresses, or the others' endpoints would notice nothing.
    for _ in 0..16 {
        let mute = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for _ in 0..HANDSHAKES_MAX / 8 {
            let (endpoint, connecting) = keys.connect(mute.local_addr().unwrap());
            let client = endpoint.local_addr().unwrap();
            // A farewell would end what it began.
            ours.push((endpoint, connecting));
            let mut first = vec![0; 1 << 16];
            loop {
                let (length, from) = mute.recv_from(&mut first).await.unwrap();
                if from == client {
                    let first = first.get(..length).unwrap();
                    mute.send_to(first, listener.address()).await.unwrap();
                    break;
                }
            }
        }
    }
    let begin = async {
        // The queue of those who knock may be full still.
        loop {
            if let Ok(session) = keys.dial(&listener).await {
                return session;
            }
        }
    };
    let soon = quic::HANDSHAKE / 2;
    let _session = timeout(soon, begin).await.unwrap();
    timeout(soon, begun.recv()).await.unwrap().unwrap();
}

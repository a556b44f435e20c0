//! Connections to the data port over TCP that are not a source's, or a source's that misbehaves.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use livmig_proto::{
    control::{self, PassKind},
    identity::{PrivateKey, SERVER_NAME, client_config},
    session::ToDestination,
};
use livmig_tests::{pair::Pair, rng::Rng};
use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};

const ALPN: &[u8] = b"livmig-data-tcp/1";

/// Lets a stranger's connection hang no longer than this; the mover ends it sooner.
const LIMIT: Duration = Duration::from_mins(1);

/// Connects to the data port of `pair` with `key`.
fn dial(
    pair: &Pair,
    key: &PrivateKey,
    alpn: &[u8],
) -> Result<StreamOwned<ClientConnection, TcpStream>> {
    let socket = TcpStream::connect(pair.destination.data()?)?;
    socket.set_read_timeout(Some(LIMIT))?;
    let config = client_config(key, &pair.keys.destination.public()?, alpn)?;
    let name = ServerName::try_from(SERVER_NAME)?;
    let connection = ClientConnection::new(Arc::new(config), name)?;
    Ok(StreamOwned::new(connection, socket))
}

/// Says `bytes`; what comes back until the mover ends the connection.
fn answer(mut stream: StreamOwned<ClientConnection, TcpStream>, bytes: &[u8]) -> Result<Vec<u8>> {
    // The mover may hang up before it has read all, or even before the handshake is over.
    let _ = stream.write_all(bytes).and_then(|()| stream.flush());
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Err(error).context("the mover does not end the connection")
        }
        _ => Ok(answer),
    }
}

/// The first bytes of a connection, as a source says them.
fn hello(token: u8, purpose: u8) -> Vec<u8> {
    [vec![token; 16], vec![purpose]].concat()
}

#[test]
fn who_holds_another_key_or_speaks_otherwise_hears_nothing() -> Result<()> {
    let pair = Pair::start(90)?;
    let stranger = PrivateKey::generate()?;
    let attempts: [(&PrivateKey, &[u8]); 5] = [
        (&stranger, ALPN),
        (&pair.keys.coordinator, ALPN),
        (&pair.keys.destination, ALPN),
        (&pair.keys.source, b"livmig-data-tcp/2"),
        (&pair.keys.source, b"livmig-control/1"),
    ];
    for (key, alpn) in attempts {
        let said = answer(dial(&pair, key, alpn)?, &hello(1, 1))?;
        ensure!(
            said.is_empty(),
            "{} bytes: {}",
            said.len(),
            alpn.escape_ascii()
        );
    }
    let mut rng = Rng::new(91);
    for length in [1, 17, 300, 1 << 20] {
        let mut socket = TcpStream::connect(pair.destination.data()?)?;
        socket.set_read_timeout(Some(LIMIT))?;
        let _ = socket.write_all(&rng.bytes(length));
        let _ = socket.shutdown(std::net::Shutdown::Write);
        let mut said = Vec::new();
        let _ = socket.read_to_end(&mut said);
        ensure!(said.len() < 64, "{} bytes for garbage", said.len());
    }
    pair.run_pass(1, PassKind::Live)?;
    pair.shut_down()
}

#[test]
fn a_source_that_says_what_makes_no_sense_is_hung_up_on() -> Result<()> {
    let pair = Pair::start(92)?;
    let probe = |bytes| control::encode(&ToDestination::Probe { bytes });
    let begins = |message: Vec<u8>| [hello(2, 1), message].concat();
    let said: [(&str, Vec<u8>); 7] = [
        ("no purpose", hello(1, 0)),
        ("another purpose", hello(1, 9)),
        ("a lane of no session", hello(1, 2)),
        ("queries of no session", hello(1, 3)),
        ("no message", begins(vec![0xff; 64])),
        (
            "the end before the beginning",
            begins(control::encode(&ToDestination::Settle)?),
        ),
        ("more to measure than there is", begins(probe(u64::MAX)?)),
    ];
    for (what, bytes) in said {
        let answered = answer(dial(&pair, &pair.keys.source, ALPN)?, &bytes)?;
        ensure!(answered.is_empty(), "{what}: {} bytes", answered.len());
    }
    // Connections that say nothing hold nobody up.
    let silent: Vec<_> = (0..40)
        .map(|_| TcpStream::connect(pair.destination.data()?).context("connect"))
        .collect::<Result<_>>()?;
    pair.run_pass(1, PassKind::Live)?;
    drop(silent);
    pair.shut_down()
}

//! Peers that are not who they should be, or not what: a mover tells them nothing, survives
//! them, and serves its own coordinator afterwards.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use livmig_proto::{
    attributes::Kinds,
    control::{self, MoverRequest, PassKind, RequestBody, VerifyLevel},
    frame::{FrameBuilder, Op},
    identity::{PrivateKey, SERVER_NAME, client_config},
    ids::{Epoch, MigrationUid, PassNumber},
    lately::Relative,
    limits::FRAME_MAX,
    name::{Name, RelPath},
    session::{Begin, ToDestination, ToSource, VERSION},
};
use livmig_tests::{pair::Pair, rng::Rng};

/// What the movers agree on over QUIC.
const DATA: &[u8] = b"livmig-data/3";

/// Both movers still serve: a welcome each, a whole pass, an orderly end.
fn expect_unharmed(pair: Pair) -> Result<()> {
    for mover in [&pair.source, &pair.destination] {
        mover
            .connect(&pair.keys.coordinator, Epoch(1))?
            .expect_welcome()?;
    }
    pair.run_pass(1, PassKind::Live)?;
    pair.shut_down()
}

#[test]
fn garbage_on_the_control_socket() -> Result<()> {
    let pair = Pair::start(60)?;
    let mut rng = Rng::new(61);
    for mover in [&pair.source, &pair.destination] {
        for length in [1, 5, 300, 20_000, 1 << 20] {
            let mut socket = TcpStream::connect(mover.listening.control)?;
            socket.set_read_timeout(Some(Duration::from_mins(1)))?;
            // The mover may hang up before it has read all.
            let _ = socket.write_all(&rng.bytes(length));
            let _ = socket.shutdown(std::net::Shutdown::Write);
            let mut answer = Vec::new();
            let _ = socket.read_to_end(&mut answer);
            // A TLS alert at most.
            ensure!(answer.len() < 64, "{} bytes for garbage", answer.len());
        }
    }
    expect_unharmed(pair)
}

#[test]
fn connections_that_say_nothing() -> Result<()> {
    let pair = Pair::start(62)?;
    let mut silent = Vec::new();
    for mover in [&pair.source, &pair.destination] {
        for _ in 0..50 {
            silent.push(TcpStream::connect(mover.listening.control)?);
        }
    }
    expect_unharmed(pair)?;
    drop(silent);
    Ok(())
}

#[test]
fn a_coordinator_with_the_wrong_key() -> Result<()> {
    let pair = Pair::start(63)?;
    // The movers' own keys are wrong keys too: each key has one role.
    let strangers = [
        PrivateKey::generate()?,
        pair.keys.source.clone(),
        pair.keys.destination.clone(),
    ];
    for mover in [&pair.source, &pair.destination] {
        for key in &strangers {
            let mut client = mover.connect(key, Epoch(9))?;
            ensure!(
                client.ask(RequestBody::Hello).is_err(),
                "a stranger is served"
            );
        }
    }
    // Nor has the stranger's epoch been taken for real.
    expect_unharmed(pair)
}

#[test]
fn a_wrong_protocol_version() -> Result<()> {
    let pair = Pair::start(64)?;
    for mover in [&pair.source, &pair.destination] {
        for alpn in [b"livmig-control/2".as_slice(), DATA, b"http/1.1"] {
            let mut client = mover.connect_speaking(&pair.keys.coordinator, alpn)?;
            ensure!(
                client.ask(RequestBody::Hello).is_err(),
                "any protocol is served"
            );
        }
    }
    expect_unharmed(pair)
}

/// Even the right key may send nonsense: its program may have a defect.
#[test]
fn nonsense_from_the_coordinator() -> Result<()> {
    let pair = Pair::start(65)?;
    let hello = control::encode(&MoverRequest {
        id: 1,
        epoch: Epoch(1),
        body: RequestBody::Hello,
    })?;
    let nonsense: [&[u8]; 7] = [
        &u32::MAX.to_be_bytes(),
        &[0, 0, 0, 0],
        b"\x00\x00\x00\x02{}",
        b"\x00\x00\x00\x04null",
        b"\x00\x00\x00\x02\xff\xff",
        hello.get(..hello.len() - 3).context("a short hello")?,
        b"\x00\x00\x00\x33{\"id\":1,\"epoch\":1,\"body\":{\"type\":\"no such request\"}}",
    ];
    for mover in [&pair.source, &pair.destination] {
        for bytes in nonsense {
            let mut client = mover.connect(&pair.keys.coordinator, Epoch(1))?;
            client.send(bytes)?;
        }
    }
    expect_unharmed(pair)
}

#[test]
fn garbage_on_the_data_port() -> Result<()> {
    let pair = Pair::start(66)?;
    let mut rng = Rng::new(67);
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    for _ in 0..2000 {
        let length = 1 + rng.below(1400);
        let mut bytes = rng.bytes(usize::try_from(length)?);
        if rng.chance(50)
            && let Some(first) = bytes.first_mut()
        {
            // Looks like the long header of a QUIC packet.
            *first |= 0xc0;
        }
        // A full socket buffer drops it, as a network would.
        let _ = socket.send_to(&bytes, pair.destination.data()?);
    }
    expect_unharmed(pair)
}

#[test]
fn a_source_with_the_wrong_key_or_protocol() -> Result<()> {
    let pair = Pair::start(68)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let stranger = PrivateKey::generate()?;
    let attempts: [(&PrivateKey, &[u8]); 4] = [
        (&stranger, DATA),
        (&pair.keys.coordinator, DATA),
        (&pair.keys.destination, DATA),
        (&pair.keys.source, b"livmig-data/1"),
    ];
    for (key, alpn) in attempts {
        let config = client_config(key, &pair.keys.destination.public()?, alpn)?;
        let served = runtime.block_on(is_served(config, pair.destination.data()?, b"hello"))?;
        ensure!(!served, "a wrong peer is served: {}", alpn.escape_ascii());
    }
    // Neither is who holds the right key but belongs to no session, or says what makes no sense.
    for purpose in [0, 2, 3, 4, 5, 255] {
        let config = client_config(&pair.keys.source, &pair.keys.destination.public()?, DATA)?;
        let hello = [[7; 16].as_slice(), &[purpose]].concat();
        let served = runtime.block_on(is_served(config, pair.destination.data()?, &hello))?;
        ensure!(!served, "served for purpose {purpose}");
    }
    expect_unharmed(pair)
}

/// A source with the right key may have been taken over: frames of nothing but tiny ops cost the
/// destination their bytes, not what each op would take if all were decoded at once.
#[test]
fn frames_of_tiny_ops() -> Result<()> {
    const LANES: u32 = 4;
    let pair = Pair::start(69)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let config = client_config(&pair.keys.source, &pair.keys.destination.public()?, DATA)?;
    let mut frame = FrameBuilder::new();
    frame.push(&Op::Enter {
        path: Relative::whole(&RelPath::ROOT),
    });
    let tiny = Op::Remove {
        name: Name::new(b"a")?,
    };
    while frame.len() + 16 < FRAME_MAX {
        frame.push(&tiny);
    }
    let frame = frame.take(1);
    runtime.block_on(async {
        let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse()?)?;
        let config = quinn::crypto::rustls::QuicClientConfig::try_from(config)?;
        let config = quinn::ClientConfig::new(Arc::new(config));
        let connection = endpoint
            .connect_with(config, pair.destination.data()?, SERVER_NAME)?
            .await?;
        let (mut send, mut receive) = connection.open_bi().await?;
        let begin = ToDestination::Begin(Begin {
            version: VERSION,
            migration: MigrationUid([1; 16]),
            epoch: Epoch(1),
            pass: PassNumber(1),
            run: [1; 16],
            resumes: false,
            kind: PassKind::Live,
            verify: VerifyLevel::Readback,
            adopt: false,
            may_leave_read_back: false,
            sees: Kinds::plain(),
            tag_key: [0; 32],
            root: None,
        });
        // A token, and that it begins a session.
        send.write_all(&[[7; 16].as_slice(), &[1]].concat()).await?;
        send.write_all(&control::encode(&begin)?).await?;
        let mut lanes = Vec::new();
        for lane in 0..LANES {
            let mut stream = connection.open_uni().await?;
            stream.write_all(&lane.to_le_bytes()).await?;
            lanes.push(stream);
        }
        for stream in &mut lanes {
            stream.write_all(&frame).await?;
        }
        let mut applied = 0;
        while applied < LANES {
            let mut prefix = [0; 4];
            receive.read_exact(&mut prefix).await?;
            let mut body = vec![0; control::decode_length(prefix)?];
            receive.read_exact(&mut body).await?;
            match control::decode(&body)? {
                ToSource::Applied { .. } => applied += 1,
                ToSource::Ready(_) => {}
                other => anyhow::bail!("{other:?}"),
            }
        }
        connection.close(0_u32.into(), b"");
        endpoint.wait_idle().await;
        anyhow::Ok(())
    })?;
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", pair.destination.process.pid()))?;
    let peak: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .context("no peak")?
        .parse()?;
    ensure!(peak < 200 << 10, "{peak} KiB for {LANES} frames");
    expect_unharmed(pair)
}

/// Whether a QUIC client gets as much as one byte out of the data port.
async fn is_served(config: rustls::ClientConfig, address: SocketAddr, says: &[u8]) -> Result<bool> {
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse()?)?;
    let config = quinn::crypto::rustls::QuicClientConfig::try_from(config)?;
    let config = quinn::ClientConfig::new(Arc::new(config));
    let Ok(connection) = endpoint.connect_with(config, address, SERVER_NAME)?.await else {
        return Ok(false);
    };
    let served = match connection.open_bi().await {
        // A server that refuses a client's key learns of it after the client believes itself
        // connected; then every stream ends in an error.
        Ok((mut send, mut receive)) => {
            let _ = send.write_all(says).await;
            let _ = send.finish();
            let read = tokio::time::timeout(Duration::from_mins(1), receive.read_to_end(4096));
            matches!(read.await.context("no answer and no refusal")?, Ok(bytes) if !bytes.is_empty())
        }
        Err(_) => false,
    };
    endpoint.close(0_u32.into(), b"");
    Ok(served)
}

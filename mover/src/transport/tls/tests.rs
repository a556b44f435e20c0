use livmig_proto::identity::{self, PrivateKey, SERVER_NAME};
use rustls::pki_types::ServerName;
use tokio::net::TcpListener;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::*;

const ALPN: &[u8] = b"test";

/// Both ends of a connection, the source's of the usual kind.
async fn connect() -> (TlsStream<TcpStream>, ServerTls) {
    let (source, destination) = (key(), key());
    let (client, server) = pair(&source, &source, &destination).await;
    (client.unwrap(), server.unwrap())
}

fn key() -> PrivateKey {
    PrivateKey::generate().unwrap()
}

/// A handshake of the holder of `source` with one that expects the holder of `expected`.
async fn pair(
    source: &PrivateKey,
    expected: &PrivateKey,
    destination: &PrivateKey,
) -> (io::Result<TlsStream<TcpStream>>, io::Result<ServerTls>) {
    let server = identity::server_config(destination, &expected.public().unwrap(), ALPN).unwrap();
    let client = identity::client_config(source, &destination.public().unwrap(), ALPN).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap());
    let (socket, accepted) = tokio::join!(socket, listener.accept());
    let connector = TlsConnector::from(Arc::new(client));
    let name = ServerName::try_from(SERVER_NAME).unwrap();
    tokio::join!(
        connector.connect(name, socket.unwrap()),
        ServerTls::accept(Arc::new(server), accepted.unwrap().0)
    )
}

/// Bytes that tell where they are.
fn content(len: usize) -> Vec<u8> {
    (0..len.div_ceil(8) as u64)
        .flat_map(u64::to_le_bytes)
        .take(len)
        .collect()
}

#[tokio::test]
async fn what_is_sent_arrives_in_pieces_of_any_size() {
    let (mut client, mut server) = connect().await;
    let sent = content(3 << 20);
    let expected = sent.clone();
    let writer = tokio::spawn(async move {
        for part in sent.chunks(70_001) {
            client.write_all(part).await.unwrap();
            client.flush().await.unwrap();
        }
        client.shutdown().await.unwrap();
        client
    });
    let mut received = Vec::new();
    for size in [1, 4, 16_384, 100_000, 1 << 20].into_iter().cycle() {
        let mut part = vec![0; size];
        let read = server.read(&mut part).await.unwrap();
        if read == 0 {
            break;
        }
        received.extend_from_slice(&part[..read]);
    }
    assert!(received == expected);
    // It was said that nothing more comes, and stays said.
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
    let mut client = writer.await.unwrap();
    server.write_all(b"an answer").await.unwrap();
    server.shutdown().await.unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"an answer");
    assert!(server.write_all(b"too late").await.is_err());
}

#[tokio::test]
async fn both_ends_write_at_once() {
    let (client, server) = connect().await;
    let sent = content(2 << 20);
    let exchange = async |stream: &mut (dyn Duplex + Unpin)| {
        let (mut reading, mut writing) = tokio::io::split(stream);
        let write = async {
            writing.write_all(&sent).await.unwrap();
            writing.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        let (read, ()) = tokio::join!(reading.read_to_end(&mut received), write);
        read.unwrap();
        received
    };
    let (mut client, mut server) = (client, server);
    let (one, other) = tokio::join!(exchange(&mut client), exchange(&mut server));
    assert!(one == sent && other == sent);
}

trait Duplex: AsyncRead + AsyncWrite {}
impl<T: AsyncRead + AsyncWrite> Duplex for T {}

#[tokio::test]
async fn a_connection_that_is_cut_is_no_end() {
    let (mut client, mut server) = connect().await;
    client.write_all(b"half").await.unwrap();
    client.flush().await.unwrap();
    drop(client.into_inner().0);
    let mut received = Vec::new();
    let error = server.read_to_end(&mut received).await.unwrap_err();
    assert_eq!(
        (received.as_slice(), error.kind()),
        (&b"half"[..], io::ErrorKind::UnexpectedEof)
    );
}

#[tokio::test]
async fn bytes_that_nobody_with_the_keys_sent_end_it() {
    let (mut client, mut server) = connect().await;
    client.write_all(b"real").await.unwrap();
    client.flush().await.unwrap();
    let (mut socket, _) = client.into_inner();
    // A record of content that no key has sealed.
    let forged = [&[23, 3, 3, 0, 32][..], &[7; 32]].concat();
    socket.write_all(&forged).await.unwrap();
    let mut received = Vec::new();
    let error = server.read_to_end(&mut received).await.unwrap_err();
    assert_eq!(
        (received.as_slice(), error.kind()),
        (&b"real"[..], io::ErrorKind::InvalidData)
    );
    let again = server.read(&mut [0]).await.unwrap_err();
    assert_eq!(again.kind(), io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn a_stranger_is_turned_away_and_told() {
    let (client, server) = pair(&key(), &key(), &key()).await;
    assert_eq!(server.unwrap_err().kind(), io::ErrorKind::InvalidData);
    // In TLS 1.3 the opening end is done before the other has looked at its key.
    let told = match client {
        Ok(mut client) => client.read(&mut [0]).await.unwrap_err(),
        Err(error) => error,
    };
    assert!(told.to_string().contains("alert"), "{told}");
}

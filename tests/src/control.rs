//! A mover's coordinator, as small as can be: starts movers and asks them, over the same TLS
//! and messages as the real one.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use livmig_proto::{
    control::{
        self, Listening, MoverRequest, RequestBody, Response, ResponseBody, Session, Side, Welcome,
    },
    identity::{PrivateKey, PublicKey, SERVER_NAME, client_config},
    ids::{Epoch, MigrationUid},
};
use rustix::fs::{Mode, chmod};
use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};

use crate::{bins, run::Running};

/// How long an answer may take before it counts as none.
const PATIENCE: Duration = Duration::from_mins(1);

/// The keys of one migration.
#[derive(Clone)]
pub struct Keys {
    /// The coordinator's.
    pub coordinator: PrivateKey,
    /// The source mover's.
    pub source: PrivateKey,
    /// The destination mover's.
    pub destination: PrivateKey,
    migration: MigrationUid,
}

impl Keys {
    /// New keys for the migration number `number`.
    pub fn generate(number: u8) -> Result<Self> {
        Ok(Self {
            coordinator: PrivateKey::generate()?,
            source: PrivateKey::generate()?,
            destination: PrivateKey::generate()?,
            migration: MigrationUid([number; 16]),
        })
    }

    fn of(&self, side: Side) -> (&PrivateKey, &PrivateKey) {
        match side {
            Side::Source => (&self.source, &self.destination),
            Side::Destination => (&self.destination, &self.source),
        }
    }
}

/// A mover that runs and listens.
#[derive(Debug)]
pub struct Mover {
    /// Its process.
    pub process: Running,
    /// Where it listens.
    pub listening: Listening,
    public: PublicKey,
}

impl Mover {
    /// Starts a mover of `root` with its session and state below `dir`.
    pub fn start(side: Side, root: &Path, dir: &Path, keys: &Keys) -> Result<Self> {
        Self::start_with(side, root, dir, keys, &[])
    }

    /// As [`Self::start`], but by the program and arguments `within`, which run what follows.
    pub fn start_within(
        within: &[&str],
        side: Side,
        root: &Path,
        dir: &Path,
        keys: &Keys,
    ) -> Result<Self> {
        let program = bins::path("livmig-mover")?;
        let (first, others) = within.split_first().context("within nothing")?;
        let mut command = Command::new(first);
        command.args(others).arg(program).arg(side.to_string());
        Self::launch(command, side, root, dir, keys, false)
    }

    /// As [`Self::start`], with further `flags`.
    pub fn start_with(
        side: Side,
        root: &Path,
        dir: &Path,
        keys: &Keys,
        flags: &[&str],
    ) -> Result<Self> {
        let mut command = bins::mover()?;
        command.arg(side.to_string()).args(flags);
        Self::launch(command, side, root, dir, keys, false)
    }

    /// As [`Self::start`], as the user and group `guest` who has access to the root directory and
    /// no more, and runs `program`. Needs root, and `setpriv`.
    pub fn start_as(
        guest: u32,
        program: &Path,
        side: Side,
        root: &Path,
        dir: &Path,
        keys: &Keys,
    ) -> Result<Self> {
        let mut command = Command::new("setpriv");
        command
            .arg(format!("--reuid={guest}"))
            .arg(format!("--regid={guest}"))
            .args(["--clear-groups", "--"])
            .arg(program)
            .arg(side.to_string());
        Self::launch(command, side, root, dir, keys, true)
    }

    fn launch(
        mut command: Command,
        side: Side,
        root: &Path,
        dir: &Path,
        keys: &Keys,
        foreign_root: bool,
    ) -> Result<Self> {
        let (own, peer) = keys.of(side);
        let session = Session {
            foreign_root,
            migration: keys.migration,
            side,
            private_key: own.pkcs8().to_vec(),
            coordinator: keys.coordinator.public()?.0,
            peer: peer.public()?.0,
        };
        let file = dir.join(format!("{side}.session"));
        fs::write(&file, serde_json::to_vec(&session)?)?;
        let readable = if foreign_root {
            Mode::ROTH
        } else {
            Mode::empty()
        };
        chmod(&file, Mode::RUSR | Mode::WUSR | readable)?;
        command.arg("--root").arg(root);
        command
            .arg("--state")
            .arg(dir.join(format!("{side}.state")));
        command.arg("--session").arg(&file);
        let mut process = Running::start_piped(&mut command)?;
        let mut line = String::new();
        BufReader::new(process.take_stdout()?).read_line(&mut line)?;
        let listening = serde_json::from_str(&line).with_context(|| {
            format!(
                "the {side} mover printed {line:?} and said {}",
                process.stderr().unwrap_or_default()
            )
        })?;
        Ok(Self {
            process,
            listening,
            public: own.public()?,
        })
    }

    /// A control connection that proves `key` and asks in `epoch`.
    pub fn connect(&self, key: &PrivateKey, epoch: Epoch) -> Result<Client> {
        Client::connect(
            self.listening.control,
            key,
            &self.public,
            epoch,
            control::ALPN,
        )
    }

    /// As [`Self::connect`], but speaks the protocol `alpn`.
    pub fn connect_speaking(&self, key: &PrivateKey, alpn: &[u8]) -> Result<Client> {
        Client::connect(self.listening.control, key, &self.public, Epoch(1), alpn)
    }

    /// Where it listens for data.
    pub fn data(&self) -> Result<SocketAddr> {
        self.listening
            .data
            .context("a destination listens for data")
    }
}

/// A control connection.
pub struct Client {
    stream: StreamOwned<ClientConnection, TcpStream>,
    epoch: Epoch,
    last: u64,
}

impl Client {
    fn connect(
        address: SocketAddr,
        key: &PrivateKey,
        peer: &PublicKey,
        epoch: Epoch,
        alpn: &[u8],
    ) -> Result<Self> {
        let config = client_config(key, peer, alpn)?;
        let name = ServerName::try_from(SERVER_NAME)?;
        let tls = ClientConnection::new(Arc::new(config), name)?;
        let tcp = TcpStream::connect(address)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_nodelay(true)?;
        Ok(Self {
            stream: StreamOwned::new(tls, tcp),
            epoch,
            last: 0,
        })
    }

    /// Asks, and returns the last word on it. The pass under way reports progress in between.
    pub fn ask(&mut self, body: RequestBody) -> Result<ResponseBody> {
        self.last += 1;
        let request = MoverRequest {
            id: self.last,
            epoch: self.epoch,
            body,
        };
        self.send(&control::encode(&request)?)?;
        loop {
            let response = self.receive()?;
            ensure!(response.id == self.last, "an answer to something else");
            match response.body {
                ResponseBody::Progress(_) => {}
                last => return Ok(last),
            }
        }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)?;
        Ok(self.stream.flush()?)
    }

    /// The next message.
    pub fn receive(&mut self) -> Result<Response> {
        let mut prefix = [0; 4];
        self.stream.read_exact(&mut prefix)?;
        let mut json = vec![0; control::decode_length(prefix)?];
        self.stream.read_exact(&mut json)?;
        Ok(control::decode(&json)?)
    }

    /// Whether the mover has a Hello for us: the proof that it serves.
    pub fn expect_welcome(&mut self) -> Result<Box<Welcome>> {
        match self.ask(RequestBody::Hello)? {
            ResponseBody::Welcome(welcome) => Ok(welcome),
            other => bail!("no welcome but {other:?}"),
        }
    }
}

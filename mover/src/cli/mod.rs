//! The command line: parsed here, carried out by one module a command.

pub mod inspect;
pub mod serve;
// A function that runs before `main` is declared to the linker.
#[allow(unsafe_code)]
mod stdout;
pub mod sync;

use std::{io, net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use livmig_proto::control::{Bandwidth, IoPriority, Reason, Transport, VerifyLevel};

/// Makes a directory tree equal to another that is in use.
#[derive(Debug, Parser)]
#[command(name = "livmig-mover", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the volume that is read
    Source {
        #[command(flatten)]
        serve: ServeArgs,
        /// What carries the data to the destination
        #[arg(long, value_enum, default_value_t = Carrier::Auto)]
        transport: Carrier,
    },
    /// Serve the volume that is written
    Destination {
        #[command(flatten)]
        serve: ServeArgs,
        /// Where to listen for data (UDP and TCP)
        #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0")]
        data: SocketAddr,
    },
    /// Make DST equal to SRC, in one verified pass
    ///
    /// What DST holds already is adopted: equal content is not sent, and what SRC does not have is
    /// removed.
    Sync(SyncArgs),
    /// Print the manifest of a directory: one digest for everything in it
    Inspect(InspectArgs),
}

/// What both ends need.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The volume's root directory
    #[arg(long, value_name = "DIR")]
    pub root: PathBuf,
    /// Where state lies, outside the volume
    #[arg(long, value_name = "DIR")]
    pub state: PathBuf,
    /// Who this mover is and whom it obeys: a file only it can read, or `-` for stdin
    #[arg(long, value_name = "FILE")]
    pub session: PathBuf,
    /// Where to listen for the coordinator (TCP)
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0")]
    pub control: SocketAddr,
    /// End after so many seconds without a coordinator
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub orphan_timeout: u64,
}

/// Arguments of `sync`.
#[derive(Debug, Args)]
pub struct SyncArgs {
    /// The directory to read
    pub source: PathBuf,
    /// The directory to make equal to it
    pub destination: PathBuf,
    /// How to prove the result
    #[arg(long, value_enum, default_value_t = Verify::Readback)]
    pub verify: Verify,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    /// Let an empty source empty the destination
    #[arg(long)]
    pub allow_empty: bool,
    /// Reasons for which something of SRC may be left out, as in mount,encrypted; without, the
    /// run fails where anything that matters would be
    #[arg(long, value_name = "REASON", value_delimiter = ',')]
    pub leave_out: Vec<Reason>,
    /// Send at most so many bytes a second, as in 50M or 64Mi
    #[arg(long, value_name = "SIZE")]
    pub bandwidth: Option<Bandwidth>,
    /// How reads yield to others: idle or best-effort, as far as the I/O scheduler heeds it and with
    /// no readahead; or none, as fast as the device can
    #[arg(long, value_name = "CLASS", default_value_t)]
    pub io_priority: IoPriority,
    /// Remember here what was sent, for the next run on the same two directories
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// What carries the data from one end to the other
    #[arg(long, value_enum, default_value_t = Carrier::Tcp)]
    pub transport: Carrier,
}

/// Arguments of `inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The directory
    pub directory: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// How to prove the result.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Verify {
    /// Trust that what was sent was written
    Wire,
    /// Read what was written back from the device
    Readback,
    /// Read both ends again in the end
    Full,
}

impl From<Verify> for VerifyLevel {
    fn from(verify: Verify) -> Self {
        match verify {
            Verify::Wire => Self::Wire,
            Verify::Readback => Self::Readback,
            Verify::Full => Self::Full,
        }
    }
}

/// What carries the data.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Carrier {
    /// The faster of what gets through, measured before the first pass
    Auto,
    /// QUIC over UDP
    Quic,
    /// TLS 1.3 over TCP
    Tcp,
}

impl Carrier {
    /// What was chosen; none when it is to be measured.
    pub fn chosen(self) -> Option<Transport> {
        match self {
            Self::Auto => None,
            Self::Quic => Some(Transport::Quic),
            Self::Tcp => Some(Transport::Tcp),
        }
    }
}

/// How the program ends. Scripts rely on the numbers.
#[derive(Clone, Copy, Debug)]
pub enum Exit {
    /// Done.
    Done,
    /// Failed.
    Failed,
    /// The arguments make no sense; nothing was touched.
    Usage,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
        })
    }
}

impl Cli {
    /// Carries the command out.
    pub fn run(self) -> anyhow::Result<Exit> {
        crate::fs::sys::ignore_lease_signals();
        crate::fs::sys::raise_file_limit();
        crate::fs::sys::keep_freed_memory();
        crate::fs::volume::remember_boot();
        // What is made here is this user's alone; what is carried gets its real mode explicitly.
        rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
        match self.command {
            Command::Source { serve, transport } => serve::source(&serve, transport),
            Command::Destination { serve, data } => serve::destination(&serve, data),
            Command::Sync(args) => sync::run(&args),
            Command::Inspect(args) => inspect::run(&args),
        }
    }
}

/// Prints text to stdout; a reader that has gone away has seen enough.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    match write(text) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => Ok(printed.context(UNPRINTED)?),
    }
}

/// What failed where the output could not be written.
pub(crate) const UNPRINTED: &str = "could not write to standard output";

/// Prints a document to stdout, which is lost without a reader.
pub(crate) fn print_document(text: &str) -> io::Result<()> {
    if stdout::is_missing() {
        return Err(rustix::io::Errno::BADF.into());
    }
    write(text)
}

fn write(text: &str) -> io::Result<()> {
    use io::Write as _;
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}

/// Prints to stderr.
pub(crate) fn tell(text: &str) {
    use io::Write as _;
    let _ = writeln!(io::stderr(), "{text}");
}

/// Tells of an error with all of its causes.
pub fn report(error: &anyhow::Error) {
    tell(&format!("error: {error:#}"));
}

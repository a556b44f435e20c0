//! The demonstration's workload itself: a process that never stops writing to its volume until it
//! is told to, and acknowledges nothing before it is durable.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::{fd::AsFd as _, unix::fs::FileExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{
    acks::AckFile,
    layout::{self, DemoWorkload, Layout},
    script::{self, Operation, PAGE, Script},
};
use crate::host::process::ProcessIdentity;

/// A workload that its demonstration forgot ends by itself after so long.
const LIFE_MAX: Duration = Duration::from_hours(1);

/// The open volume.
struct Writer {
    script: Script,
    hash: String,
    log: File,
    large: File,
    files: PathBuf,
    acks: AckFile,
}

/// Runs the workload until SIGTERM. Its standard output is the lock that tells that it is
/// starting; the lock is given back after the first operation was acknowledged.
pub async fn run(layout: &Layout) -> io::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let process = ProcessIdentity::of(std::process::id())?.ok_or(io::ErrorKind::NotFound)?;
    fs::write(layout.running(), serde_json::to_vec(&process)?)?;
    let settings: DemoWorkload = serde_json::from_slice(&fs::read(layout.settings())?)?;
    let mut writer = Writer::open(layout, &settings)?;

    writer.step()?;
    File::from(io::stdout().as_fd().try_clone_to_owned()?).unlock()?;

    let end = sleep_until(Instant::now() + LIFE_MAX);
    tokio::pin!(end);
    let mut tick = interval(Duration::from_secs(1) / settings.rate.max(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = term.recv() => return Ok(()),
            () = &mut end => return Ok(()),
            _ = tick.tick() => writer.step()?,
        }
    }
}

impl Writer {
    /// Opens the volume behind the link and goes on where the acknowledgements end. A volume that
    /// lacks an acknowledged record is refused.
    fn open(layout: &Layout, settings: &DemoWorkload) -> io::Result<Self> {
        let volume = layout.link();
        let (acks, acknowledged) = AckFile::open(&layout.acks())?;
        let mut script = Script::new(settings.seed, settings.pages);
        let mut lines = String::new();
        let mut hash = String::new();
        for ack in &acknowledged {
            let operation = script.advance();
            hash = script::chain(&hash, ack.number, &operation);
            if ack.number != script.done() || ack.hash != hash {
                return Err(broken(format!(
                    "acknowledgement {} does not continue the chain",
                    ack.number
                )));
            }
            lines.push_str(&script::record(ack.number, &operation, &hash));
        }
        let path = layout::log_of(&volume);
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .open(&path)?;
        if !fs::read(&path)?.starts_with(lines.as_bytes()) {
            return Err(broken(format!(
                "{} lacks acknowledged records",
                path.display()
            )));
        }
        // What lies beyond was never acknowledged; it is done again.
        log.set_len(u64::try_from(lines.len()).unwrap_or(0))?;
        let large = OpenOptions::new()
            .write(true)
            .open(layout::large_of(&volume))?;
        let files = layout::files_of(&volume);
        fs::create_dir_all(&files)?;
        record_start(layout, script.done())?;
        Ok(Self {
            script,
            hash,
            log,
            large,
            files,
            acks,
        })
    }

    /// Does one operation, makes it durable, records it, makes that durable, acknowledges it.
    fn step(&mut self) -> io::Result<()> {
        let operation = self.script.advance();
        let number = self.script.done();
        match &operation {
            Operation::Append => {}
            Operation::Page { page } => {
                let offset = page * u64::try_from(PAGE).unwrap_or(0);
                let content = self.script.page_content(*page, number);
                self.large.write_all_at(&content, offset)?;
                self.large.sync_data()?;
            }
            Operation::Create { name } => {
                let mut file = File::create(self.files.join(name))?;
                file.write_all(&self.script.file_content(number))?;
                file.sync_all()?;
                sync_folder(&self.files)?;
            }
            Operation::Rename { from, to } => {
                let renamed = fs::rename(self.files.join(from), self.files.join(to));
                done_before(renamed)?;
                sync_folder(&self.files)?;
            }
            Operation::Delete { name } => {
                done_before(fs::remove_file(self.files.join(name)))?;
                sync_folder(&self.files)?;
            }
        }
        self.hash = script::chain(&self.hash, number, &operation);
        let line = script::record(number, &operation, &self.hash);
        self.log.write_all(line.as_bytes())?;
        self.log.sync_data()?;
        self.acks.append(number, &self.hash)
    }
}

/// Writes down how much was acknowledged when the workload started, and on which volume.
fn record_start(layout: &Layout, done: u64) -> io::Result<()> {
    let volume = layout.link().canonicalize()?;
    let mut starts = OpenOptions::new()
        .create(true)
        .append(true)
        .open(layout.starts())?;
    starts.write_all(format!("{done} {}\n", volume.display()).as_bytes())?;
    starts.sync_data()
}

/// An operation that a crash kept from being acknowledged may have been done already.
fn done_before(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn broken(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

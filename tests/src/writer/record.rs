//! Writing records: the body of the writer's process.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::{
    check::acknowledged,
    layout::{self, GENESIS, PAGE, PAGES, REMOVED_AFTER, RENAMED_AFTER},
};

/// A writer that has its volume and its ledger open.
#[derive(Debug)]
pub struct Writer {
    volume: PathBuf,
    log: File,
    table: File,
    files: File,
    ledger: File,
    last: u64,
    before: String,
}

impl Writer {
    /// Opens the volume at `volume`, through whatever links, and the ledger `ledger`; goes on
    /// after the last whole record of the log, which it finishes if a kill left it half done.
    pub fn open(volume: &Path, ledger: &Path) -> Result<Self> {
        let acknowledged = acknowledged(ledger)?;
        // Resolved once, as a database does that opens its directory at start.
        let volume = volume
            .canonicalize()
            .with_context(|| format!("opening {}", volume.display()))?;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(volume.join("log"))?;
        let table = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(volume.join("table"))?;
        table.set_len(PAGES * PAGE as u64)?;
        match fs::create_dir(volume.join("files")) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
        let ledger = OpenOptions::new().create(true).append(true).open(ledger)?;
        let text = fs::read_to_string(volume.join("log"))?;
        // A line that a kill cut off was never acknowledged.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        log.set_len(u64::try_from(whole)?)?;
        let (last, before) = match text.get(..whole).and_then(|text| text.lines().last()) {
            None => (0, GENESIS.to_owned()),
            Some(line) => {
                let number = line.split(' ').next().unwrap_or_default();
                (number.parse()?, layout::digest(line))
            }
        };
        let mut writer = Self {
            files: File::open(volume.join("files"))?,
            volume,
            log,
            table,
            ledger,
            last,
            before,
        };
        if last > acknowledged {
            writer.finish(last)?;
        }
        Ok(writer)
    }

    /// Writes and acknowledges one record. Returns its number.
    pub fn write(&mut self) -> Result<u64> {
        let number = self.last + 1;
        let line = layout::line(number, &self.before);
        self.log.write_all(format!("{line}\n").as_bytes())?;
        self.log.sync_data()?;
        self.last = number;
        self.before = layout::digest(&line);
        self.finish(number)?;
        Ok(number)
    }

    /// All of a record but its line in the log.
    fn finish(&mut self, number: u64) -> Result<()> {
        let offset = layout::page_of(number) * PAGE as u64;
        self.table.write_all_at(&layout::page(number), offset)?;
        self.table.sync_data()?;

        self.write_files(number)?;

        self.ledger.write_all(format!("{number}\n").as_bytes())?;
        Ok(self.ledger.sync_data()?)
    }

    fn write_files(&mut self, number: u64) -> Result<()> {
        let at = |name: String| self.volume.join(name);
        let mut file = File::create(at(layout::new_file(number)))?;
        file.write_all(&layout::file_content(number))?;
        file.sync_all()?;
        if let Some(old) = number.checked_sub(RENAMED_AFTER).filter(|old| *old > 0) {
            let result = fs::rename(at(layout::new_file(old)), at(layout::kept_file(old)));
            // A writer that was killed here has renamed it already.
            match result {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                Err(_) if !at(layout::kept_file(old)).exists() => {
                    bail!("the file of record {old} is gone")
                }
                _ => {}
            }
        }
        if let Some(old) = number.checked_sub(REMOVED_AFTER).filter(|old| *old > 0) {
            match fs::remove_file(at(layout::kept_file(old))) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(self.files.sync_all()?)
    }
}

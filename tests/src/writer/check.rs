//! Whether a volume holds all that was acknowledged, and nothing that was removed.

use std::{collections::HashMap, fs, path::Path};

use anyhow::{Context as _, Result, ensure};

use super::layout::{self, GENESIS, PAGE, PAGES, REMOVED_AFTER, RENAMED_AFTER};

/// How many records are acknowledged in `ledger`; 0 before there is one.
pub fn acknowledged(ledger: &Path) -> Result<u64> {
    let text = fs::read_to_string(ledger).unwrap_or_default();
    let whole = text.rfind('\n').and_then(|end| text.get(..end));
    match whole.and_then(|text| text.lines().last()) {
        None => Ok(0),
        Some(last) => last
            .parse()
            .with_context(|| format!("ledger line {last:?}")),
    }
}

/// Fails unless the volume at `volume`, whose writer does not run, holds every record that
/// `ledger` acknowledges. Returns how many those are.
pub fn expect_complete(volume: &Path, ledger: &Path) -> Result<u64> {
    let acknowledged = acknowledged(ledger)?;
    let written = log(volume)?;
    ensure!(
        written >= acknowledged,
        "{acknowledged} records are acknowledged, the log ends at {written}"
    );
    // One record may have been under way when its writer was killed.
    ensure!(
        written <= acknowledged + 1,
        "{acknowledged} records are acknowledged, but the log goes on to {written}"
    );
    table(volume, acknowledged, written)?;
    files(volume, acknowledged, written)?;
    Ok(acknowledged)
}

/// Follows the chain of the log. Returns the number of its last record.
fn log(volume: &Path) -> Result<u64> {
    let text = fs::read_to_string(volume.join("log")).context("reading the log")?;
    let whole = text.rfind('\n').and_then(|end| text.get(..end));
    let (mut number, mut before) = (0, GENESIS.to_owned());
    for line in whole.unwrap_or_default().lines() {
        number += 1;
        ensure!(
            line == layout::line(number, &before),
            "record {number} of the log is not what was written"
        );
        before = layout::digest(line);
    }
    Ok(number)
}

/// Every page holds its last acknowledged record, or one written after it.
fn table(volume: &Path, acknowledged: u64, written: u64) -> Result<()> {
    let bytes = fs::read(volume.join("table")).context("reading the table")?;
    ensure!(
        bytes.len() as u64 == PAGES * PAGE as u64,
        "the table is cut"
    );
    let mut expected: HashMap<u64, u64> = HashMap::new();
    for number in 1..=acknowledged {
        expected.insert(layout::page_of(number), number);
    }
    for (page, content) in (0..).zip(bytes.chunks(PAGE)) {
        let least = expected.get(&page).copied().unwrap_or(0);
        let Some(number) = layout::writer_of(content) else {
            // Torn by a kill: only the page of the record under way may be.
            ensure!(
                written > acknowledged && layout::page_of(written) == page,
                "page {page} of the table is torn"
            );
            continue;
        };
        ensure!(
            number >= least,
            "page {page} holds record {number}, acknowledged was {least}"
        );
        ensure!(
            number <= written,
            "page {page} holds record {number} too early"
        );
    }
    Ok(())
}

/// The files of the last records are there under their names, and the removed ones are not.
fn files(volume: &Path, acknowledged: u64, written: u64) -> Result<()> {
    for number in 1..=acknowledged {
        let kept = volume.join(layout::kept_file(number));
        if number + REMOVED_AFTER <= acknowledged {
            ensure!(!kept.exists(), "{} is back", kept.display());
        }
        // From `written` on its names are as the record under way left them.
        if number + REMOVED_AFTER > written {
            let new = volume.join(layout::new_file(number));
            let content = fs::read(&kept)
                .or_else(|_| fs::read(&new))
                .with_context(|| format!("reading the file of record {number}"))?;
            ensure!(
                content == layout::file_content(number),
                "the file of record {number} is not what was written"
            );
            if number + RENAMED_AFTER <= acknowledged {
                ensure!(!new.exists(), "{} is back", new.display());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::{scratch::Scratch, writer::record::Writer};

    fn written(records: u64) -> (Scratch, PathBuf, PathBuf) {
        let scratch = Scratch::new().unwrap();
        let (volume, ledger) = (
            scratch.dir("volume").unwrap(),
            scratch.path().join("ledger"),
        );
        for part in [records / 2, records - records / 2] {
            let mut writer = Writer::open(&volume, &ledger).unwrap();
            for _ in 0..part {
                writer.write().unwrap();
            }
        }
        (scratch, volume, ledger)
    }

    #[test]
    fn what_was_written_is_complete() {
        let (_scratch, volume, ledger) = written(30);
        assert_eq!(expect_complete(&volume, &ledger).unwrap(), 30);
    }

    /// One loss at a time: each must be seen.
    #[test]
    fn every_loss_is_seen() {
        type Loss = fn(&Path);
        let losses: [(&str, Loss); 6] = [
            ("a record", |volume| {
                let text = fs::read_to_string(volume.join("log")).unwrap();
                let keep = text.trim_end().rfind('\n').unwrap() + 1;
                fs::write(volume.join("log"), &text[..keep]).unwrap();
            }),
            ("a byte of the log", |volume| {
                let mut text = fs::read(volume.join("log")).unwrap();
                text[40] ^= 1;
                fs::write(volume.join("log"), text).unwrap();
            }),
            ("a page", |volume| {
                let mut table = fs::read(volume.join("table")).unwrap();
                let at = usize::try_from(layout::page_of(30)).unwrap() * PAGE;
                table[at..at + PAGE].fill(0);
                fs::write(volume.join("table"), table).unwrap();
            }),
            ("a file", |volume| {
                fs::remove_file(volume.join(layout::new_file(29))).unwrap();
            }),
            ("a removal", |volume| {
                fs::write(volume.join(layout::kept_file(5)), "back").unwrap();
            }),
            ("a rename", |volume| {
                fs::copy(
                    volume.join(layout::kept_file(25)),
                    volume.join(layout::new_file(25)),
                )
                .unwrap();
            }),
        ];
        for (what, lose) in losses {
            let (_scratch, volume, ledger) = written(30);
            lose(&volume);
            assert!(expect_complete(&volume, &ledger).is_err(), "{what}");
        }
    }
}

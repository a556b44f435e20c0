//! After a migration: is every acknowledged write on the volume that PATH leads to, and everything
//! else as it was? Read again from the file system, asking neither the movers nor the coordinator.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    acks,
    compare::{self, DemoComparison, shown},
    layout::{self, DemoWorkload, Layout},
    script::{self, PAGE, Script},
};

/// What was found.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Findings {
    /// The volume that was looked at: the one that PATH leads to.
    pub volume: PathBuf,
    /// Writes acknowledged before the workload was started on the new volume.
    pub acknowledged_before: u64,
    /// Writes acknowledged since.
    pub acknowledged_after: u64,
    /// Pages of the large file that hold the last acknowledged content.
    pub pages: u64,
    /// Files created, renamed and not deleted, with their content.
    pub files: u64,
    /// Entries that the workload never touched, equal on both volumes.
    pub untouched: u64,
    /// What is wrong, in words; empty when everything holds.
    pub wrong: Vec<String>,
}

impl Findings {
    /// Whether everything holds, and the workload went on writing on the new volume.
    pub fn moved(&self, layout: &Layout) -> bool {
        self.wrong.is_empty()
            && self.acknowledged_after > 0
            && layout
                .new_volume()
                .canonicalize()
                .is_ok_and(|new| new == self.volume)
    }
}

/// Checks the volume that PATH leads to, after the workload was stopped.
pub fn check(layout: &Layout) -> io::Result<Findings> {
    let settings: DemoWorkload = serde_json::from_slice(&fs::read(layout.settings())?)?;
    let acknowledged = acks::read(&layout.acks())?;
    let volume = layout.link().canonicalize()?;
    let mut findings = Findings {
        volume: volume.clone(),
        ..Findings::default()
    };
    check_starts(layout, acknowledged.len(), &mut findings)?;

    let mut script = Script::new(settings.seed, settings.pages);
    let log = fs::read_to_string(layout::log_of(&volume))?;
    let mut lines = log.split_inclusive('\n');
    let mut hash = String::new();
    for ack in &acknowledged {
        let operation = script.advance();
        hash = script::chain(&hash, ack.number, &operation);
        let expected = script::record(ack.number, &operation, &hash);
        if ack.hash != hash || lines.next() != Some(expected.as_str()) {
            findings.wrong.push(format!(
                "record {} was acknowledged and is not in the log on the volume",
                ack.number
            ));
            return Ok(findings);
        }
    }
    // At most the one operation that was under way when the workload stopped.
    if lines.count() > 1 {
        findings
            .wrong
            .push("the log holds more than was ever written".to_owned());
    }
    check_files(&volume, &script, &mut findings)?;
    check_pages(layout, &volume, &script, &mut findings)?;

    let untouched = compare::compare(&layout.old(), &volume, &[layout::LARGE, layout::OWN])?;
    findings.untouched = untouched.equal;
    tell(untouched, &mut findings);
    Ok(findings)
}

/// The workload's own notes: when it was started last, on which volume.
fn check_starts(layout: &Layout, acknowledged: usize, findings: &mut Findings) -> io::Result<()> {
    let starts = fs::read_to_string(layout.starts())?;
    let acknowledged = u64::try_from(acknowledged).unwrap_or(u64::MAX);
    let new = layout.new_volume();
    let before = starts.lines().find_map(|line| {
        let (done, volume) = line.split_once(' ')?;
        (Path::new(volume) == new).then(|| done.parse().ok())?
    });
    let before = before.unwrap_or(acknowledged);
    findings.acknowledged_before = before;
    findings.acknowledged_after = acknowledged.saturating_sub(before);
    Ok(())
}

/// The files that come and go: exactly those that were acknowledged, with their content.
fn check_files(volume: &Path, script: &Script, findings: &mut Findings) -> io::Result<()> {
    let folder = layout::files_of(volume);
    let mut present = BTreeSet::new();
    for entry in fs::read_dir(&folder)? {
        present.insert(entry?.file_name());
    }
    let mut next = script.clone();
    next.advance();
    for (name, created) in script.files() {
        if present.remove(std::ffi::OsStr::new(name)) {
            if fs::read(folder.join(name))? == script.file_content(*created) {
                findings.files += 1;
            } else {
                findings
                    .wrong
                    .push(format!("the file {name:?} has other content"));
            }
        } else if next.files().contains_key(name) {
            findings.wrong.push(format!("the file {name:?} is missing"));
        }
    }
    for name in present {
        if !name
            .to_str()
            .is_some_and(|name| next.files().contains_key(name))
        {
            findings.wrong.push(format!(
                "the file {} was deleted and is there",
                shown(Path::new(&name))
            ));
        }
    }
    Ok(())
}

/// The large file: rewritten pages with what was acknowledged last, the others as on the old
/// volume.
fn check_pages(
    layout: &Layout,
    volume: &Path,
    script: &Script,
    findings: &mut Findings,
) -> io::Result<()> {
    let mut next = script.clone();
    next.advance();
    let open = |volume: PathBuf| File::open(layout::large_of(&volume));
    let (mut old, mut new) = (open(layout.old())?, open(volume.to_owned())?);
    if old.metadata()?.len() != new.metadata()?.len() {
        findings
            .wrong
            .push("the large file has another size".to_owned());
        return Ok(());
    }
    let (mut before, mut after) = (vec![0; PAGE], vec![0; PAGE]);
    let mut wrong = 0_u64;
    for page in 0..new.metadata()?.len() / u64::try_from(PAGE).unwrap_or(1) {
        old.read_exact(&mut before)?;
        new.read_exact(&mut after)?;
        let right = match script.pages().get(&page) {
            Some(number) => after == script.page_content(page, *number),
            None => after == before,
        };
        let under_way = next
            .pages()
            .get(&page)
            .is_some_and(|number| *number == next.done());
        if right {
            findings.pages += u64::from(script.pages().contains_key(&page));
        } else if !under_way {
            wrong += 1;
            if wrong == 1 {
                findings
                    .wrong
                    .push(format!("page {page} of the large file has other content"));
            }
        }
    }
    if wrong > 1 {
        findings
            .wrong
            .push(format!("{} more pages have other content", wrong - 1));
    }
    Ok(())
}

fn tell(comparison: DemoComparison, findings: &mut Findings) {
    let told = u64::try_from(comparison.differences.len()).unwrap_or(0);
    findings.wrong.extend(comparison.differences);
    if comparison.differing > told {
        findings.wrong.push(format!(
            "{} more entries differ",
            comparison.differing - told
        ));
    }
}

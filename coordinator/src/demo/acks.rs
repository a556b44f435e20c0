//! What the workload has acknowledged, written outside the volume once it was durable on it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::Path,
};

/// One acknowledgement.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ack {
    /// The operation.
    pub number: u64,
    /// The hash of its record.
    pub hash: String,
}

/// The file of acknowledgements, open for more.
#[derive(Debug)]
pub struct AckFile(File);

impl AckFile {
    /// Opens the file, cuts off a last line that a crash tore, and tells what it holds.
    pub fn open(path: &Path) -> io::Result<(Self, Vec<Ack>)> {
        let (acks, whole) = parse(&read_if_there(path)?);
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        file.set_len(whole)?;
        Ok((Self(file), acks))
    }

    /// Acknowledges an operation; from here on losing it would be a broken promise.
    pub fn append(&mut self, number: u64, hash: &str) -> io::Result<()> {
        self.0.write_all(format!("{number} {hash}\n").as_bytes())?;
        self.0.sync_data()
    }
}

/// Everything acknowledged so far.
pub fn read(path: &Path) -> io::Result<Vec<Ack>> {
    Ok(parse(&read_if_there(path)?).0)
}

fn read_if_there(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other,
    }
}

/// The whole lines, and how many bytes they are.
fn parse(bytes: &[u8]) -> (Vec<Ack>, u64) {
    let mut acks = Vec::new();
    let mut whole = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let parsed = std::str::from_utf8(line).ok().and_then(|line| {
            let (number, hash) = line.strip_suffix('\n')?.split_once(' ')?;
            Some(Ack {
                number: number.parse().ok()?,
                hash: hash.to_owned(),
            })
        });
        let Some(ack) = parsed else { break };
        acks.push(ack);
        whole += u64::try_from(line.len()).unwrap_or(0);
    }
    (acks, whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_line_is_cut_off_and_never_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("acks");
        let (mut acks, none) = AckFile::open(&path).unwrap();
        assert!(none.is_empty());
        acks.append(1, "aa").unwrap();
        fs::write(&path, [fs::read(&path).unwrap(), b"2 b".to_vec()].concat()).unwrap();
        let (mut acks, found) = AckFile::open(&path).unwrap();
        assert_eq!(found.len(), 1);
        acks.append(2, "cc").unwrap();
        let hashes: Vec<_> = read(&path)
            .unwrap()
            .into_iter()
            .map(|ack| ack.hash)
            .collect();
        assert_eq!(hashes, ["aa", "cc"]);
    }
}

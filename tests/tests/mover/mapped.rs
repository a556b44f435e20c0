//! A file that another process holds mapped: stores into it are no writes that anybody sees.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use livmig_tests::run::spawn;

/// Another process that holds a file mapped and stores into it on request. Needs `python3`.
pub(crate) struct Mapped {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Mapped {
    /// Maps all of `file`; it is mapped when this returns.
    pub(crate) fn open(file: &Path) -> Result<Self> {
        const SCRIPT: &str = "\
import mmap, sys
with open(sys.argv[1], 'r+b') as file:
    memory = mmap.mmap(file.fileno(), 0)
    print('mapped', flush=True)
    for line in sys.stdin:
        offset, value = map(int, line.split())
        memory[offset] = value
        print('stored', flush=True)
";
        let mut python = Command::new("python3");
        python
            .args(["-S", "-E", "-c", SCRIPT])
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = spawn(&mut python)?;
        let mut mapped = Self {
            stdin: child.stdin.take(),
            stdout: BufReader::new(child.stdout.take().context("no stdout")?),
            child,
        };
        mapped.expect("mapped\n")?;
        Ok(mapped)
    }

    /// Stores one byte; it is stored when this returns.
    pub(crate) fn store(&mut self, offset: usize, value: u8) -> Result<()> {
        writeln!(self.stdin.as_mut().context("no stdin")?, "{offset} {value}")?;
        self.expect("stored\n")
    }

    fn expect(&mut self, line: &str) -> Result<()> {
        let mut answer = String::new();
        self.stdout.read_line(&mut answer)?;
        ensure!(answer == line, "{answer:?}");
        Ok(())
    }

    /// Unmaps the file.
    pub(crate) fn close(mut self) -> Result<()> {
        drop(self.stdin.take());
        let status = self.child.wait()?;
        ensure!(status.success(), "the mapping process: {status}");
        Ok(())
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

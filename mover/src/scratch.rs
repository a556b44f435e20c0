//! A temporary directory that goes with the run, also after the process was confined.

use std::{
    io,
    path::{Path, PathBuf},
    sync::mpsc,
    thread::JoinHandle,
};

use tempfile::TempDir;

/// A temporary directory, removed when this value is dropped.
///
/// Confinement forbids the removal, since the entry lies in a directory that is none of this
/// process's business. It binds a thread and the threads that it makes, so a thread made before
/// waits for the end and does nothing but remove the directory.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    end: Option<mpsc::Sender<()>>,
    remover: Option<JoinHandle<()>>,
}

impl Scratch {
    /// A new directory whose name begins with `prefix`, below `$TMPDIR`.
    pub fn new(prefix: &str) -> io::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix(prefix)
            .tempdir()
            .map_err(|error| {
                let text = format!("could not make a temporary directory (see TMPDIR): {error}");
                io::Error::new(error.kind(), text)
            })?;
        let path = directory.path().to_owned();
        let (end, ended) = mpsc::channel();
        let remover = std::thread::Builder::new()
            .name("livmig-scratch".to_owned())
            .spawn(move || remove(directory, &ended))?;
        Ok(Self {
            path,
            end: Some(end),
            remover: Some(remover),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(remover) = self.remover.take() {
            let _ = remover.join();
        }
    }
}

fn remove(directory: TempDir, ended: &mpsc::Receiver<()>) {
    // Ends with an error when the other side is dropped, which is what is waited for.
    let _ = ended.recv();
    drop(directory);
}

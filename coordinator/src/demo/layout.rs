//! Where everything of one demonstration lies.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The folder of one demonstration.
#[derive(Clone, Debug)]
pub struct Layout(PathBuf);

/// What the workload must know, stored for the process that it is.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DemoWorkload {
    /// What its operations are derived from.
    pub seed: u64,
    /// Pages of the large file.
    pub pages: u64,
    /// Operations a second, at most.
    pub rate: u32,
}

impl Layout {
    /// The demonstration in `folder`, an absolute path.
    pub fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// PATH: the link that the workload opens its volume by.
    pub fn link(&self) -> PathBuf {
        self.0.join("data")
    }

    /// The volume at the beginning.
    pub fn old(&self) -> PathBuf {
        self.0.join("old-volume")
    }

    /// The volume to move to.
    pub fn new_volume(&self) -> PathBuf {
        self.0.join("new-volume")
    }

    /// What the workload keeps outside its volume.
    pub fn outside(&self) -> PathBuf {
        self.0.join("workload")
    }

    /// The workload's settings.
    pub fn settings(&self) -> PathBuf {
        self.outside().join("settings.json")
    }

    /// The acknowledgements: a line for each operation that is durable on the volume.
    pub fn acks(&self) -> PathBuf {
        self.outside().join("acknowledged")
    }

    /// A line for each start of the workload: how much was acknowledged then, and the volume.
    pub fn starts(&self) -> PathBuf {
        self.outside().join("starts")
    }

    /// Locked while the workload runs; holds its process.
    pub fn running(&self) -> PathBuf {
        self.outside().join("running.lock")
    }

    /// Locked while the workload starts.
    pub fn starting(&self) -> PathBuf {
        self.outside().join("starting.lock")
    }

    /// The workload's own words.
    pub fn log(&self) -> PathBuf {
        self.outside().join("log")
    }
}

/// The file below a volume whose pages are rewritten.
pub const LARGE: &str = "large.bin";

/// The folder below a volume that belongs to the workload.
pub const OWN: &str = "workload";

/// The log of hash-chained records below a volume.
pub fn log_of(volume: &Path) -> PathBuf {
    volume.join(OWN).join("records.log")
}

/// The folder of files that come and go below a volume.
pub fn files_of(volume: &Path) -> PathBuf {
    volume.join(OWN).join("files")
}

/// The large file below a volume.
pub fn large_of(volume: &Path) -> PathBuf {
    volume.join(LARGE)
}

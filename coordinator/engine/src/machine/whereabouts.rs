//! Where the workload is, for messages that must say so.

use std::fmt;

use super::Machine;

/// What the journal proves about the workload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Whereabouts {
    /// It was never asked to stop.
    Untouched,
    /// It was asked to stop and may be down; its data is on the source.
    Down,
    /// It was stopped and runs on the source again.
    BackOnSource,
    /// It was asked to start on the destination and may run there.
    Starting,
    /// It runs on the destination.
    OnDestination,
}

impl Machine {
    /// What the journal proves about the workload.
    pub fn whereabouts(&self) -> Whereabouts {
        let touched = self.history.intended;
        match (touched.quiesce, touched.unquiesce, self.history.up_at) {
            (false, ..) => Whereabouts::Untouched,
            (true, false, None) => Whereabouts::Down,
            (true, false, Some(_)) => Whereabouts::BackOnSource,
            (true, true, None) => Whereabouts::Starting,
            (true, true, Some(_)) => Whereabouts::OnDestination,
        }
    }
}

impl fmt::Display for Whereabouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Untouched => "the workload was never asked to stop",
            Self::Down => "the workload was asked to stop and may be down; its source is intact",
            Self::BackOnSource => "the workload runs on its source again",
            Self::Starting => {
                "the workload was asked to start on the destination and may run there; it must not \
                 be started on its source"
            }
            Self::OnDestination => "the workload runs on the destination",
        })
    }
}

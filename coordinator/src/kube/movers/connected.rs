//! Movers that run and are connected.

use std::{net::SocketAddr, sync::Arc};

use livmig_proto::{control::Welcome, ids::Epoch};

use crate::{
    kube::objects::pod::PodFacts,
    movers::{control::ControlClient, pair::Pair},
};

/// A mover that runs, obeys this coordinator's epoch and is connected.
#[derive(Debug)]
pub struct PodMover {
    /// The connection.
    pub client: ControlClient,
    /// What it said of itself.
    pub welcome: Welcome,
    /// Its pod.
    pub pod: PodFacts,
    pub(super) epoch: Epoch,
}

/// The two movers of one claim, connected.
#[derive(Clone, Debug)]
pub struct Connected {
    /// The one that reads the workload's volume.
    pub source: Arc<PodMover>,
    /// The one that writes the new volume.
    pub destination: Arc<PodMover>,
    /// Where the destination listens for data.
    pub data: SocketAddr,
    /// The new volume's name.
    pub volume: String,
}

impl Connected {
    /// Whether both still obey the coordinator of `epoch`.
    pub fn is_usable(&self, epoch: Epoch) -> bool {
        let movers = [&self.source, &self.destination];
        movers
            .into_iter()
            .all(|mover| mover.client.is_open() && mover.epoch == epoch)
    }

    /// Both, to work together.
    pub fn ends(&self) -> Pair<'_> {
        Pair {
            source: &self.source.client,
            destination: &self.destination.client,
            data: self.data,
        }
    }
}

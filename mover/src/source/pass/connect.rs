//! The connections of a pass: the first, and those that replace one that was lost.

use std::time::{Duration, Instant};

use livmig_proto::{
    control::{Fault, FaultCode, Side},
    session::{Begin, Ready},
};
use tokio::runtime::Handle;

use super::{
    resume::{self, is_path},
    run::Run,
};
use crate::{
    fault,
    source::shared::lock,
    transport::{data_session::DataSession, dial::Peer},
};

impl Run<'_> {
    /// Connects as the passes before did; where that gets through no longer, by what does.
    pub(super) fn connect(
        &self,
        runtime: &Handle,
        begin: &Begin,
    ) -> Result<(DataSession, Ready), Fault> {
        let peer = Peer {
            address: self.request.destination,
            own: &self.identity.own,
            key: &self.identity.peer,
        };
        let open = |transport| {
            DataSession::open(runtime, peer, transport, begin.clone(), &self.counts.stop)
        };
        let known = *lock(self.transport);
        let (link, ready) = match open(known) {
            Err(fault) if known.is_some() && is_path(&fault) => open(None)?,
            opened => opened?,
        };
        *lock(self.transport) = Some(link.transport());
        self.counts.on_abandon(link.breaker());
        Ok((link, ready))
    }

    /// Connects again, as the run that `begin` names, after the connection was `lost`.
    pub(super) fn reconnect(
        &self,
        runtime: &Handle,
        begin: &Begin,
        lost: &Fault,
    ) -> Result<(DataSession, Ready), Fault> {
        let since = Instant::now();
        let mut tries = 0;
        loop {
            let fault = match self.connect(runtime, begin) {
                Err(fault) if is_path(&fault) => fault,
                opened => return opened,
            };
            tries += 1;
            let Some(wait) = resume::wait(tries, since.elapsed()) else {
                return Err(given_up(lost, &fault));
            };
            if self.is_stopped_within(runtime, wait) {
                return Err(lost.clone());
            }
        }
    }

    fn is_stopped_within(&self, runtime: &Handle, wait: Duration) -> bool {
        let stopped = async { tokio::time::timeout(wait, self.counts.stop.asked()).await };
        runtime.block_on(stopped).is_ok()
    }
}

/// A connection was `lost` and none has come instead. Not silence, whatever the last try met: there
/// had been one.
fn given_up(lost: &Fault, last: &Fault) -> Fault {
    fault::plain(
        Side::Source,
        FaultCode::Disconnected,
        format!(
            "{}; no new connection within {} s: {}",
            lost.message,
            resume::PATIENCE.as_secs(),
            last.message
        ),
    )
}

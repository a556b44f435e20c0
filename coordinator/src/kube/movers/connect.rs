//! A connection to a mover in its pod: through the API server from outside the cluster, or by the
//! pod's address from inside.

use std::{net::SocketAddr, time::Duration};

use ::kube::Api;
use k8s_openapi::api::core::v1::Pod;
use livmig_engine::result::StepFailure;
use livmig_proto::{
    control::{Side, Welcome},
    ids::{Epoch, MigrationUid},
};

use crate::{
    kube::{
        api::cluster::{Cluster, ClusterError},
        objects::{mover_pod::CONTROL_PORT, pod::PodFacts},
    },
    movers::{
        control::{ControlClient, ControlError, MoverAddress},
        failure::control as control_failure,
        keys::Keys,
    },
};

/// How long a mover may take from its container's start until it listens.
const LISTEN_MAX: Duration = Duration::from_secs(30);

/// Pauses between attempts: nothing tells when a process in a pod listens but another attempt,
/// and a probe of the kubelet's would take a second.
const PAUSE_FIRST: Duration = Duration::from_millis(30);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Whom to connect to.
pub(super) struct Who<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) pod: &'a PodFacts,
    pub(super) side: Side,
    pub(super) keys: &'a Keys,
    pub(super) migration: MigrationUid,
    pub(super) epoch: Epoch,
}

/// Connects, and hears who is there.
pub(super) async fn connect(who: &Who<'_>) -> Result<(ControlClient, Welcome), StepFailure> {
    let name = &who.pod.name;
    let deadline = tokio::time::Instant::now() + LISTEN_MAX;
    let mut pause = PAUSE_FIRST;
    loop {
        let failure = match once(who).await {
            Ok((_, welcome)) if welcome.side != who.side || welcome.migration != who.migration => {
                return Err(StepFailure::permanent(format!(
                    "The pod {name} serves another migration or another end"
                )));
            }
            Ok(connected) => return Ok(connected),
            Err(failure) => failure,
        };
        let transient = failure.kind == livmig_engine::result::FailureKind::Transient;
        if !transient || tokio::time::Instant::now() >= deadline {
            return Err(failure);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

async fn once(who: &Who<'_>) -> Result<(ControlClient, Welcome), StepFailure> {
    let name = &who.pod.name;
    let peer = who
        .keys
        .mover(who.side)
        .public()
        .map_err(|error| StepFailure::permanent(format!("The keys are not usable: {error}")))?;
    let own = who.keys.coordinator();
    let failed = |error: ControlError| {
        let failure = control_failure(&error, &format!("The mover in pod {name} cannot be asked"));
        match error {
            // The forwarded stream of a mover that does not listen yet ends in the handshake.
            ControlError::Handshake { ref source, .. }
                if source.kind() == std::io::ErrorKind::UnexpectedEof
                    || source.kind() == std::io::ErrorKind::BrokenPipe =>
            {
                StepFailure::transient(failure.message)
            }
            _ => failure,
        }
    };
    let client = if let Some(address) = direct(who.pod) {
        ControlClient::connect(address, own, &peer, who.epoch)
            .await
            .map_err(failed)?
    } else {
        let pods: Api<Pod> = who.cluster.api();
        let what = format!("forward a port to the pod {name}");
        let mut forwarder =
            crate::kube::api::cluster::call(what.clone(), pods.portforward(name, &[CONTROL_PORT]))
                .await
                .map_err(retriable)?;
        let Some(stream) = forwarder.take_stream(CONTROL_PORT) else {
            return Err(StepFailure::permanent(format!("Could not {what}")));
        };
        let peer_name = MoverAddress(format!("pod {name}"));
        ControlClient::over(stream, peer_name, own, &peer, who.epoch)
            .await
            .map_err(failed)?
    };
    let welcome = client.hello().await.map_err(failed)?;
    Ok((client, welcome))
}

/// A kubelet that has only just started the pod refuses in several ways.
fn retriable(error: ClusterError) -> StepFailure {
    match error.code() {
        Some(401 | 403) => error.into(),
        _ => StepFailure::transient(crate::movers::failure::chain(&error)),
    }
}

/// The pod's own address, when this program runs in the cluster and can reach it.
fn direct(pod: &PodFacts) -> Option<SocketAddr> {
    std::env::var_os("KUBERNETES_SERVICE_HOST")?;
    let address = pod.address.as_ref()?.parse().ok()?;
    Some(SocketAddr::new(address, CONTROL_PORT))
}

//! The way from a source mover to its destination: what is said when nothing comes through it. Pure.

use std::{collections::BTreeSet, net::SocketAddr};

use livmig_engine::result::StepFailure;
use livmig_proto::control::{Fault, FaultCode, PassKind};

use crate::kube::objects::pod::PodFacts;

/// The two ends of a way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path<'a> {
    pub(super) source: &'a PodFacts,
    pub(super) destination: &'a PodFacts,
    /// Where the destination listens for data.
    pub(super) data: SocketAddr,
}

/// The ways that something has come through, by the UIDs of their pods.
#[derive(Clone, Debug, Default)]
pub(super) struct ProvenPaths(BTreeSet<(String, String)>);

impl ProvenPaths {
    /// Notes that something came through.
    pub(super) fn note(&mut self, path: &Path<'_>) {
        self.0.insert(uids(path));
    }

    fn holds(&self, path: &Path<'_>) -> bool {
        self.0.contains(&uids(path))
    }
}

fn uids(path: &Path<'_>) -> (String, String) {
    (path.source.uid.clone(), path.destination.uid.clone())
}

/// Whether a pass with these faults has heard nothing from its destination. A connection that was
/// lost had been one.
pub(super) fn is_silent(faults: &[Fault]) -> bool {
    faults
        .iter()
        .any(|fault| fault.code == FaultCode::Unreachable)
}

/// The failure of a pass that has heard nothing from a destination that runs and answers its
/// coordinator. A way on which nothing ever came through does not mend itself; one that was open
/// before may be open again, and by the final pass it was.
pub(super) fn blocked(
    path: &Path<'_>,
    kind: PassKind,
    proven: &ProvenPaths,
    namespace: &str,
) -> StepFailure {
    let Path {
        source,
        destination,
        data,
    } = path;
    let node = |pod: &PodFacts| pod.node.clone().unwrap_or_else(|| "unknown".to_owned());
    let message = format!(
        "The source mover cannot reach the destination mover: no answer comes by UDP or TCP from {data} \
         (pod {} on node {}) to pod {} on node {}, though both movers run and answer",
        destination.name,
        node(destination),
        source.name,
        node(source),
    );
    if kind == PassKind::Final || proven.holds(path) {
        return StepFailure::transient(message);
    }
    StepFailure::permanent(message).with_hint(format!(
        "let TCP or UDP port {} through between these two pods: look at network policies of namespace \
         {namespace} and of the cluster, and at firewalls between the nodes; then migrate again",
        data.port()
    ))
}

#[cfg(test)]
mod tests {
    use livmig_engine::result::FailureKind;
    use livmig_proto::control::Side;
    use serde_json::json;

    use super::*;

    fn pod(name: &str, node: &str) -> PodFacts {
        PodFacts::of(
            &serde_json::from_value(json!({
                "metadata": {"name": name, "uid": format!("uid-{name}")},
                "spec": {"containers": [], "nodeName": node},
            }))
            .unwrap(),
        )
    }

    #[test]
    fn only_silence_is_a_blocked_way() {
        let fault = |code| Fault {
            code,
            side: Side::Source,
            message: "no".to_owned(),
            path: None,
            advice: None,
        };
        assert!(is_silent(&[fault(FaultCode::Unreachable)]));
        assert!(!is_silent(&[fault(FaultCode::Disconnected)]));
        assert!(!is_silent(&[]));
    }

    #[test]
    fn a_way_that_was_never_open_is_named_with_both_ends_and_one_that_was_is_tried_again() {
        let (source, destination) = (pod("m-0-src", "node-a"), pod("m-0-dst", "node-b"));
        let path = Path {
            source: &source,
            destination: &destination,
            data: ([10, 1, 2, 3], 7401).into(),
        };
        let mut proven = ProvenPaths::default();
        let failure = blocked(&path, PassKind::Live, &proven, "shop");
        assert_eq!(failure.kind, FailureKind::Permanent);
        for word in [
            "m-0-src",
            "node-a",
            "m-0-dst",
            "node-b",
            "10.1.2.3:7401",
            "UDP",
        ] {
            assert!(failure.message.contains(word), "{word}: {failure}");
        }
        let hint = failure.hint.unwrap();
        let last = blocked(&path, PassKind::Final, &proven, "shop");
        assert_eq!(last.kind, FailureKind::Transient);
        assert!(hint.contains("7401") && hint.contains("shop"), "{hint}");

        proven.note(&path);
        let open = blocked(&path, PassKind::Live, &proven, "shop");
        assert_eq!(open.kind, FailureKind::Transient);
        let moved = pod("m-0-src", "node-c");
        let moved = PodFacts {
            uid: "another".to_owned(),
            ..moved
        };
        let other = Path {
            source: &moved,
            ..path
        };
        let unknown = blocked(&other, PassKind::Live, &proven, "shop");
        assert_eq!(unknown.kind, FailureKind::Permanent);
    }
}

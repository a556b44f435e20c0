//! The network policies of the movers: where a namespace denies traffic, one for each end lets the
//! two meet, and says at once that they meet nobody else. Pure.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
        NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference},
        util::intstr::IntOrString,
    },
};
use livmig_engine::spec::MigrationSpec;
use livmig_proto::control::Side;

use super::mover_pod::{CONTROL_PORT, DATA_PORT};
use crate::kube::api::{
    names::{MIGRATION, ROLE, mover_role},
    uid::Uid,
};

/// Whether pods of a namespace may talk to each other as they like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Network {
    /// They may; a policy of ours could only get in the way.
    Open,
    /// Somebody's own policies say what they may.
    Restricted,
}

impl Network {
    /// By the policies that there are; those made by a migration do not count.
    pub fn of(policies: &[NetworkPolicy]) -> Self {
        let is_own = |policy: &NetworkPolicy| {
            let labels = policy.metadata.labels.as_ref();
            !labels.is_some_and(|labels| labels.contains_key(MIGRATION))
        };
        if policies.iter().any(is_own) {
            Self::Restricted
        } else {
            Self::Open
        }
    }
}

/// The policy called `name` for all movers of one end of `migration`. Answers need no rule:
/// policies are about who begins.
pub fn policy(
    name: &str,
    side: Side,
    migration: &Uid<MigrationSpec>,
    labels: BTreeMap<String, String>,
    owner: OwnerReference,
) -> NetworkPolicy {
    // A coordinator in the cluster comes from an address that nobody knows before. What it finds
    // wants its key.
    let mut ingress = vec![NetworkPolicyIngressRule {
        from: None,
        ports: Some(vec![port("TCP", CONTROL_PORT)]),
    }];
    // They measure which of the two is faster.
    let data = || Some(vec![port("UDP", DATA_PORT), port("TCP", DATA_PORT)]);
    let egress = match side {
        Side::Source => vec![NetworkPolicyEgressRule {
            ports: data(),
            to: Some(vec![movers(migration, Side::Destination)]),
        }],
        Side::Destination => {
            ingress.push(NetworkPolicyIngressRule {
                from: Some(vec![movers(migration, Side::Source)]),
                ports: data(),
            });
            Vec::new()
        }
    };
    NetworkPolicy {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(selector(migration, side)),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: Some(ingress),
            egress: Some(egress),
        }),
    }
}

fn selector(migration: &Uid<MigrationSpec>, side: Side) -> LabelSelector {
    let labels = [(MIGRATION, migration.as_str()), (ROLE, mover_role(side))];
    LabelSelector {
        match_labels: Some(
            labels
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        ),
        match_expressions: None,
    }
}

/// The movers of one end, in the policy's own namespace.
fn movers(migration: &Uid<MigrationSpec>, side: Side) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        pod_selector: Some(selector(migration, side)),
        ..NetworkPolicyPeer::default()
    }
}

fn port(protocol: &str, number: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(i32::from(number))),
        protocol: Some(protocol.to_owned()),
        ..NetworkPolicyPort::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn made(side: Side) -> Value {
        let labels = BTreeMap::from([(MIGRATION.to_owned(), "m".to_owned())]);
        let policy = policy(
            "livmig-db-1",
            side,
            &Uid::new("m"),
            labels,
            OwnerReference::default(),
        );
        serde_json::to_value(policy).unwrap()
    }

    #[test]
    fn the_source_reaches_its_destinations_and_nobody_else() {
        let policy = made(Side::Source);
        assert_eq!(
            policy["spec"],
            json!({
                "podSelector": {"matchLabels":
                    {"livmig.io/migration": "m", "livmig.io/role": "source"}},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"ports": [{"port": 7400, "protocol": "TCP"}]}],
                "egress": [{
                    "ports": [
                        {"port": 7401, "protocol": "UDP"},
                        {"port": 7401, "protocol": "TCP"},
                    ],
                    "to": [{"podSelector": {"matchLabels":
                        {"livmig.io/migration": "m", "livmig.io/role": "destination"}}}],
                }],
            })
        );
        assert_eq!(policy["metadata"]["labels"]["livmig.io/migration"], "m");
        assert_eq!(
            policy["metadata"]["ownerReferences"]
                .as_array()
                .map(Vec::len),
            Some(1)
        );
    }

    #[test]
    fn the_destination_is_reached_by_its_sources_and_reaches_nobody() {
        assert_eq!(
            made(Side::Destination)["spec"],
            json!({
                "podSelector": {"matchLabels":
                    {"livmig.io/migration": "m", "livmig.io/role": "destination"}},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [
                    {"ports": [{"port": 7400, "protocol": "TCP"}]},
                    {
                        "ports": [
                        {"port": 7401, "protocol": "UDP"},
                        {"port": 7401, "protocol": "TCP"},
                    ],
                        "from": [{"podSelector": {"matchLabels":
                            {"livmig.io/migration": "m", "livmig.io/role": "source"}}}],
                    },
                ],
                "egress": [],
            })
        );
    }

    #[test]
    fn only_policies_of_others_call_for_ours() {
        let policy = |labels: Value| -> NetworkPolicy {
            serde_json::from_value(json!({"metadata": {"name": "p", "labels": labels}})).unwrap()
        };
        let ours = policy(json!({"livmig.io/migration": "m"}));
        assert_eq!(Network::of(&[]), Network::Open);
        assert_eq!(Network::of(std::slice::from_ref(&ours)), Network::Open);
        let policies = [ours, policy(json!({"app": "db"}))];
        assert_eq!(Network::of(&policies), Network::Restricted);
    }
}

//! The pod of one mover. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use k8s_openapi::{
    api::core::v1::{
        Affinity, Capabilities, Container, ContainerPort, EmptyDirVolumeSource,
        LocalObjectReference, NodeAffinity, NodeSelector, NodeSelectorRequirement,
        NodeSelectorTerm, PersistentVolumeClaimVolumeSource, Pod, PodSecurityContext, PodSpec,
        PreferredSchedulingTerm, ResourceRequirements, SeccompProfile, SecretVolumeSource,
        SecurityContext, Toleration, Volume, VolumeMount,
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{ObjectMeta, OwnerReference},
    },
};
use livmig_engine::spec::{MoverCapability, RunAs};
use livmig_proto::control::Side;

/// Where a mover listens for its coordinator (TCP).
pub const CONTROL_PORT: u16 = 7400;
/// Where a destination listens for data (UDP and TCP).
pub const DATA_PORT: u16 = 7401;
/// The key of the session in its Secret, and its file name.
pub const SESSION: &str = "session.json";

/// What the source may do: read what belongs to others.
const SOURCE_CAPABILITIES: [&str; 1] = ["DAC_OVERRIDE"];
/// What the destination may do: give every entry its owner, mode, attributes and kind.
const DESTINATION_CAPABILITIES: [&str; 6] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "MKNOD",
    "SETFCAP",
];

/// What a mover's pod is made of.
#[derive(Clone, Debug)]
pub struct MoverPod<'a> {
    /// The pod's name, and its Secret's.
    pub name: &'a str,
    /// Which end.
    pub side: Side,
    /// The claim it mounts.
    pub claim: &'a str,
    /// Bytes of that claim, for the size of what the mover remembers of it.
    pub size: u64,
    /// The node the workload's pod runs on.
    pub node: Option<&'a str>,
    /// The workload's pods, whose constraints a new volume must meet.
    pub template: &'a PodSpec,
    /// The labels of everything the migration makes.
    pub labels: BTreeMap<String, String>,
    /// The migration's object: what is left of it is collected with it.
    pub owner: OwnerReference,
    /// The mover's image.
    pub image: &'a str,
    /// The Secret it is pulled with.
    pub pull_secret: Option<&'a str>,
    /// Whether the cluster's pods have addresses of version 6.
    pub ipv6: bool,
    /// As whom it runs where it may be no more than the workload; none where it may be root.
    pub run_as: Option<RunAs>,
    /// What it may do beyond the ordinary, as far as its end has use for it.
    pub extra: &'a BTreeSet<MoverCapability>,
}

impl MoverPod<'_> {
    /// The pod.
    pub fn pod(&self) -> Pod {
        Pod {
            metadata: ObjectMeta {
                name: Some(self.name.to_owned()),
                labels: Some(self.labels.clone()),
                annotations: Some(annotations()),
                owner_references: Some(vec![self.owner.clone()]),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec {
                affinity: Some(self.affinity()),
                automount_service_account_token: Some(false),
                containers: vec![self.container()],
                enable_service_links: Some(false),
                image_pull_secrets: self.pull_secret.map(|name| {
                    vec![LocalObjectReference {
                        name: name.to_owned(),
                    }]
                }),
                node_selector: match self.side {
                    Side::Source => None,
                    Side::Destination => self.template.node_selector.clone(),
                },
                // A container that crashed comes back in its pod: behind the fence no new pod
                // could be scheduled.
                restart_policy: Some("OnFailure".to_owned()),
                security_context: Some(self.identity()),
                termination_grace_period_seconds: Some(10),
                tolerations: Some(self.tolerations()),
                volumes: Some(self.volumes()),
                ..PodSpec::default()
            }),
            status: None,
        }
    }

    /// Root with few capabilities, without an fsGroup: it would change the owners of what is
    /// moved. Or the workload's own user.
    fn identity(&self) -> PodSecurityContext {
        let common = PodSecurityContext {
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        };
        let Some(run_as) = self.run_as else {
            return PodSecurityContext {
                run_as_group: Some(0),
                run_as_non_root: Some(false),
                run_as_user: Some(0),
                ..common
            };
        };
        let common = PodSecurityContext {
            run_as_group: run_as.group,
            run_as_non_root: Some(true),
            run_as_user: Some(run_as.user),
            ..common
        };
        match self.side {
            // The group alone: as the pod's fsGroup it would change what the workload has.
            Side::Source => PodSecurityContext {
                supplemental_groups: run_as.fs_group.map(|group| vec![group]),
                ..common
            },
            // The kubelet gives the new volume's root to the group while the volume is empty. A pod
            // that comes later finds the root right, and the entries as the mover made them.
            Side::Destination => PodSecurityContext {
                fs_group: run_as.fs_group,
                fs_group_change_policy: run_as.fs_group.map(|_| "OnRootMismatch".to_owned()),
                ..common
            },
        }
    }

    fn capabilities(&self) -> Capabilities {
        let own = match (self.run_as, self.side) {
            (Some(_), _) => None,
            (None, Side::Source) => Some(SOURCE_CAPABILITIES.as_slice()),
            (None, Side::Destination) => Some(DESTINATION_CAPABILITIES.as_slice()),
        };
        let extra = || {
            let serving = self.extra.iter().filter(|extra| extra.serves(self.side));
            serving.map(|extra| extra.name())
        };
        Capabilities {
            add: own.map(|own| {
                let all = own.iter().copied().chain(extra());
                all.map(str::to_owned).collect()
            }),
            drop: Some(vec!["ALL".to_owned()]),
        }
    }

    fn container(&self) -> Container {
        let address = if self.ipv6 {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        } else {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        };
        let listen = |port| SocketAddr::new(address, port).to_string();
        let mut arguments = vec![
            self.side.to_string(),
            "--root=/volume".to_owned(),
            "--state=/state".to_owned(),
            format!("--session=/session/{SESSION}"),
            format!("--control={}", listen(CONTROL_PORT)),
        ];
        let mut ports = vec![port("control", CONTROL_PORT, "TCP")];
        if self.side == Side::Destination {
            arguments.push(format!("--data={}", listen(DATA_PORT)));
            ports.push(port("data-udp", DATA_PORT, "UDP"));
            ports.push(port("data-tcp", DATA_PORT, "TCP"));
        }
        Container {
            name: "mover".to_owned(),
            image: Some(self.image.to_owned()),
            image_pull_policy: Some("IfNotPresent".to_owned()),
            args: Some(arguments),
            ports: Some(ports),
            resources: Some(ResourceRequirements {
                // Little is asked for, so that a full node still takes the mover; memory is
                // bounded by its design, and what the kernel caches counts too.
                limits: Some(quantities(&[("memory", "1Gi")])),
                requests: Some(quantities(&[("cpu", "50m"), ("memory", "64Mi")])),
                ..ResourceRequirements::default()
            }),
            security_context: Some(SecurityContext {
                allow_privilege_escalation: Some(false),
                capabilities: Some(self.capabilities()),
                privileged: Some(false),
                read_only_root_filesystem: Some(true),
                ..SecurityContext::default()
            }),
            termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
            volume_mounts: Some(vec![
                VolumeMount {
                    mount_path: "/volume".to_owned(),
                    name: "volume".to_owned(),
                    // The mount and not the claim's own flag, which would change how some
                    // drivers attach it.
                    read_only: Some(self.side == Side::Source),
                    ..VolumeMount::default()
                },
                mount("state", "/state"),
                mount("session", "/session"),
            ]),
            ..Container::default()
        }
    }

    fn volumes(&self) -> Vec<Volume> {
        // 16 bytes a block of 8 KiB, twice that while it is compacted, and the segments.
        let remembered = self.size / 256 + (256 << 20);
        vec![
            Volume {
                name: "volume".to_owned(),
                persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                    claim_name: self.claim.to_owned(),
                    read_only: None,
                }),
                ..Volume::default()
            },
            Volume {
                name: "state".to_owned(),
                empty_dir: Some(EmptyDirVolumeSource {
                    medium: None,
                    size_limit: Some(Quantity(remembered.to_string())),
                }),
                ..Volume::default()
            },
            Volume {
                name: "session".to_owned(),
                secret: Some(SecretVolumeSource {
                    // It belongs to root whoever the pod runs as; only this pod has it.
                    default_mode: Some(if self.run_as.is_some() { 0o444 } else { 0o400 }),
                    secret_name: Some(self.name.to_owned()),
                    ..SecretVolumeSource::default()
                }),
                ..Volume::default()
            },
        ]
    }

    /// The source has to be on the workload's node. The destination decides where a new volume
    /// lands: where the workload may run, best where it runs now.
    fn affinity(&self) -> Affinity {
        let here = self.node.map(|node| NodeSelectorTerm {
            match_fields: Some(vec![NodeSelectorRequirement {
                key: "metadata.name".to_owned(),
                operator: "In".to_owned(),
                values: Some(vec![node.to_owned()]),
            }]),
            ..NodeSelectorTerm::default()
        });
        let node_affinity = match self.side {
            Side::Source => here.map(|here| NodeAffinity {
                required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                    node_selector_terms: vec![here],
                }),
                ..NodeAffinity::default()
            }),
            Side::Destination => {
                let theirs = self
                    .template
                    .affinity
                    .as_ref()
                    .and_then(|affinity| affinity.node_affinity.clone())
                    .unwrap_or_default();
                let preferred = here.map(|preference| {
                    vec![PreferredSchedulingTerm {
                        preference,
                        weight: 100,
                    }]
                });
                Some(NodeAffinity {
                    preferred_during_scheduling_ignored_during_execution: preferred,
                    ..theirs
                })
            }
        };
        Affinity {
            node_affinity,
            ..Affinity::default()
        }
    }

    /// What the workload tolerates; the source also whatever keeps others from being scheduled to
    /// a node that the workload already runs on, such as a cordon.
    fn tolerations(&self) -> Vec<Toleration> {
        let mut tolerations = self.template.tolerations.clone().unwrap_or_default();
        if self.side == Side::Source {
            tolerations.push(Toleration {
                effect: Some("NoSchedule".to_owned()),
                operator: Some("Exists".to_owned()),
                ..Toleration::default()
            });
        }
        tolerations
    }
}

/// What keeps meshes from adding containers, and autoscalers from minding the pod.
fn annotations() -> BTreeMap<String, String> {
    [
        ("sidecar.istio.io/inject", "false"),
        ("linkerd.io/inject", "disabled"),
        ("cluster-autoscaler.kubernetes.io/safe-to-evict", "true"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

fn port(name: &str, number: u16, protocol: &str) -> ContainerPort {
    ContainerPort {
        container_port: i32::from(number),
        name: Some(name.to_owned()),
        protocol: Some(protocol.to_owned()),
        ..ContainerPort::default()
    }
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        mount_path: path.to_owned(),
        name: name.to_owned(),
        ..VolumeMount::default()
    }
}

fn quantities(list: &[(&str, &str)]) -> BTreeMap<String, Quantity> {
    list.iter()
        .map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned())))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn made(side: Side) -> Value {
        made_as(side, None)
    }

    fn made_as(side: Side, run_as: Option<RunAs>) -> Value {
        made_with(side, run_as, &BTreeSet::new())
    }

    fn made_with(side: Side, run_as: Option<RunAs>, extra: &BTreeSet<MoverCapability>) -> Value {
        let template: PodSpec = serde_json::from_value(json!({
            "containers": [],
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "dedicated", "operator": "Exists"}],
            "affinity": {"podAntiAffinity": {}, "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}},
        }))
        .unwrap();
        let pod = MoverPod {
            name: "livmig-db-1-0-src",
            side,
            claim: "data-db-0",
            size: 1 << 40,
            node: Some("node-a"),
            template: &template,
            labels: BTreeMap::from([("livmig.io/migration".to_owned(), "m".to_owned())]),
            owner: OwnerReference::default(),
            image: "mover:1",
            pull_secret: Some("pull"),
            ipv6: false,
            run_as,
            extra,
        };
        serde_json::to_value(pod.pod()).unwrap()
    }

    #[test]
    fn the_source_only_reads_and_stands_where_the_workload_does() {
        let pod = made(Side::Source);
        let spec = &pod["spec"];
        let container = &spec["containers"][0];
        assert_eq!(container["volumeMounts"][0]["readOnly"], true);
        assert_eq!(
            container["securityContext"]["capabilities"],
            json!({"add": ["DAC_OVERRIDE"], "drop": ["ALL"]})
        );
        let terms = &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
            ["nodeSelectorTerms"];
        assert_eq!(terms[0]["matchFields"][0]["values"], json!(["node-a"]));
        assert!(spec.get("nodeName").is_none() && spec.get("nodeSelector").is_none());
        assert_eq!(spec["automountServiceAccountToken"], false);
        assert!(spec["securityContext"].get("fsGroup").is_none());
        assert_eq!(spec["volumes"][1]["emptyDir"]["sizeLimit"], "4563402752");
    }

    #[test]
    fn the_destination_goes_where_the_workload_may_and_best_where_it_is() {
        let pod = made(Side::Destination);
        let spec = &pod["spec"];
        assert_eq!(spec["nodeSelector"]["disk"], "ssd");
        let affinity = &spec["affinity"];
        assert!(affinity.get("podAntiAffinity").is_none());
        let node = &affinity["nodeAffinity"];
        assert!(
            node.get("requiredDuringSchedulingIgnoredDuringExecution")
                .is_some()
        );
        assert_eq!(
            node["preferredDuringSchedulingIgnoredDuringExecution"][0]["weight"],
            100
        );
        let container = &spec["containers"][0];
        assert_eq!(container["volumeMounts"][0]["readOnly"], false);
        assert!(
            container["args"]
                .as_array()
                .unwrap()
                .contains(&json!("--data=0.0.0.0:7401"))
        );
    }

    #[test]
    fn a_mover_gets_what_it_is_given_beyond_its_own_as_far_as_its_end_has_use_for_it() {
        let all = BTreeSet::from(MoverCapability::ALL);
        let added = |side| {
            let pod = made_with(side, None, &all);
            let context = pod["spec"]["containers"][0]["securityContext"].clone();
            assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));
            assert_eq!(context["allowPrivilegeEscalation"], false);
            context["capabilities"]["add"].clone()
        };
        // The API server refuses CAP_SYS_ADMIN by that name beside the forbidden escalation.
        assert_eq!(
            added(Side::Source),
            json!(["DAC_OVERRIDE", "SYS_ADMIN", "LEASE"])
        );
        let destination = added(Side::Destination);
        assert!(
            destination
                .as_array()
                .unwrap()
                .contains(&json!("SYS_ADMIN"))
        );
        assert!(!destination.as_array().unwrap().contains(&json!("LEASE")));
    }

    #[test]
    fn restricted_movers_are_the_workload_s_user_and_only_the_destination_has_its_fs_group() {
        let run_as = RunAs {
            user: 1000,
            group: Some(1001),
            fs_group: Some(2000),
        };
        let (source, destination) = (
            made_as(Side::Source, Some(run_as)),
            made_as(Side::Destination, Some(run_as)),
        );
        for pod in [&source, &destination] {
            let container = &pod["spec"]["containers"][0]["securityContext"];
            assert_eq!(container["capabilities"], json!({"drop": ["ALL"]}));
            assert_eq!(container["allowPrivilegeEscalation"], false);
            // Readable by a user that is not root.
            assert_eq!(pod["spec"]["volumes"][2]["secret"]["defaultMode"], 0o444);
        }
        assert_eq!(
            source["spec"]["securityContext"],
            json!({
                "runAsUser": 1000, "runAsGroup": 1001, "runAsNonRoot": true,
                "seccompProfile": {"type": "RuntimeDefault"}, "supplementalGroups": [2000],
            })
        );
        assert_eq!(
            destination["spec"]["securityContext"],
            json!({
                "runAsUser": 1000, "runAsGroup": 1001, "runAsNonRoot": true,
                "seccompProfile": {"type": "RuntimeDefault"},
                "fsGroup": 2000, "fsGroupChangePolicy": "OnRootMismatch",
            })
        );
    }
}

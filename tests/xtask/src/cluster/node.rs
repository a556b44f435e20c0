//! A node: containerd, a kubelet and a service proxy, each with state of its own.

use std::{fs, time::Duration};

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    layout::{Layout, Machine, PODS},
    namespaces::Running,
    piece::Piece,
    process::{await_value, output},
};

/// What runs on a node beside storage.
pub(super) const PIECES: [&str; 3] = ["containerd", "kubelet", "kube-proxy"];

/// The image of the process that holds a pod's namespaces.
pub(super) const PAUSE_IMAGE: &str = "livmig.io/test/pause:1";

/// Starts the container runtime and waits until it answers.
pub(super) fn start_runtime(layout: &Layout, node: &Running) -> Result<()> {
    let run = layout.run_of(node.machine);
    let networks = run.join("cni");
    fs::create_dir_all(&networks)?;
    fs::write(
        networks.join("10-pods.conflist"),
        pod_network(layout, node.machine).to_string(),
    )?;
    let config = run.join("containerd.toml");
    fs::write(&config, runtime_config(layout, node.machine))?;
    Piece::at("containerd".as_ref())
        .flag("config", config.display())
        .start(layout, node)?;
    let socket = layout.containerd(node.machine);
    await_value(
        &format!("containerd on {}", node.machine.name()),
        Duration::from_secs(30),
        || Ok(std::os::unix::net::UnixStream::connect(&socket).ok()),
    )?;
    Ok(())
}

/// Starts what needs the API server.
pub(super) fn start(layout: &Layout, node: &Running) -> Result<()> {
    kubelet(layout, node.machine)?.start(layout, node)?;
    proxy(layout, node.machine)?.start(layout, node)
}

/// Imports the archive of an image into the runtime of `node`.
pub(super) fn import(layout: &Layout, node: &Running, archive: &std::path::Path) -> Result<()> {
    let mut command = node.enter();
    let socket = layout.containerd(node.machine);
    command.extend(
        [
            "ctr",
            "--address",
            &socket.to_string_lossy(),
            "--namespace",
            "k8s.io",
            "images",
            "import",
            &archive.to_string_lossy(),
        ]
        .map(str::to_owned),
    );
    let mut words = command.iter();
    let mut import = std::process::Command::new(words.next().map_or("nsenter", String::as_str));
    output(import.args(words))?;
    Ok(())
}

fn runtime_config(layout: &Layout, node: Machine) -> String {
    let run = layout.run_of(node);
    let root = layout.data_of(node).join("containerd");
    format!(
        r#"version = 2
root = "{root}"
state = "{run}/containerd"
# Each of these looks for a file system or a device that is not there.
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "{run}/containerd.sock"
[ttrpc]
  address = "{run}/containerd.sock.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # Where root lacks CAP_SYS_RESOURCE, runc cannot lower a score and dies.
  restrict_oom_score_adj = true
  disable_tcp_service = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{run}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"#,
        root = root.display(),
        run = run.display(),
    )
}

/// A routed link for each pod: pods of one node see each other through the node, so services
/// work between them too, with no bridge that would need netfilter.
fn pod_network(layout: &Layout, node: Machine) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "ptp",
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": node.pods()}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                    "dataDir": layout.run_of(node).join("addresses"),
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

fn kubelet(layout: &Layout, node: Machine) -> Result<Piece> {
    let run = layout.run_of(node);
    let data = layout.data_of(node);
    // Nothing of the host's resolver: there is no DNS.
    let resolver = run.join("resolv.conf");
    fs::write(&resolver, "")?;
    let serving = |kind: &str| layout.pki(&format!("{}-serving.{kind}", node.name()));
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address(),
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": layout.pki("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": serving("crt"),
        "tlsPrivateKeyFile": serving("key"),
        "containerRuntimeEndpoint": format!("unix://{}", layout.containerd(node).display()),
        "resolvConf": resolver,
        "podLogsDir": data.join("pod-logs"),
        "volumePluginDir": data.join("volume-plugins"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", layout.namespace(node)),
        "failCgroupV1": false,
        "failSwapOn": false,
        "enforceNodeAllocatable": [],
        // The disk is the host's: how full it is is none of the cluster's business. Zero is
        // refused.
        "evictionHard": {
            "memory.available": "1Mi",
            "nodefs.available": "1Mi",
            "nodefs.inodesFree": "1",
            "imagefs.available": "1Mi",
            "imagefs.inodesFree": "1",
        },
        "imageGCHighThresholdPercent": 100,
    });
    let file = run.join("kubelet.json");
    fs::write(&file, format!("{config:#}\n"))?;
    Ok(Piece::new(layout, "kubelet")
        .flag("config", file.display())
        .flag("kubeconfig", layout.kubeconfig_of(node.name()).display())
        .flag("hostname-override", node.name())
        .flag("node-ip", node.address())
        .flag("root-dir", layout.kubelet_root(node).display())
        .flag("cert-dir", run.join("kubelet-pki").display()))
}

fn proxy(layout: &Layout, node: Machine) -> Result<Piece> {
    let config = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": layout.kubeconfig_of("proxy")},
        "hostnameOverride": node.name(),
        "mode": "iptables",
        "clusterCIDR": PODS,
        "nodePortAddresses": ["primary"],
        // These limits belong to the whole kernel and cannot be set from a namespace.
        "conntrack": {"maxPerCore": 0, "min": 0},
    });
    let file = layout.run_of(node).join("kube-proxy.json");
    fs::write(&file, format!("{config:#}\n"))?;
    Ok(Piece::new(layout, "kube-proxy").flag("config", file.display()))
}

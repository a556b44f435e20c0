//! Storage: the old provider, network-like and attached by the real csi-attacher; the new one,
//! local to a node; and k3s' local-path. The provisioners are the real ones.

use std::{fs, path::PathBuf};

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    kubectl,
    layout::{LOCAL_PATH, Layout, Machine},
    namespaces::Running,
    piece::Piece,
};

/// The driver of the old volumes: ext4, on any node once it is attached there.
pub(super) const OLD: &str = "old.test.livmig.io";
/// The driver of the new volumes: xfs, on the node where they were made.
pub(super) const NEW: &str = "new.test.livmig.io";
const LOCAL_PATH_NAMESPACE: &str = "local-path-storage";

/// The storage pieces on the control plane.
pub(super) const CONTROL_PIECES: [&str; 4] = [
    "csi-driver-old",
    "csi-provisioner",
    "csi-attacher",
    "local-path-provisioner",
];
/// The storage pieces on a node.
pub(super) const NODE_PIECES: [&str; 3] = ["csi-driver-old", "csi-driver-new", "csi-provisioner"];

/// The folder whose files `attach` and `detach` hold how long these take.
pub(super) fn delays(layout: &Layout) -> PathBuf {
    layout.run.join("delays")
}

/// Makes the drivers, classes and whatever else provisioners need known to the API.
pub(super) fn declare(layout: &Layout) -> Result<()> {
    kubectl::create(layout, &objects())
}

/// Starts the controllers of the network driver, and local-path.
pub(super) fn start_control(layout: &Layout, control: &Running) -> Result<()> {
    let run = layout.run_of(Machine::Control);
    fs::create_dir_all(delays(layout))?;
    let socket = run.join("csi-old.sock");
    driver(layout, "csi-driver-old", OLD, "ext4", "network")
        .flag("endpoint", socket.display())
        .flag("volumes", old_volumes(layout).display())
        .flag("delays", delays(layout).display())
        .start(layout, control)?;
    let kubeconfig = layout.kubeconfig_of("admin");
    Piece::new(layout, "csi-provisioner")
        .flag("csi-address", socket.display())
        .flag("kubeconfig", kubeconfig.display())
        .flag("default-fstype", "ext4")
        .flag("extra-create-metadata", true)
        .flag("retry-interval-start", "200ms")
        .start(layout, control)?;
    Piece::new(layout, "csi-attacher")
        .flag("csi-address", socket.display())
        .flag("kubeconfig", kubeconfig.display())
        .flag("retry-interval-start", "200ms")
        // A delay that a test asks for must not look like a driver that hangs.
        .flag("timeout", "5m")
        .start(layout, control)?;
    local_path(layout)?.start(layout, control)
}

/// Starts the drivers of a node and the provisioner of its local volumes.
pub(super) fn start_node(layout: &Layout, node: &Running) -> Result<()> {
    let kubelet = layout.kubelet_root(node.machine);
    fs::create_dir_all(kubelet.join("plugins_registry"))?;
    let name = node.machine.name();
    for (piece, driver_name, file_system, scope, volumes) in [
        (
            "csi-driver-old",
            OLD,
            "ext4",
            "network",
            old_volumes(layout),
        ),
        (
            "csi-driver-new",
            NEW,
            "xfs",
            "node",
            layout.data_of(node.machine).join("new-volumes"),
        ),
    ] {
        let folder = kubelet.join("plugins").join(driver_name);
        fs::create_dir_all(&folder)?;
        let socket = folder.join("csi.sock");
        let registration = kubelet.join(format!("plugins_registry/{driver_name}-reg.sock"));
        driver(layout, piece, driver_name, file_system, scope)
            .flag("node", name)
            .flag("endpoint", socket.display())
            .flag("registration", registration.display())
            .flag("volumes", volumes.display())
            .start(layout, node)?;
    }
    let socket = kubelet.join("plugins").join(NEW).join("csi.sock");
    Piece::new(layout, "csi-provisioner")
        .flag("csi-address", socket.display())
        .flag("kubeconfig", layout.kubeconfig_of("admin").display())
        .flag("default-fstype", "xfs")
        .flag("extra-create-metadata", true)
        .flag("retry-interval-start", "200ms")
        // One a node, each making the volumes of its node.
        .flag("node-deployment", true)
        .flag("strict-topology", true)
        .flag("immediate-topology", false)
        .flag("feature-gates", "Topology=true")
        .variable("NODE_NAME", name)
        .variable("POD_NAME", format_args!("csi-provisioner-{name}"))
        .variable("NAMESPACE", "kube-system")
        .start(layout, node)
}

fn driver(layout: &Layout, piece: &str, name: &str, file_system: &str, scope: &str) -> Piece {
    Piece::new(layout, piece)
        .flag("name", name)
        .flag("file-system", file_system)
        .flag("scope", scope)
}

/// The volumes that every node can reach.
fn old_volumes(layout: &Layout) -> PathBuf {
    layout.data.join("old-volumes")
}

fn local_path(layout: &Layout) -> Result<Piece> {
    let folder = layout.run_of(Machine::Control).join("local-path");
    fs::create_dir_all(&folder)?;
    let helper = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "helper-pod"},
        "spec": {
            "tolerations": [{"key": "node.kubernetes.io/disk-pressure", "operator": "Exists"}],
            "containers": [{
                "name": "helper-pod",
                "image": "livmig.io/test/busybox:1",
                "imagePullPolicy": "Never",
            }],
        },
    });
    let config = json!({
        "nodePathMap": [{"node": "DEFAULT_PATH_FOR_NON_LISTED_NODES", "paths": [LOCAL_PATH]}],
    });
    fs::write(folder.join("helper.yaml"), helper.to_string())?;
    fs::write(folder.join("config.json"), config.to_string())?;
    Ok(Piece::new(layout, "local-path-provisioner")
        .argument("start")
        .flag("config", folder.join("config.json").display())
        .flag("helper-pod-file", folder.join("helper.yaml").display())
        .flag("helper-image", "livmig.io/test/busybox:1")
        .flag("namespace", LOCAL_PATH_NAMESPACE)
        .flag("service-account-name", "local-path")
        .flag("kubeconfig", layout.kubeconfig_of("admin").display()))
}

fn objects() -> Value {
    let driver = |name: &str, attach: bool| {
        json!({
            "apiVersion": "storage.k8s.io/v1",
            "kind": "CSIDriver",
            "metadata": {"name": name},
            "spec": {
                "attachRequired": attach,
                "podInfoOnMount": false,
                "volumeLifecycleModes": ["Persistent"],
            },
        })
    };
    let class = |name: &str, provisioner: &str, binding: &str, parameters: Value| {
        json!({
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": name},
            "provisioner": provisioner,
            "parameters": parameters,
            "reclaimPolicy": "Delete",
            "volumeBindingMode": binding,
        })
    };
    let (wait, now) = ("WaitForFirstConsumer", "Immediate");
    let ext4 = json!({"csi.storage.k8s.io/fstype": "ext4"});
    let xfs = json!({"csi.storage.k8s.io/fstype": "xfs"});
    json!({
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            driver(OLD, true),
            driver(NEW, false),
            class("old", OLD, wait, ext4.clone()),
            class("old-immediate", OLD, now, ext4.clone()),
            class("new", NEW, wait, xfs.clone()),
            class("new-immediate", NEW, now, xfs.clone()),
            class("local-path", "rancher.io/local-path", wait, json!({})),
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": LOCAL_PATH_NAMESPACE}},
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "local-path-config", "namespace": LOCAL_PATH_NAMESPACE},
                "data": {
                    "setup": "#!/bin/sh\nset -eu\nmkdir -m 0777 -p \"$VOL_DIR\"\n",
                    "teardown": "#!/bin/sh\nset -eu\nrm -rf \"$VOL_DIR\"\n",
                },
            },
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": "local-path", "namespace": LOCAL_PATH_NAMESPACE},
            },
        ],
    })
}

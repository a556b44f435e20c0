//! The control plane: etcd, the API server, the controllers and the scheduler.

use std::time::Duration;

use anyhow::Result;

use super::{
    kubectl,
    layout::{API_PORT, Layout, Machine, SERVICES},
    namespaces::Running,
    piece::Piece,
    process::await_value,
};

const ETCD: &str = "http://127.0.0.1:2379";

/// What runs on the control plane beside storage, in the order in which it is needed.
pub(super) const PIECES: [&str; 4] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
];

/// Starts the API server and what it keeps everything in; waits until all of it is ready.
pub(super) fn start_api(layout: &Layout, control: &Running) -> Result<()> {
    etcd(layout).start(layout, control)?;
    api_server(layout).start(layout, control)?;
    await_value("A ready API server", Duration::from_mins(1), || {
        Piece::check(layout, control, &["etcd", "kube-apiserver"])?;
        Ok(kubectl::run(layout, &["get", "--raw", "/readyz", "--request-timeout=5s"]).ok())
    })?;
    Ok(())
}

/// Starts what acts on the API. Not before the API is ready: these give up when their roles are
/// not there yet.
pub(super) fn start_controllers(layout: &Layout, control: &Running) -> Result<()> {
    controllers(layout).start(layout, control)?;
    scheduler(layout).start(layout, control)
}

fn etcd(layout: &Layout) -> Piece {
    let data = layout.data_of(Machine::Control).join("etcd");
    let peer = "http://127.0.0.1:2380";
    Piece::new(layout, "etcd")
        .flag("name", "etcd")
        .flag("data-dir", data.display())
        .flag("listen-client-urls", ETCD)
        .flag("advertise-client-urls", ETCD)
        .flag("listen-peer-urls", peer)
        .flag("initial-advertise-peer-urls", peer)
        .flag("initial-cluster", format_args!("etcd={peer}"))
        // The cluster does not outlive a crash of the machine anyway.
        .flag("unsafe-no-fsync", true)
}

fn api_server(layout: &Layout) -> Piece {
    let pki = |file: &str| layout.pki(file).display().to_string();
    Piece::new(layout, "kube-apiserver")
        .flag("etcd-servers", ETCD)
        .flag("bind-address", "0.0.0.0")
        .flag("secure-port", API_PORT)
        .flag("advertise-address", Machine::Control.address())
        .flag("service-cluster-ip-range", SERVICES)
        .flag("client-ca-file", pki("ca.crt"))
        .flag("tls-cert-file", pki("apiserver.crt"))
        .flag("tls-private-key-file", pki("apiserver.key"))
        .flag("kubelet-certificate-authority", pki("ca.crt"))
        .flag("kubelet-client-certificate", pki("kubelet-client.crt"))
        .flag("kubelet-client-key", pki("kubelet-client.key"))
        // There is no DNS.
        .flag("kubelet-preferred-address-types", "InternalIP")
        // Nor a proxy for services here: webhooks are called at their pods.
        .flag("enable-aggregator-routing", true)
        .flag(
            "service-account-issuer",
            "https://kubernetes.default.svc.cluster.local",
        )
        .flag("service-account-key-file", pki("service-accounts.pub"))
        .flag(
            "service-account-signing-key-file",
            pki("service-accounts.key"),
        )
        // Nobody holds a certificate of this name; without the flags controllers complain.
        .flag("requestheader-client-ca-file", pki("ca.crt"))
        .flag("requestheader-allowed-names", "front-proxy")
        .flag("requestheader-username-headers", "X-Remote-User")
        .flag("requestheader-group-headers", "X-Remote-Group")
        .flag("requestheader-extra-headers-prefix", "X-Remote-Extra-")
        .flag("authorization-mode", "Node,RBAC")
        .flag("enable-admission-plugins", "NodeRestriction")
        .flag("allow-privileged", true)
}

fn controllers(layout: &Layout) -> Piece {
    with_kubeconfigs(
        Piece::new(layout, "kube-controller-manager"),
        layout,
        "controller-manager",
    )
    .flag("root-ca-file", layout.pki("ca.crt").display())
    .flag(
        "service-account-private-key-file",
        layout.pki("service-accounts.key").display(),
    )
    .flag("use-service-account-credentials", true)
    .flag("leader-elect", false)
    .flag("bind-address", "127.0.0.1")
}

fn scheduler(layout: &Layout) -> Piece {
    with_kubeconfigs(Piece::new(layout, "kube-scheduler"), layout, "scheduler")
        .flag("leader-elect", false)
        .flag("bind-address", "127.0.0.1")
}

fn with_kubeconfigs(piece: Piece, layout: &Layout, user: &str) -> Piece {
    let kubeconfig = layout.kubeconfig_of(user);
    piece
        .flag("kubeconfig", kubeconfig.display())
        .flag("authentication-kubeconfig", kubeconfig.display())
        .flag("authorization-kubeconfig", kubeconfig.display())
}

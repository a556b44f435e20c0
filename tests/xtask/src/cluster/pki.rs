//! Keys, certificates and kubeconfigs, made anew for each cluster.

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::{
    layout::{API_PORT, API_SERVICE, Layout, Machine},
    network::Link,
    process::run,
};

/// The users of the API: the name of their files, the name and the group they are known by.
const USERS: [(&str, &str, &str); 6] = [
    ("admin", "admin", "system:masters"),
    (
        "controller-manager",
        "system:kube-controller-manager",
        "system:kube-controller-manager",
    ),
    (
        "scheduler",
        "system:kube-scheduler",
        "system:kube-scheduler",
    ),
    ("proxy", "system:kube-proxy", "system:node-proxier"),
    ("node-a", "system:node:node-a", "system:nodes"),
    ("node-b", "system:node:node-b", "system:nodes"),
];

/// Makes all of them.
pub(super) fn make(layout: &Layout, link: Link) -> Result<()> {
    let folder = layout.pki("");
    fs::create_dir_all(&folder)?;
    fs::create_dir_all(layout.run.join("kubeconfigs"))?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
    fs::set_permissions(
        layout.run.join("kubeconfigs"),
        fs::Permissions::from_mode(0o700),
    )?;
    authority(layout)?;
    service_accounts(layout)?;

    let control = Machine::Control.address();
    let names = format!(
        "IP:{control},IP:{API_SERVICE},IP:{},IP:127.0.0.1,DNS:kubernetes,DNS:kubernetes.default,\
         DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local",
        link.api
    );
    certificate(layout, "apiserver", "/CN=kube-apiserver", Some(&names))?;
    certificate(
        layout,
        "kubelet-client",
        "/O=system:masters/CN=kube-apiserver-kubelet-client",
        None,
    )?;
    for node in Machine::NODES {
        let file = format!("{}-serving", node.name());
        let subject = format!("/O=system:nodes/CN=system:node:{}", node.name());
        let names = format!("IP:{},DNS:{}", node.address(), node.name());
        certificate(layout, &file, &subject, Some(&names))?;
    }
    let inside = format!("https://{control}:{API_PORT}");
    for (file, user, group) in USERS {
        certificate(layout, file, &format!("/O={group}/CN={user}"), None)?;
        kubeconfig(layout, file, &inside, &layout.kubeconfig_of(file))?;
    }
    let outside = format!("https://{}:{API_PORT}", link.api);
    kubeconfig(layout, "admin", &outside, &layout.kubeconfig())?;
    // Whoever became root for this is the one who wants to play with it.
    let user = env::var("SUDO_UID").ok().and_then(|user| user.parse().ok());
    if user.is_some() {
        chown(layout.kubeconfig(), user, None)?;
    }
    Ok(())
}

/// The authority that everything in the cluster trusts.
fn authority(layout: &Layout) -> Result<()> {
    let mut arguments = request(layout, "ca", "/CN=livmig-cluster");
    arguments.extend(
        [
            "-addext",
            "basicConstraints=critical,CA:TRUE",
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
        ]
        .map(str::to_owned),
    );
    run("openssl", arguments).map(|_output| ())
}

/// A certificate for `subject`, good for servers and clients, with its key beside it.
fn certificate(layout: &Layout, file: &str, subject: &str, names: Option<&str>) -> Result<()> {
    let mut arguments = request(layout, file, subject);
    arguments.extend(
        [
            "-CA",
            &layout.pki("ca.crt").to_string_lossy(),
            "-CAkey",
            &layout.pki("ca.key").to_string_lossy(),
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-addext",
            "extendedKeyUsage=serverAuth,clientAuth",
        ]
        .map(str::to_owned),
    );
    if let Some(names) = names {
        arguments.extend(["-addext".to_owned(), format!("subjectAltName={names}")]);
    }
    run("openssl", arguments).map(|_output| ())
}

fn request(layout: &Layout, file: &str, subject: &str) -> Vec<String> {
    [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "365",
        "-subj",
        subject,
        "-keyout",
        &layout.pki(&format!("{file}.key")).to_string_lossy(),
        "-out",
        &layout.pki(&format!("{file}.crt")).to_string_lossy(),
    ]
    .map(str::to_owned)
    .into()
}

/// The pair of keys that service-account tokens are signed and checked with.
fn service_accounts(layout: &Layout) -> Result<()> {
    let key = layout.pki("service-accounts.key");
    let key = key.to_string_lossy();
    run(
        "openssl",
        [
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-out",
            &key,
        ],
    )?;
    let public = layout.pki("service-accounts.pub");
    run(
        "openssl",
        [
            "pkey",
            "-in",
            &key,
            "-pubout",
            "-out",
            &public.to_string_lossy(),
        ],
    )?;
    Ok(())
}

/// Writes a kubeconfig that needs no other file, so it may be copied anywhere.
fn kubeconfig(layout: &Layout, user: &str, server: &str, to: &Path) -> Result<()> {
    let embedded = |file: String| {
        run(
            "openssl",
            ["base64", "-A", "-in", &layout.pki(&file).to_string_lossy()],
        )
    };
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": layout.name, "cluster": {
            "server": server,
            "certificate-authority-data": embedded("ca.crt".to_owned())?,
        }}],
        "users": [{"name": user, "user": {
            "client-certificate-data": embedded(format!("{user}.crt"))?,
            "client-key-data": embedded(format!("{user}.key"))?,
        }}],
        "contexts": [{"name": layout.name, "context": {"cluster": layout.name, "user": user}}],
        "current-context": layout.name,
    });
    fs::write(to, format!("{config:#}\n"))
        .with_context(|| format!("{} could not be written", to.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o600))?;
    Ok(())
}

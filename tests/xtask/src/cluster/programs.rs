//! The programs of the cluster: Kubernetes, the test driver and what stands beside a driver,
//! built with the machine's Go from modules whose checksums are fixed.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{
    cache::{Cache, content},
    layout::Layout,
    process::output,
};

/// The parts that the one Kubernetes program plays, by the name it is called by.
const PARTS: [&str; 7] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "kubectl",
];

/// The version that the programs shall say they are: without these flags it would be 0.0.0.
const VERSION: (&str, &str, &str) = ("v1.37.0", "1", "37");

/// A program of somebody else's that is built as its own module says.
struct Foreign {
    name: &'static str,
    module: &'static str,
    version: &'static str,
    /// The checksum of the module's content, as in a `go.sum`.
    sum: &'static str,
    package: &'static str,
}

const FOREIGN: [Foreign; 3] = [
    Foreign {
        name: "csi-provisioner",
        module: "github.com/kubernetes-csi/external-provisioner/v6",
        version: "v6.3.0",
        sum: "h1:cC5Y10GbdTHXUTBBz0g7jKZKm7AJJk586WV5rVNWdck=",
        package: "./cmd/csi-provisioner",
    },
    Foreign {
        name: "csi-attacher",
        module: "github.com/kubernetes-csi/external-attacher/v4",
        version: "v4.12.0",
        sum: "h1:HTz7b7dXnJ2SzNJVp82/gWlloxqNpMW6lSIg7d5olps=",
        package: "./cmd/csi-attacher",
    },
    Foreign {
        name: "local-path-provisioner",
        module: "github.com/rancher/local-path-provisioner",
        version: "v0.0.30",
        sum: "h1:OkiuofkCSscddl7tma/B9Ox1wu+JEVSrP7IcZI65Ggo=",
        package: ".",
    },
];

/// Where each program lies in the cache, by the name it is called by.
#[derive(Debug)]
pub(super) struct Programs(Vec<(String, PathBuf)>);

impl Programs {
    /// Builds what is not yet in the cache. `sources` is the folder of the Go module.
    pub(super) fn build(cache: &Cache, sources: &Path) -> Result<Self> {
        let module: Vec<Vec<u8>> = ["go.mod", "go.sum"]
            .iter()
            .map(|file| fs::read(sources.join(file)))
            .collect::<Result<_, _>>()?;
        let ours = |name: &str, folder: Option<&str>, package: &str, flags: &str| {
            let mut parts = module.clone();
            parts.push(flags.as_bytes().to_vec());
            if let Some(folder) = folder {
                parts.extend(content(&sources.join(folder))?);
            }
            cache.get(name, &parts, |to| go_build(sources, flags, package, to))
        };
        let (full, major, minor) = VERSION;
        let package = "k8s.io/component-base/version";
        let flags = format!(
            "-s -w -X {package}.gitVersion={full} -X {package}.gitMajor={major} \
             -X {package}.gitMinor={minor}"
        );
        let small = "-s -w";

        let mut all = Vec::new();
        let kubernetes = ours("kubernetes", Some("kubernetes"), "./kubernetes", &flags)?;
        all.extend(PARTS.map(|part| (part.to_owned(), kubernetes.clone())));
        let driver = ours("csidriver", Some("csidriver"), "./csidriver", small)?;
        all.extend(
            ["csi-driver-old", "csi-driver-new"].map(|part| (part.to_owned(), driver.clone())),
        );
        let pause = ours("pause", Some("pause"), "./pause", small)?;
        all.push(("pause".to_owned(), pause));
        let sanity = "github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity";
        all.push((
            "csi-sanity".to_owned(),
            ours("csi-sanity", None, sanity, small)?,
        ));
        for foreign in &FOREIGN {
            let parts = [foreign.module, foreign.version, foreign.sum, small]
                .map(|part| part.as_bytes().to_vec());
            let built = cache.get(foreign.name, &parts, |to| {
                go_build(&fetch(sources, foreign)?, small, foreign.package, to)
            })?;
            all.push((foreign.name.to_owned(), built));
        }
        Ok(Self(all))
    }

    /// The program `name`.
    pub(super) fn path(&self, name: &str) -> Result<&Path> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, path)| path.as_path())
            .with_context(|| format!("There is no program {name}"))
    }

    /// Links every program into the run folder under its name.
    pub(super) fn link(&self, layout: &Layout) -> Result<()> {
        fs::create_dir_all(layout.program(""))?;
        for (name, path) in &self.0 {
            symlink(path, layout.program(name))?;
        }
        Ok(())
    }
}

/// The folder of `foreign`'s sources, once their checksum is the one that we know.
fn fetch(sources: &Path, foreign: &Foreign) -> Result<PathBuf> {
    let name = format!("{}@{}", foreign.module, foreign.version);
    let mut go = Command::new("go");
    go.args(["mod", "download", "-json", &name])
        .current_dir(sources);
    let answer: Value = serde_json::from_str(&output(&mut go)?)?;
    let text = |field: &str| answer.get(field).and_then(Value::as_str);
    if text("Sum") != Some(foreign.sum) {
        bail!(
            "{name} has the checksum {}, not {}: it is not what was reviewed",
            text("Sum").unwrap_or_default(),
            foreign.sum
        );
    }
    text("Dir")
        .map(PathBuf::from)
        .context("go mod download names no folder")
}

/// Builds one static program. Its output is shown: the first build takes minutes.
fn go_build(folder: &Path, flags: &str, package: &str, to: &Path) -> Result<()> {
    let status = Command::new("go")
        .args(["build", "-mod=readonly", "-buildvcs=false", "-trimpath"])
        .args(["-ldflags", flags, "-o"])
        .arg(to)
        .arg(package)
        .current_dir(folder)
        .env("CGO_ENABLED", "0")
        .status()
        .context("go could not be started: install Go 1.26 or newer")?;
    if !status.success() {
        bail!("go build {package} ended with {status}");
    }
    Ok(())
}

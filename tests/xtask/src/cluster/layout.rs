//! Where everything of a cluster lies and how it is addressed.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

/// The run folder when `LIVMIG_CLUSTER_DIR` names none.
const DEFAULT_RUN: &str = "/run/livmig-cluster";

/// The longest name of a network interface; the host's end of the link bears the cluster's name.
const NAME_LIMIT: usize = 15;

/// What is mounted over inside every machine, so that nothing in one writes there on the host.
pub(super) const HIDDEN: [&str; 3] = ["/run", "/var/lib", "/var/log"];

/// Where local-path keeps volumes, as seen on a node; the place that k3s uses.
pub(super) const LOCAL_PATH: &str = "/var/lib/rancher/k3s/storage";

/// The addresses inside the namespaces. They exist nowhere else, so they clash with nothing.
pub(super) const PODS: &str = "10.98.0.0/16";
/// Service addresses.
pub(super) const SERVICES: &str = "10.99.0.0/24";
/// The API server's service address, the first of [`SERVICES`].
pub(super) const API_SERVICE: &str = "10.99.0.1";
/// The API server's port.
pub(super) const API_PORT: u16 = 6443;

/// A machine of the cluster: namespaces of its own for network, mounts and processes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Machine {
    /// etcd, the API server and the controllers.
    Control,
    /// The first node.
    NodeA,
    /// The second node.
    NodeB,
}

impl Machine {
    /// Every machine, the control plane first.
    pub(super) const ALL: [Self; 3] = [Self::Control, Self::NodeA, Self::NodeB];
    /// The machines that run pods.
    pub(super) const NODES: [Self; 2] = [Self::NodeA, Self::NodeB];

    /// Its name, which for a node is the name of the `Node` object too.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::NodeA => "node-a",
            Self::NodeB => "node-b",
        }
    }

    /// Its address on the network that joins the machines.
    pub(super) const fn address(self) -> &'static str {
        match self {
            Self::Control => "10.97.0.1",
            Self::NodeA => "10.97.0.11",
            Self::NodeB => "10.97.0.12",
        }
    }

    /// The addresses of its pods; the control plane has none.
    pub(super) const fn pods(self) -> Option<&'static str> {
        match self {
            Self::Control => None,
            Self::NodeA => Some("10.98.1.0/24"),
            Self::NodeB => Some("10.98.2.0/24"),
        }
    }
}

/// The folders and names of one cluster.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// Keys, configurations, sockets, logs and the kubeconfig; on most machines in memory.
    pub(super) run: PathBuf,
    /// What grows: etcd, images, the kubelets' roots, volumes.
    pub(super) data: PathBuf,
    /// Programs and images, kept between clusters and checkouts.
    pub(super) cache: PathBuf,
    /// The run folder's own name; namespaces, cgroups and the host's link are called after it.
    pub(super) name: String,
}

impl Layout {
    /// The layout that the environment asks for.
    pub(super) fn of_environment() -> Result<Self> {
        let run = env::var_os("LIVMIG_CLUSTER_DIR")
            .map_or_else(|| PathBuf::from(DEFAULT_RUN), PathBuf::from);
        let cache = env::var_os("XDG_CACHE_HOME")
            .filter(|folder| !folder.is_empty())
            .map(PathBuf::from)
            .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
            .context("Neither XDG_CACHE_HOME nor HOME says where the cache is: set one")?;
        Self::new(&run, &cache.join("livmig/cluster"))
    }

    /// The cluster of the run folder `run` with what is cached in `cache`.
    fn new(run: &Path, cache: &Path) -> Result<Self> {
        let name = run
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !run.is_absolute() || name.is_empty() || name.len() > NAME_LIMIT {
            bail!(
                "The run folder {} does not fit: LIVMIG_CLUSTER_DIR must be an absolute path that \
                 ends in a name of at most {NAME_LIMIT} characters",
                run.display()
            );
        }
        if !name.bytes().all(plain) {
            bail!(
                "The run folder {} does not fit: its last part names interfaces and cgroups, so \
                 it may hold only lower-case letters, digits and '-'",
                run.display()
            );
        }
        if let Some(hidden) = HIDDEN.iter().find(|hidden| cache.starts_with(hidden)) {
            bail!(
                "The cache {} lies below {hidden}, which the cluster's machines cannot see: set \
                 XDG_CACHE_HOME to a folder elsewhere",
                cache.display()
            );
        }
        Ok(Self {
            run: run.to_owned(),
            data: Path::new("/var/lib").join(name),
            cache: cache.to_owned(),
            name: name.to_owned(),
        })
    }

    /// Waits until nobody else starts or ends this cluster; holds until it is dropped.
    pub(super) fn lock(&self) -> Result<File> {
        fs::create_dir_all(&self.cache)?;
        let lock = File::create(self.cache.join(format!("{}.lock", self.name)))?;
        if lock.try_lock().is_err() {
            println!("Waiting for another start or end of this cluster.");
            lock.lock()?;
        }
        Ok(lock)
    }

    /// The network namespace of `machine`, as `ip netns` names it; also its cgroup.
    pub(super) fn namespace(&self, machine: Machine) -> String {
        format!("{}-{}", self.name, machine.name())
    }

    /// The run folder of `machine`.
    pub(super) fn run_of(&self, machine: Machine) -> PathBuf {
        self.run.join(machine.name())
    }

    /// The data folder of `machine`.
    pub(super) fn data_of(&self, machine: Machine) -> PathBuf {
        self.data.join(machine.name())
    }

    /// A program of the cluster, under the name that says which part it plays.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.run.join("bin").join(name)
    }

    /// Keys and certificates.
    pub(super) fn pki(&self, file: &str) -> PathBuf {
        self.run.join("pki").join(file)
    }

    /// The file that says that a start came to its end.
    pub(super) fn complete(&self) -> PathBuf {
        self.run.join("complete")
    }

    /// The kubeconfig for users on the host.
    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.run.join("kubeconfig")
    }

    /// The kubeconfig of `user` inside the machines.
    pub(super) fn kubeconfig_of(&self, user: &str) -> PathBuf {
        self.run.join("kubeconfigs").join(user)
    }

    /// The kubelet's root on `machine`.
    pub(super) fn kubelet_root(&self, machine: Machine) -> PathBuf {
        self.data_of(machine).join("kubelet")
    }

    /// containerd's socket on `machine`.
    pub(super) fn containerd(&self, machine: Machine) -> PathBuf {
        self.run_of(machine).join("containerd.sock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_folder_must_be_able_to_name_an_interface() {
        let fits = |run: &str| Layout::new(Path::new(run), Path::new("/cache")).is_ok();
        assert!(fits("/run/livmig-cluster"));
        assert!(fits("/tmp/two"));
        assert!(!fits("relative"));
        assert!(!fits("/"));
        assert!(!fits("/run/livmig-cluster-2"));
        assert!(!fits("/run/Upper"));
        assert!(!fits("/run/a b"));
    }

    #[test]
    fn a_cache_that_machines_cannot_see_is_refused() {
        assert!(Layout::new(Path::new("/run/a"), Path::new("/var/lib/cache")).is_err());
    }
}

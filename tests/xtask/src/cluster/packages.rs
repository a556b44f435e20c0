//! The programs that a cluster needs from the machine.

use anyhow::{Result, bail};

use crate::machine::{self, Program};

/// What is needed to build and to run a cluster, and the Debian package of each.
const PROGRAMS: [Program; 20] = [
    ("containerd", "containerd", "running containers"),
    ("ctr", "containerd", "importing images"),
    ("runc", "runc", "running containers"),
    ("iptables", "iptables", "service addresses"),
    ("iptables-restore", "iptables", "service addresses"),
    ("ip", "iproute2", "the network between nodes"),
    ("nsenter", "util-linux", "running inside a node"),
    ("unshare", "util-linux", "making a node"),
    ("setsid", "util-linux", "leaving what runs running"),
    ("losetup", "mount", "volumes"),
    ("mount", "mount", "volumes"),
    ("blkid", "util-linux", "volumes"),
    ("mkfs.ext4", "e2fsprogs", "volumes of the old class"),
    ("fsck.ext4", "e2fsprogs", "volumes of the old class"),
    ("mkfs.xfs", "xfsprogs", "volumes of the new class"),
    ("openssl", "openssl", "certificates"),
    ("tar", "tar", "images"),
    ("busybox", "busybox-static", "the image for small tests"),
    ("mmdebstrap", "mmdebstrap", "the image with git"),
    ("ptp", "containernetworking-plugins", "the network of pods"),
];

/// Sees to it that all of it is there: installs what is missing, or says what to install.
pub(super) fn ensure() -> Result<()> {
    if !machine::is_root() {
        bail!(
            "A cluster needs root: it makes namespaces, mounts and cgroups. Nothing was changed. \
             Run `sudo -E cargo xtask cluster up`"
        );
    }
    let missing = machine::missing_of(&PROGRAMS);
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<&str> = missing.iter().map(|missing| missing.package).collect();
    packages.dedup();
    let packages = packages.join(" ");
    if machine::can_install() {
        println!("Installing with apt-get: {packages}");
        machine::install(&missing);
    }
    let missing = machine::missing_of(&PROGRAMS);
    if let Some(first) = missing.first() {
        bail!(
            "{} is missing ({}); the cluster was not started. Install the packages {packages} \
             and run this again",
            first.program,
            first.purpose
        );
    }
    Ok(())
}

//! What this machine has, and what it lacks for a full run.

use std::{
    env,
    path::Path,
    process::{Command, Stdio},
};

/// A program, its Debian package and what it is for.
pub(crate) type Program = (&'static str, &'static str, &'static str);

/// Programs that tests compare with or make file systems with, and the Debian package of each.
const PROGRAMS: [Program; 11] = [
    ("rsync", "rsync", "a second opinion on copied trees"),
    ("getfattr", "attr", "looking at attributes by hand"),
    ("setfacl", "acl", "looking at ACLs by hand"),
    ("mkfs.ext4", "e2fsprogs", "full and small file systems"),
    ("mkfs.xfs", "xfsprogs", "copies between unlike file systems"),
    ("mkfs.btrfs", "btrfs-progs", "subvolumes and snapshots"),
    (
        "bindfs",
        "bindfs",
        "a file system that shows several as one",
    ),
    ("setpriv", "util-linux", "movers without root's rights"),
    (
        "containerd",
        "containerd",
        "loading the images as a node does",
    ),
    ("runc", "runc", "running what is in the images"),
    ("skopeo", "skopeo", "a second opinion on the images"),
];

/// Something that is not there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Missing {
    /// The program.
    pub(crate) program: &'static str,
    /// Its Debian package.
    pub(crate) package: &'static str,
    /// What it is for.
    pub(crate) purpose: &'static str,
}

/// The programs for tests that are not on the path.
pub(crate) fn missing() -> Vec<Missing> {
    missing_of(&PROGRAMS)
}

/// Those of `programs` that are not on the path.
pub(crate) fn missing_of(programs: &[Program]) -> Vec<Missing> {
    programs
        .iter()
        .filter(|(program, ..)| !is_on_path(program))
        .map(|&(program, package, purpose)| Missing {
            program,
            package,
            purpose,
        })
        .collect()
}

/// Whether tests run as root here; they mount file systems and own files as anybody then.
pub(crate) fn is_root() -> bool {
    command_output("id", &["-u"]).is_some_and(|id| id.trim() == "0")
}

/// Whether `cargo deny` is installed.
pub(crate) fn has_cargo_deny() -> bool {
    command_output("cargo", &["deny", "--version"]).is_some()
}

/// Whether packages can be installed without asking anybody.
pub(crate) fn can_install() -> bool {
    is_root() && is_on_path("apt-get")
}

/// Installs the packages of what is `missing`. Whether apt did.
pub(crate) fn install(missing: &[Missing]) -> bool {
    let apt = |arguments: &[&str]| {
        Command::new("apt-get")
            .args(["-y", "-q"])
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let mut install = vec!["install", "--no-install-recommends"];
    install.extend(missing.iter().map(|missing| missing.package));
    // The lists are mostly there; when they are not, or too old, fetch them and try once more.
    apt(&install) || (apt(&["update"]) && apt(&install))
}

/// Whether `program` is on the path, or where administrators have theirs.
pub(crate) fn is_on_path(program: &str) -> bool {
    // Administrators' programs are not on every user's path, but they are still there; plugins
    // for the network of containers are on nobody's.
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into(), "/usr/lib/cni".into()])
        .any(|dir| Path::new(&dir).join(program).is_file())
}

fn command_output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

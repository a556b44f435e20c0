//! The container images that livmig's pods run, by the names that everybody uses: the platforms,
//! `livmig-coord images`, and what builds the images, which asks that command.
//!
//! No public registry serves these names. The images come from a bundle that is loaded into the
//! nodes, or from a registry of the user's own, whose names are then given by flags.

use serde::Serialize;

/// The image of the movers' pods, unless `--mover-image` names another.
pub const DEFAULT_MOVER_IMAGE: &str = concat!("livmig.io/livmig-mover:", env!("CARGO_PKG_VERSION"));

/// The image of a coordinator that runs inside the cluster.
pub const DEFAULT_COORDINATOR_IMAGE: &str =
    concat!("livmig.io/livmig-coord:", env!("CARGO_PKG_VERSION"));

/// What an image can be built for, as `os/architecture`.
pub const PLATFORMS: [&str; 2] = ["linux/amd64", "linux/arm64"];

/// One image.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// The program in it, which is also the last part of its repository's name.
    pub name: &'static str,
    /// Its name and tag when nothing else is asked for.
    pub reference: &'static str,
    /// What it is needed for.
    pub purpose: &'static str,
    /// What it can be built for; a registry needs those that its nodes are.
    pub platforms: [&'static str; 2],
    /// Whether every migration of a cluster's workload runs it.
    pub required: bool,
    /// The flag that names another reference, where there is one.
    pub flag: Option<&'static str>,
}

/// Every image that livmig runs; there are no others.
pub const ALL: [Image; 2] = [
    Image {
        name: "livmig-mover",
        reference: DEFAULT_MOVER_IMAGE,
        purpose: "copies the data, in a pod at each end",
        platforms: PLATFORMS,
        required: true,
        flag: Some("--mover-image"),
    },
    Image {
        name: "livmig-coord",
        reference: DEFAULT_COORDINATOR_IMAGE,
        purpose: "drives migrations from inside the cluster; from outside it is not needed",
        platforms: PLATFORMS,
        required: false,
        flag: None,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_ends_in_its_program_and_the_version() {
        for image in ALL {
            let end = format!("/{}:{}", image.name, env!("CARGO_PKG_VERSION"));
            assert!(image.reference.ends_with(&end), "{}", image.reference);
        }
    }
}

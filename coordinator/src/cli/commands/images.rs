//! `images`: what a private registry, or every node, must hold.

use livmig_engine::{document::API_VERSION, outcome::ExitCode};
use serde::Serialize;

use crate::cli::{
    flags::values::Output,
    text::{output, table::aligned, trouble::Trouble},
};
use crate::images::{ALL, Image};

/// List the container images that a private registry must hold
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// The images as a document.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ImageList {
    api_version: &'static str,
    kind: &'static str,
    items: &'static [Image],
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Trouble> {
    match args.output {
        Output::Text => output::text(&text())?,
        Output::Json => output::json(&ImageList {
            api_version: API_VERSION,
            kind: "List",
            items: &ALL,
        })?,
    }
    Ok(ExitCode::Done)
}

/// A line for each image, and how to serve them from a registry of one's own.
fn text() -> String {
    let mut rows = vec![
        ["IMAGE", "PLATFORMS", "PURPOSE"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(ALL.iter().map(|image| {
        vec![
            image.reference.to_owned(),
            image.platforms.join(","),
            image.purpose.to_owned(),
        ]
    }));
    let pushes: Vec<String> = ALL.iter().map(push).collect();
    let flags: Vec<String> = ALL.iter().filter_map(flag).collect();
    format!(
        "{}\n\
         No public registry serves these names. Load the air-gap bundle into every node, or push\n\
         the images to a registry of your own:\n\n\
         {}\n\
         and say so where you migrate:\n\n\
         {}",
        aligned(&rows),
        pushes.concat(),
        flags.concat()
    )
}

/// The commands that copy `image` to a registry, for a machine that has loaded it.
fn push(image: &Image) -> String {
    let from = image.reference;
    let to = in_own_registry(from);
    format!("  docker tag {from} {to} && docker push {to}\n")
}

/// The flags that name `image` there.
fn flag(image: &Image) -> Option<String> {
    let to = in_own_registry(image.reference);
    let flag = image.flag?;
    Some(format!("  {flag} {to} [--image-pull-secret SECRET]\n"))
}

/// `reference` with another registry in front of its last part.
fn in_own_registry(reference: &str) -> String {
    let (_, last) = reference.rsplit_once('/').unwrap_or(("", reference));
    format!("REGISTRY/{last}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_every_image_and_what_to_do_with_it() {
        let version = env!("CARGO_PKG_VERSION");
        let expected = "\
IMAGE                         PLATFORMS                PURPOSE
livmig.io/livmig-mover:X.Y.Z  linux/amd64,linux/arm64  copies the data, in a pod at each end
livmig.io/livmig-coord:X.Y.Z  linux/amd64,linux/arm64  drives migrations from inside the cluster; from outside it is not needed

No public registry serves these names. Load the air-gap bundle into every node, or push
the images to a registry of your own:

  docker tag livmig.io/livmig-mover:X.Y.Z REGISTRY/livmig-mover:X.Y.Z && docker push REGISTRY/livmig-mover:X.Y.Z
  docker tag livmig.io/livmig-coord:X.Y.Z REGISTRY/livmig-coord:X.Y.Z && docker push REGISTRY/livmig-coord:X.Y.Z

and say so where you migrate:

  --mover-image REGISTRY/livmig-mover:X.Y.Z [--image-pull-secret SECRET]
";
        assert_eq!(text().replace(version, "X.Y.Z"), expected);
    }
}

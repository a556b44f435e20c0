//! Whether the movers' image is on the nodes, as far as they tell.

use crate::{
    images::DEFAULT_MOVER_IMAGE,
    kube::preflight::{context::CheckContext, finding::Finding},
};

pub(crate) fn check(case: &CheckContext<'_>) -> Vec<Finding> {
    let image = case.wish.mover_image.as_str();
    let object = format!("image/{image}");
    if image.trim().is_empty() || image.contains(char::is_whitespace) {
        return vec![
            Finding::error(
                "image/",
                format!("{image:?} is no image's name (--mover-image)"),
            )
            .hint(format!("the default is {DEFAULT_MOVER_IMAGE}")),
        ];
    }
    let whole = whole(image);
    let lacking: Vec<&str> = case
        .own_nodes()
        .into_iter()
        .filter(|name| {
            case.node(name).is_some_and(|node| {
                let images = node
                    .status
                    .as_ref()
                    .and_then(|status| status.images.as_ref());
                !images
                    .into_iter()
                    .flatten()
                    .flat_map(|listed| listed.names.iter().flatten())
                    .any(|listed| *listed == whole)
            })
        })
        .collect();
    if lacking.is_empty() {
        return Vec::new();
    }
    let nodes = lacking.join(", ");
    if image == DEFAULT_MOVER_IMAGE {
        vec![
            Finding::warning(
                object,
                format!(
                    "Not among the images on {nodes}, as far as they list them, and no public \
                     registry serves it"
                ),
            )
            .hint("livmig-coord images says how to get it there"),
        ]
    } else {
        vec![Finding::info(
            object,
            format!("Not among the images on {nodes}, so it will be pulled"),
        )]
    }
}

/// The name of an image as nodes list it: with its registry and its tag.
fn whole(image: &str) -> String {
    let (first, rest) = image.split_once('/').unwrap_or(("", image));
    let is_registry = first.contains(['.', ':']) || first == "localhost";
    let named = match (is_registry, first.is_empty()) {
        (true, _) => image.to_owned(),
        (false, true) => format!("docker.io/library/{rest}"),
        (false, false) => format!("docker.io/{image}"),
    };
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) {
        named
    } else {
        format!("{named}:latest")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::preflight::{finding::Severity, fixture};

    #[test]
    fn an_image_that_no_node_lists_is_told_by_how_hard_it_is_to_get() {
        assert_eq!(
            fixture::found(check, &fixture::view(), &fixture::wish()),
            []
        );
        let mut view = fixture::view();
        let nodes = view.nodes.as_mut().unwrap();
        nodes[0] = fixture::with(&nodes[0], json!({"status": {"images": []}}));
        let finding = fixture::finds(check, &view, Severity::Warning, "on node-a,");
        assert!(!finding.message.contains("node-b"), "{finding:?}");
        let mut wish = fixture::wish();
        wish.mover_image = "registry.example/mover:1".to_owned();
        let findings = fixture::found(check, &view, &wish);
        assert_eq!(findings[0].severity, Severity::Info);
        assert!(
            findings[0].message.contains("node-a, node-b"),
            "{findings:?}"
        );
        wish.mover_image = " ".to_owned();
        assert_eq!(
            fixture::found(check, &view, &wish)[0].severity,
            Severity::Error
        );
    }

    #[test]
    fn short_names_are_made_whole() {
        for (short, long) in [
            ("a", "docker.io/library/a:latest"),
            ("me/a:1", "docker.io/me/a:1"),
            ("localhost/a", "localhost/a:latest"),
            ("r.io:5000/x/a", "r.io:5000/x/a:latest"),
            ("r.io/a@sha256:0", "r.io/a@sha256:0"),
        ] {
            assert_eq!(whole(short), long);
        }
    }
}

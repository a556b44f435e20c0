//! Supply chain: the rules of `deny.toml` on licences, sources and duplicates, checked here so
//! that they hold where cargo-deny is not installed.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::licence;

/// What in the dependencies breaks a rule of `deny`, the text of `deny.toml`.
pub(super) fn check(metadata: &Value, deny: &str) -> Result<Vec<String>> {
    let licences = list(deny, "allow")?;
    let registries = list(deny, "allow-registry")?;
    let known: BTreeSet<String> = list(deny, "skip")?
        .into_iter()
        .map(|skip| skip.split('@').next().unwrap_or_default().to_owned())
        .collect();
    let mut problems = Vec::new();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in metadata
        .get("packages")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let text = |field: &str| package.get(field).and_then(Value::as_str);
        let name = text("name").unwrap_or_default();
        let version = text("version").unwrap_or_default();
        versions.entry(name).or_default().insert(version);
        if !licence::is_satisfied(text("license").unwrap_or_default(), &licences) {
            problems.push(format!(
                "{name} {version}: licence {:?} is not allowed",
                text("license").unwrap_or_default()
            ));
        }
        if let Some(source) = text("source")
            && !registries
                .iter()
                .any(|registry| source.strip_prefix("registry+") == Some(registry))
        {
            problems.push(format!("{name} {version}: source {source} is not allowed"));
        }
    }
    for (name, versions) in versions {
        if versions.len() > 1 && !known.contains(name) {
            problems.push(format!(
                "{name} is there {} times: {versions:?}",
                versions.len()
            ));
        }
    }
    Ok(problems)
}

/// The texts of the first list called `name` in `toml`. Enough of TOML for `deny.toml`, whose
/// lists hold only quoted texts and comments.
fn list(toml: &str, name: &str) -> Result<Vec<String>> {
    let missing = || format!("deny.toml has no list {name}");
    let start = format!("\n{name} = [");
    let rest = toml.split_once(&start).with_context(missing)?.1;
    let body = rest.split_once(']').with_context(missing)?.0;
    Ok(body
        .lines()
        .map(|line| line.split_once('#').map_or(line, |(before, _)| before))
        .flat_map(|line| line.split('"').skip(1).step_by(2))
        .map(str::to_owned)
        .collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DENY: &str = r#"
[licenses]
allow = ["MIT"]
[bans]
skip = [
    "twice@1.0.0", # "why"
]
[sources]
allow-registry = ["https://registry"]
"#;

    #[test]
    fn each_rule_sees_what_breaks_it() {
        let problems = |name: &str, version: &str, license: &str, source: &str| {
            let fixed = |name: &str| json!({"name": name, "version": "2.0.0", "license": "MIT"});
            let package =
                json!({"name": name, "version": version, "license": license, "source": source});
            let packages = json!({"packages": [fixed("once"), fixed("twice"), package]});
            check(&packages, DENY).unwrap().len()
        };
        assert_eq!(
            problems("new", "1.0.0", "MIT", "registry+https://registry"),
            0
        );
        assert_eq!(
            problems("new", "1.0.0", "GPL", "registry+https://registry"),
            1
        );
        assert_eq!(problems("new", "1.0.0", "MIT", "git+https://registry"), 1);
        assert_eq!(
            problems("once", "1.0.0", "MIT", "registry+https://registry"),
            1
        );
        assert_eq!(
            problems("twice", "1.0.0", "MIT", "registry+https://registry"),
            0
        );
    }
}

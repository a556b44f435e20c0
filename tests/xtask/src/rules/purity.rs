//! Pure crates: their manifests list what may be listed and nothing else, and their own
//! `clippy.toml` forbids the clock.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::Value;

/// The pure crates and all that they may build on.
const PURE: [(&str, &[&str]); 2] = [
    (
        "livmig-proto",
        &[
            "blake3",
            "bytes",
            "ring",
            "rustls",
            "serde",
            "serde_json",
            "thiserror",
        ],
    ),
    (
        "livmig-engine",
        &["livmig-proto", "serde", "serde_json", "thiserror"],
    ),
];

/// Crates that must never build on each other: (who, on what).
const APART: [(&str, &str); 2] = [
    ("livmig-coord", "livmig-mover"),
    ("livmig-mover", "livmig-engine"),
];

/// What is impure, by crate.
pub(super) fn check(metadata: &Value) -> Result<Vec<String>> {
    let mut problems = manifests(metadata)?;
    for (name, _) in PURE {
        let manifest = field(package(metadata, name)?, "manifest_path")?;
        let lints = Path::new(manifest).with_file_name("clippy.toml");
        let text = fs::read_to_string(&lints).unwrap_or_default();
        for method in [
            "std::time::Instant::now",
            "std::time::SystemTime::now",
            "std::fs::read",
        ] {
            if !text.contains(method) {
                problems.push(format!("{name}: its clippy.toml does not forbid {method}"));
            }
        }
    }
    Ok(problems)
}

fn manifests(metadata: &Value) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for (name, allowed) in PURE {
        for dependency in dependencies(metadata, name)? {
            if !allowed.contains(&dependency) {
                problems.push(format!("{name} is pure and may not build on {dependency}"));
            }
        }
    }
    for (name, other) in APART {
        if dependencies(metadata, name)?.contains(&other) {
            problems.push(format!("{name} may not build on {other}"));
        }
    }
    Ok(problems)
}

/// What a crate of the workspace builds on, leaving aside what only its tests use.
fn dependencies<'a>(metadata: &'a Value, name: &str) -> Result<Vec<&'a str>> {
    let all = package(metadata, name)?
        .get("dependencies")
        .and_then(Value::as_array)
        .context("a package without a list of dependencies")?;
    all.iter()
        .filter(|dependency| dependency.get("kind").is_none_or(Value::is_null))
        .map(|dependency| field(dependency, "name"))
        .collect()
}

fn package<'a>(metadata: &'a Value, name: &str) -> Result<&'a Value> {
    let packages = metadata.get("packages").and_then(Value::as_array);
    packages
        .into_iter()
        .flatten()
        .find(|package| package.get("name").and_then(Value::as_str) == Some(name))
        .with_context(|| format!("no crate {name} in the workspace"))
}

fn field<'a>(value: &'a Value, name: &str) -> Result<&'a str> {
    value
        .get(name)
        .and_then(Value::as_str)
        .with_context(|| format!("cargo metadata without {name}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_may_not_be_built_on_is_seen() {
        let on = |names: &[&str]| -> Value {
            names
                .iter()
                .map(|name| json!({"name": name, "kind": null}))
                .collect()
        };
        let metadata = |engine: Value, coordinator: Value| {
            json!({"packages": [
                {"name": "livmig-proto", "dependencies": on(&["serde"])},
                {"name": "livmig-engine", "dependencies": engine},
                {"name": "livmig-coord", "dependencies": coordinator},
                {"name": "livmig-mover", "dependencies": []},
            ]})
        };
        assert_eq!(
            manifests(&metadata(on(&["serde"]), on(&[]))).unwrap().len(),
            0
        );
        assert_eq!(
            manifests(&metadata(on(&["tokio"]), on(&[]))).unwrap().len(),
            1
        );
        assert_eq!(
            manifests(&metadata(on(&[]), on(&["livmig-mover"])))
                .unwrap()
                .len(),
            1
        );
    }
}

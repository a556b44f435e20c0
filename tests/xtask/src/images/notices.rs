//! The licences of all that is linked into a program, as they must travel with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::cargo::cargo;

/// What every static program holds besides crates.
const TOOLCHAIN: &str = "\
The Rust standard library: MIT OR Apache-2.0
The GNU C library, linked statically: LGPL-2.1-or-later
";

/// How the names of files with licences begin, in capitals.
const NAMES: [&str; 6] = [
    "LICENSE",
    "LICENCE",
    "COPYING",
    "COPYRIGHT",
    "NOTICE",
    "UNLICENSE",
];

/// A crate that is linked into a program.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Linked {
    name: String,
    version: String,
    licence: String,
    manifest: String,
}

/// The notices for `program`, a crate of the workspace at `root`, when it is built for `target`.
pub(super) fn of(root: &Path, program: &str, target: &str) -> Result<Vec<u8>> {
    let output = cargo(root)
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(["--filter-platform", target])
        .output()?;
    ensure!(
        output.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let linked = linked(&serde_json::from_slice(&output.stdout)?, program)?;
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for crate_ in &linked {
        for text in licences(Path::new(&crate_.manifest))? {
            let users = texts.entry(text).or_default();
            users.push(format!("{} {}", crate_.name, crate_.version));
        }
    }
    Ok(render(program, &linked, &texts).into_bytes())
}

fn render(program: &str, linked: &[Linked], texts: &BTreeMap<String, Vec<String>>) -> String {
    let mut parts = vec![format!(
        "{program} is licensed under Apache-2.0 (see LICENSE). It holds:\n\n{TOOLCHAIN}"
    )];
    parts.extend(
        linked
            .iter()
            .map(|linked| format!("{} {}: {}\n", linked.name, linked.version, linked.licence)),
    );
    // By who uses a text, not by the text: people look for a name.
    let mut by_users: Vec<(&Vec<String>, &String)> =
        texts.iter().map(|(text, users)| (users, text)).collect();
    by_users.sort();
    parts.extend(
        by_users.into_iter().map(|(users, text)| {
            format!("\n{}\n{}:\n\n{text}\n", "-".repeat(80), users.join(", "))
        }),
    );
    parts.concat()
}

/// The crates of others that `program` is built from, in order of their names.
fn linked(metadata: &Value, program: &str) -> Result<Vec<Linked>> {
    let packages = list(metadata, "packages")?;
    let nodes = metadata.get("resolve").context("no resolved graph")?;
    let nodes: BTreeMap<&str, &Value> = list(nodes, "nodes")?
        .iter()
        .filter_map(|node| Some((node.get("id")?.as_str()?, node)))
        .collect();
    let by_id: BTreeMap<&str, &Value> = packages
        .iter()
        .filter_map(|package| Some((package.get("id")?.as_str()?, package)))
        .collect();
    let text = |id: &str, field: &str| -> Option<&str> { by_id.get(id)?.get(field)?.as_str() };
    let start = by_id
        .keys()
        .copied()
        .find(|id| text(id, "name") == Some(program))
        .with_context(|| format!("no crate {program} in the workspace"))?;
    let mut seen = BTreeSet::from([start]);
    let mut ahead = vec![start];
    while let Some(id) = ahead.pop() {
        let dependencies = nodes.get(id).map(|node| list(node, "deps")).transpose()?;
        for dependency in dependencies.into_iter().flatten() {
            // Not what its tests and build scripts use.
            let is_linked = list(dependency, "dep_kinds")?
                .iter()
                .any(|kind| kind.get("kind").is_none_or(Value::is_null));
            if let Some(on) = dependency.get("pkg").and_then(Value::as_str)
                && is_linked
                && seen.insert(on)
            {
                ahead.push(on);
            }
        }
    }
    let mut linked: Vec<Linked> = seen
        .into_iter()
        // What has no source is the workspace's own.
        .filter(|id| text(id, "source").is_some())
        .map(|id| {
            let field = |name| text(id, name).unwrap_or_default().to_owned();
            Linked {
                name: field("name"),
                version: field("version"),
                licence: field("license"),
                manifest: field("manifest_path"),
            }
        })
        .collect();
    linked.sort();
    Ok(linked)
}

/// The texts of the licences that lie beside a manifest, in order of their files' names.
fn licences(manifest: &Path) -> Result<Vec<String>> {
    let folder = manifest.parent().context("a manifest without a folder")?;
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_uppercase();
        if NAMES.iter().any(|start| name.starts_with(start)) && entry.path().is_file() {
            files.insert(entry.path());
        }
    }
    let texts = files.into_iter().map(|file| {
        let bytes = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        let text = String::from_utf8_lossy(&bytes).replace("\r\n", "\n");
        Ok(text.trim_end().to_owned())
    });
    texts.collect()
}

fn list<'a>(value: &'a Value, name: &str) -> Result<&'a Vec<Value>> {
    value
        .get(name)
        .and_then(Value::as_array)
        .with_context(|| format!("cargo metadata without {name}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_linked_is_named() {
        let package = |name: &str, source: Value| {
            json!({"id": name, "name": name, "version": "1", "license": "MIT",
            "manifest_path": "", "source": source})
        };
        let on = |name: &str, kind: Value| json!({"pkg": name, "dep_kinds": [{"kind": kind}]});
        let metadata = json!({
            "packages": [
                package("program", Value::Null),
                package("direct", json!("registry")),
                package("deep", json!("registry")),
                package("test-only", json!("registry")),
                package("build-only", json!("registry")),
            ],
            "resolve": {"nodes": [
                {"id": "program", "deps": [on("direct", Value::Null), on("test-only", json!("dev"))]},
                {"id": "direct", "deps": [on("deep", Value::Null), on("build-only", json!("build"))]},
                {"id": "deep", "deps": [on("direct", Value::Null)]},
            ]},
        });
        let names: Vec<String> = linked(&metadata, "program")
            .unwrap()
            .into_iter()
            .map(|linked| linked.name)
            .collect();
        assert_eq!(names, ["deep", "direct"]);
        linked(&metadata, "other").unwrap_err();
    }

    #[test]
    fn the_files_beside_a_manifest_are_found() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("license-mit", "one\r\n"),
            ("LICENSE-APACHE", "two"),
            ("lib.rs", "three"),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let texts = licences(&folder.path().join("Cargo.toml")).unwrap();
        assert_eq!(texts, ["two", "one"]);
    }

    #[test]
    fn a_text_that_many_use_is_there_once() {
        let linked = ["a", "b"].map(|name| Linked {
            name: name.to_owned(),
            version: "1".to_owned(),
            licence: "MIT".to_owned(),
            manifest: String::new(),
        });
        let users = vec!["a 1".to_owned(), "b 1".to_owned()];
        let texts = BTreeMap::from([("the text".to_owned(), users)]);
        let text = render("program", &linked, &texts);
        assert!(text.contains("\na 1: MIT\nb 1: MIT\n"), "{text}");
        assert!(text.contains("a 1, b 1:\n\nthe text"), "{text}");
    }
}

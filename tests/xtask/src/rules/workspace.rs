//! The workspace as the rules see it, read once.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// A file's path relative to the root, and its text.
pub(crate) type Texts = BTreeMap<String, String>;

/// What was read.
pub(crate) struct Workspace {
    /// Every text file of the repository.
    pub(crate) texts: Texts,
    /// The Rust files among them.
    pub(crate) sources: Texts,
    /// All design notes in one.
    pub(crate) design_notes: String,
    /// `deny.toml`.
    pub(crate) deny: String,
    /// `cargo metadata`.
    pub(crate) metadata: Value,
    /// Where builds go.
    pub(crate) target: PathBuf,
}

impl Workspace {
    /// Reads the workspace at `root`.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let metadata = metadata(root)?;
        let target = target_of(&metadata)?;
        let mut texts = Texts::new();
        read_texts(root, root, &target, &mut texts)?;
        let of = |end: &str| -> Texts {
            let fits = texts.iter().filter(|(path, _)| path.ends_with(end));
            fits.map(|(path, text)| (path.clone(), text.clone()))
                .collect()
        };
        Ok(Self {
            sources: of(".rs"),
            design_notes: of("DESIGN.md").into_values().collect(),
            deny: texts.get("deny.toml").cloned().unwrap_or_default(),
            texts,
            metadata,
            target,
        })
    }

    /// The Rust files of each crate with modules, by the folder of its root, and with paths relative to
    /// that.
    pub(crate) fn crates(&self) -> Result<BTreeMap<String, Texts>> {
        let mut crates: BTreeMap<String, Texts> = BTreeMap::new();
        for root in self.roots()? {
            let files = self.sources.iter().filter_map(|(path, text)| {
                let file = path.strip_prefix(&root)?;
                Some((file.to_owned(), text.clone()))
            });
            crates.insert(root.clone(), files.collect());
        }
        Ok(crates)
    }

    /// The folders with the root file of a library, a program, a test or a benchmark.
    fn roots(&self) -> Result<BTreeSet<String>> {
        let text = |value: &Value, name: &str| value.get(name)?.as_str().map(PathBuf::from);
        let workspace = text(&self.metadata, "workspace_root").context("no workspace root")?;
        let packages = self.metadata.get("packages").and_then(Value::as_array);
        let mut roots = BTreeSet::new();
        for package in packages.into_iter().flatten() {
            let targets = package.get("targets").and_then(Value::as_array);
            for target in targets.into_iter().flatten() {
                let file = text(target, "src_path").context("a target without a source")?;
                let is_folder_s = file.ends_with("lib.rs") || file.ends_with("main.rs");
                if let (true, Ok(file)) = (is_folder_s, file.strip_prefix(&workspace))
                    && let Some(folder) = file.parent()
                {
                    roots.insert(format!("{}/", folder.display()));
                }
            }
        }
        Ok(roots)
    }
}

/// Where builds of the workspace at `root` go.
pub(crate) fn target_directory(root: &Path) -> Result<PathBuf> {
    target_of(&metadata(root)?)
}

fn target_of(metadata: &Value) -> Result<PathBuf> {
    let directory = metadata.get("target_directory").and_then(Value::as_str);
    Ok(directory
        .context("cargo metadata names no target directory")?
        .into())
}

fn metadata(root: &Path) -> Result<Value> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root)
        .output()?;
    ensure!(
        output.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Reads every text file below `dir`, but not what version control and builds keep there.
fn read_texts(root: &Path, dir: &Path, target: &PathBuf, texts: &mut Texts) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_name() == ".git" || path == *target || path == root.join("target") {
            continue;
        }
        if entry.file_type()?.is_dir() {
            read_texts(root, &path, target, texts)?;
        } else if let Ok(text) = fs::read_to_string(&path) {
            let name = path.strip_prefix(root)?.to_string_lossy().into_owned();
            texts.insert(name, text);
        }
    }
    Ok(())
}

//! The workspace as the rules see it, read once.

use std::{
    collections::BTreeMap,
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

    /// The Rust files of each crate, with paths relative to its `src`.
    pub(crate) fn crates(&self) -> BTreeMap<String, Texts> {
        let mut crates: BTreeMap<String, Texts> = BTreeMap::new();
        for (path, text) in &self.sources {
            if let Some((owner, file)) = path.rsplit_once("src/") {
                let owner = crates.entry(owner.to_owned()).or_default();
                owner.insert(file.to_owned(), text.clone());
            }
        }
        crates
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

//! The static programs, built so that where they are built does not show.
//!
//! They are linked with the C library of the machine's own target: the target that links musl
//! cannot be had everywhere, and musl's allocator is slow where many threads allocate. What a
//! static GNU C library cannot do is load plugins at run time, so names of hosts and users are
//! looked up by what is built into it (files and DNS) alone. livmig asks for no names of users.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{image::Program, notices};
use crate::cargo::cargo;

/// The packages whose programs go into images.
const PACKAGES: [&str; 2] = ["livmig-mover", "livmig-coord"];

/// The profile they are built with.
const PROFILE: &str = "image";

/// Builds the programs of the workspace at `root`, with what cargo keeps in `target`, and reads
/// them and all that goes along with them.
pub(super) fn build(root: &Path, target: &Path) -> Result<Vec<Program>> {
    let triple = host()?;
    ensure!(
        triple.contains("-linux-"),
        "Images are built on Linux alone, and this is {triple}"
    );
    let mut build = cargo(root);
    build
        .args(["build", "--locked", "--bins", "--profile", PROFILE])
        // Named, so that flags for the program are not flags for build scripts and macros, which
        // cannot be static.
        .args(["--target", &triple])
        .arg("--target-dir")
        .arg(target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(root, target)?)
        .env_remove("RUSTFLAGS");
    for package in PACKAGES {
        build.args(["--package", package]);
    }
    let status = build.status().context("starting cargo")?;
    ensure!(
        status.success(),
        "The static programs could not be built; the compiler says why above"
    );
    let built = target.join(&triple).join(PROFILE);
    let listed = listed(&built)?;
    let items = listed.get("items").and_then(Value::as_array);
    let programs = items
        .context("livmig-coord images printed no items")?
        .iter()
        .map(|item| program(root, &built, &triple, item));
    programs.collect()
}

/// The program that the image `item` of `livmig-coord images` holds.
fn program(root: &Path, built: &Path, triple: &str, item: &Value) -> Result<Program> {
    let field = |name: &str| {
        let value = item.get(name).and_then(Value::as_str).map(str::to_owned);
        value.with_context(|| format!("livmig-coord images printed an item without {name}"))
    };
    let (name, reference) = (field("name")?, field("reference")?);
    let version = reference.rsplit_once(':').map(|(_, tag)| tag.to_owned());
    Ok(Program {
        purpose: field("purpose")?,
        version: version.context("a reference without a tag")?,
        executable: read(&built.join(&name))?,
        licence: read(&root.join("LICENSE"))?,
        notices: notices::of(root, &name, triple)?,
        name,
        reference,
    })
}

/// What `livmig-coord images`, built in `built`, says: there and nowhere else stand the references.
fn listed(built: &Path) -> Result<Value> {
    let output = Command::new(built.join("livmig-coord"))
        .args(["images", "-o", "json"])
        .output()
        .context("starting livmig-coord")?;
    ensure!(
        output.status.success(),
        "livmig-coord images ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Flags of the compiler in cargo's encoding: link statically, and put fixed names for the folders
/// of this machine, which messages of panics would name otherwise.
fn flags(root: &Path, target: &Path) -> Result<OsString> {
    let mut flags = OsString::from("-C\x1ftarget-feature=+crt-static");
    // The last one that fits wins, so a folder inside another one comes after it.
    for (from, to) in [
        (root, "/livmig"),
        (cargo_home()?.as_path(), "/cargo"),
        (target, "/target"),
    ] {
        flags.push("\x1f--remap-path-prefix=");
        flags.push(from);
        flags.push("=");
        flags.push(to);
    }
    Ok(flags)
}

/// Where cargo keeps what it has fetched.
fn cargo_home() -> Result<PathBuf> {
    let home = |name| env::var_os(name).map(PathBuf::from);
    home("CARGO_HOME")
        .or_else(|| home("HOME").map(|home| home.join(".cargo")))
        .context("neither CARGO_HOME nor HOME is set")
}

/// The target that the compiler builds for by itself.
fn host() -> Result<String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .arg("-vV")
        .output()
        .context("starting rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(line.context("rustc -vV names no host")?.to_owned())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_this_machine_get_fixed_names() {
        let flags = flags(Path::new("/a b/c"), Path::new("/a b/c/target/d")).unwrap();
        let flags = flags.into_string().unwrap();
        let each: Vec<&str> = flags.split('\x1f').collect();
        assert_eq!(
            each.get(..2),
            Some(["-C", "target-feature=+crt-static"].as_slice())
        );
        assert_eq!(each.get(2), Some(&"--remap-path-prefix=/a b/c=/livmig"));
        assert_eq!(
            each.last(),
            Some(&"--remap-path-prefix=/a b/c/target/d=/target")
        );
    }
}

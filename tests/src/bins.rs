//! Where the built binaries are.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, ensure};

/// Names the directory that holds the binaries under test.
pub const BIN_DIR: &str = "LIVMIG_BIN_DIR";

/// A command that runs `livmig-mover`.
pub fn mover() -> Result<Command> {
    path("livmig-mover").map(Command::new)
}

/// A command that runs `livmig-coord`.
pub fn coord() -> Result<Command> {
    path("livmig-coord").map(Command::new)
}

/// The binary `name`, from `$LIVMIG_BIN_DIR` or the release build.
pub fn path(name: &str) -> Result<PathBuf> {
    let dir = env::var_os(BIN_DIR).map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release"),
        PathBuf::from,
    );
    let path = dir.join(name);
    ensure!(
        path.is_file(),
        "{} is not built: run `cargo build --release --workspace --bins`, or `cargo xtask test`, \
         which builds it",
        path.display()
    );
    Ok(path.canonicalize()?)
}

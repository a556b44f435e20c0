//! Which migration is meant: its name, or the PATH it migrates. Never a guess.

use std::path::Path;

use livmig_engine::{
    outcome::ExitCode,
    record::spec_of,
    spec::{HostTarget, MigrationSpec},
};

use crate::cli::text::trouble::Trouble;
use crate::host::store::{
    folder::{MigrationFolder, StateRoot},
    journal,
};

/// The migration that `text` names.
pub(crate) fn find(root: &StateRoot, text: &str) -> Result<MigrationFolder, Trouble> {
    if !text.contains('/') {
        return Ok(root.open(text)?);
    }
    let path = std::path::absolute(text).map_err(|error| {
        Trouble::new(
            ExitCode::Usage,
            format!("Could not use the path {text}: {error}"),
        )
    })?;
    let mut found = Vec::new();
    for folder in root.migrations()? {
        let loaded = journal::read(&folder.journal())?;
        if spec_of(&loaded.records).is_some_and(|spec| migrates(spec, &path)) {
            found.push(folder);
        }
    }
    match found.len() {
        1 => found.pop().ok_or_else(|| unknown(text)),
        0 => Err(unknown(text)),
        _ => {
            let names: Vec<_> = found
                .iter()
                .map(|folder| folder.name().to_string())
                .collect();
            Err(Trouble::new(
                ExitCode::Usage,
                format!("{} migrations are of PATH {text}", names.len()),
            )
            .with_next(format!("name one of: {}", names.join(", "))))
        }
    }
}

/// What a migration of this machine's state folder moves.
pub(crate) fn host_target(spec: &MigrationSpec) -> Result<&HostTarget, Trouble> {
    spec.target.host().ok_or_else(|| {
        Trouble::new(
            ExitCode::Failed,
            format!("The migration {} is not one of this machine's", spec.name),
        )
        .with_state("nothing was changed by this command")
    })
}

fn migrates(spec: &MigrationSpec, path: &Path) -> bool {
    spec.target.host().is_some_and(|target| target.path == path)
}

fn unknown(text: &str) -> Trouble {
    Trouble::new(ExitCode::Usage, format!("No migration is of PATH {text}"))
        .with_next("livmig-coord get")
}

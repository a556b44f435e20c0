//! Standard output for the answer alone.

use std::{fs::File, io::stdout, os::fd::AsFd as _};

use anyhow::Result;

/// Standard output as it was; from now on what is printed there goes to standard error, also from
/// programs that are started.
pub(super) fn keep_stdout_for_it() -> Result<File> {
    let kept = stdout().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdout(std::io::stderr())?;
    Ok(File::from(kept))
}

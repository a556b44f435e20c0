//! Asking a person before anything is changed.

use std::io::{self, BufRead as _, Write as _};

use livmig_engine::outcome::ExitCode;

use super::report::Trouble;

/// Shows what would be done and asks for it; whether the answer is yes.
pub(super) fn confirmed(shown: &str) -> Result<bool, Trouble> {
    let ask = || -> io::Result<bool> {
        write!(io::stderr(), "{shown}Migrate? Type yes: ")?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        Ok(matches!(answer.trim(), "y" | "yes"))
    };
    ask().map_err(|error| {
        Trouble::new(
            ExitCode::Usage,
            format!("Could not ask for confirmation: {error}"),
        )
        .with_next("add --yes")
    })
}

//! Asking a person before anything is changed.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use livmig_engine::{outcome::ExitCode, spec::OnOverrun};

use crate::cli::text::trouble::Trouble;

/// Whether somebody can be asked.
fn has_terminal() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// What happens when the longest downtime cannot be met, where no flag says so.
pub(crate) fn on_overrun() -> OnOverrun {
    if has_terminal() {
        OnOverrun::Ask
    } else {
        OnOverrun::Abort
    }
}

/// Fails where nobody can be asked.
pub(crate) fn expect_terminal() -> Result<(), Trouble> {
    if has_terminal() {
        return Ok(());
    }
    Err(Trouble::new(
        ExitCode::Usage,
        "Without a terminal nobody can confirm the migration",
    )
    .with_state("nothing was changed; the workload runs as before")
    .with_next("add --yes"))
}

/// Shows what would be done and asks for it; whether the answer is yes.
pub(crate) fn confirmed(shown: &str) -> Result<bool, Trouble> {
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

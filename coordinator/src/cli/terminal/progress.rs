//! Where progress goes: bars when standard error is a terminal, else one line for each event.

use std::io::{self, IsTerminal as _, Write as _};

use indicatif::{ProgressBar, ProgressStyle};

use super::events;
use crate::driver::{MigrationStatus, Status};

/// Shows a migration under way. Everything goes to standard error: standard output is for data.
#[derive(Debug)]
pub(crate) enum Printer {
    /// One bar below the lines of events.
    Bar {
        /// The bar.
        bar: ProgressBar,
        /// What was shown last.
        last: Option<Box<MigrationStatus>>,
    },
    /// Lines of events alone.
    Plain {
        /// What was shown last.
        last: Option<Box<MigrationStatus>>,
    },
}

/// Units of a full bar.
const FULL: u64 = 1000;

impl Printer {
    /// The printer that fits where standard error goes.
    pub(crate) fn new() -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if io::stderr().is_terminal() && !dumb {
            let bar = ProgressBar::new(FULL);
            bar.set_style(unmeasured());
            Self::Bar { bar, last: None }
        } else {
            Self::Plain { last: None }
        }
    }

    /// Shows what is known now.
    pub(crate) fn show(&mut self, status: &Status) {
        let Some(now) = &status.migration else { return };
        let last = match self {
            Self::Bar { last, .. } | Self::Plain { last } => last,
        };
        let lines = events::lines(last.as_deref(), now);
        *last = Some(Box::new(now.clone()));
        for line in lines {
            self.line(&line);
        }
        if let Self::Bar { bar, .. } = self {
            let progress = status.progress.as_ref();
            match progress.and_then(events::fraction) {
                Some(done) => {
                    bar.set_style(measured());
                    bar.set_position(units(done));
                }
                None => bar.set_style(unmeasured()),
            }
            bar.set_message(events::now_line(now, progress));
            bar.tick();
        }
    }

    /// Says something in a line of its own.
    pub(crate) fn line(&self, line: &str) {
        match self {
            Self::Bar { bar, .. } => bar.println(line),
            // Nobody listens any more: the work goes on.
            Self::Plain { .. } => drop(writeln!(io::stderr(), "{line}")),
        }
    }

    /// Takes the bar away, for an answer to be typed or at the end.
    pub(crate) fn clear(&self) {
        if let Self::Bar { bar, .. } = self {
            bar.finish_and_clear();
        }
    }
}

impl Default for Printer {
    fn default() -> Self {
        Self::new()
    }
}

fn measured() -> ProgressStyle {
    ProgressStyle::with_template("{bar:24} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn unmeasured() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a fraction from 0 to 1"
)]
fn units(done: f64) -> u64 {
    (done * FULL as f64) as u64
}

//! Stages: one command or check each; a failed one is noted and the next one runs.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::Instant,
};

use crate::{
    skips,
    tally::{Tally, failed_test},
};

/// What all stages have come to so far.
#[derive(Debug, Default)]
pub(crate) struct Stages {
    /// The sum of all counts.
    pub(crate) tally: Tally,
    /// What failed, by name.
    pub(crate) failures: Vec<String>,
    /// What was not done and why, by name.
    pub(crate) skips: Vec<(String, String)>,
}

impl Stages {
    /// Runs `command` as one check: exit code 0 passes.
    pub(crate) fn command(&mut self, name: &str, command: &mut Command) -> bool {
        let started = begin(name);
        let result = match command.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("{command:?} ended with {status}")),
            Err(error) => Err(format!("{command:?} could not be started: {error}")),
        };
        let passed = result.is_ok();
        self.outcome(name, started, result.map_err(|problem| vec![problem]));
        passed
    }

    /// Runs `check` as one check: no problems pass.
    pub(crate) fn check(
        &mut self,
        name: &str,
        check: impl FnOnce() -> anyhow::Result<Vec<String>>,
    ) -> bool {
        let started = begin(name);
        let result = match check() {
            Ok(problems) if problems.is_empty() => Ok(()),
            Ok(problems) => Err(problems),
            Err(error) => Err(vec![format!("{error:#}")]),
        };
        let passed = result.is_ok();
        self.outcome(name, started, result);
        passed
    }

    /// Runs `command`, shows its output and counts the tests in it, and what they skip.
    pub(crate) fn tests(&mut self, name: &str, command: &mut Command) {
        let started = begin(name);
        let noted = match tempfile::NamedTempFile::new() {
            Ok(file) => file,
            Err(error) => {
                let problem = format!("no file for what is skipped: {error}");
                return self.outcome(name, started, Err(vec![problem]));
            }
        };
        command.env("LIVMIG_SKIPS", noted.path());
        let mut counted = Tally::default();
        let mut result = stream(command, |line| {
            counted += Tally::of_line(line).unwrap_or_default();
            self.failures
                .extend(failed_test(line).map(|test| format!("test {test}")));
        });
        let skipped = std::fs::read_to_string(noted.path()).unwrap_or_else(|error| {
            result = Err(format!("what was skipped is not known: {error}"));
            String::new()
        });
        // A test program that crashed, or did not compile, printed no count.
        if let Err(problem) = &result
            && counted.failed == 0
        {
            counted.failed = 1;
            self.failures.push(format!("{name}: {problem}"));
        }
        for skip in skips::parse(&skipped) {
            counted.skipped += 1;
            let name = if skip.whole {
                // The harness called it ok, because it has no word for this.
                counted.passed = counted.passed.saturating_sub(1);
                skip.name
            } else {
                format!("part of {}", skip.name)
            };
            self.skips.push((name, skip.reason));
        }
        self.tally += counted;
        println!("== {name}: {} ({:.0?})", counted.line(), started.elapsed());
    }

    /// Notes that `name` is not done.
    pub(crate) fn skip(&mut self, name: &str, reason: &str) {
        self.tally.skipped += 1;
        self.skips.push((name.to_owned(), reason.to_owned()));
        println!("== {name}: skipped: {reason}");
    }

    fn outcome(&mut self, name: &str, started: Instant, result: Result<(), Vec<String>>) {
        let took = started.elapsed();
        match result {
            Ok(()) => {
                self.tally.passed += 1;
                println!("== {name}: passed ({took:.0?})");
            }
            Err(problems) => {
                self.tally.failed += 1;
                for problem in &problems {
                    println!("{problem}");
                }
                println!("== {name}: FAILED ({took:.0?})");
                self.failures
                    .push(format!("{name}: {}", problems.join("; ")));
            }
        }
    }
}

fn begin(name: &str) -> Instant {
    println!("\n== {name}");
    Instant::now()
}

/// Runs `command`, passing each line of its output on as it comes.
fn stream(command: &mut Command, mut each: impl FnMut(&str)) -> Result<(), String> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("could not be started: {error}"))?;
    if let Some(stdout) = child.stdout.take() {
        let mut reader = BufReader::new(stdout);
        let mut line = Vec::new();
        // Bytes, not text: a failing test may print anything.
        while matches!(reader.read_until(b'\n', &mut line), Ok(length) if length > 0) {
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches('\n');
            println!("{text}");
            each(text);
            line.clear();
        }
    }
    match child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("ended with {status}")),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tests_skip_is_no_pass() {
        let said = r#"echo "test result: ok. 3 passed; 0 failed; 0 ignored"
            printf 'test\ta::b\tneeds root\npart\tc\tno xfs\n' >>"$LIVMIG_SKIPS""#;
        let mut stages = Stages::default();
        let mut command = Command::new("sh");
        stages.tests("three", command.args(["-ec", said]));
        let expected = Tally {
            passed: 2,
            failed: 0,
            skipped: 2,
        };
        assert_eq!(stages.tally, expected);
        let skips = [("part of c", "no xfs"), ("a::b", "needs root")]
            .map(|(name, reason)| (name.to_owned(), reason.to_owned()));
        assert_eq!(stages.skips, skips);
        assert!(stages.failures.is_empty());
    }
}

//! What a check found.

use livmig_engine::{result::StepFailure, spec::MigrationSpec};
use serde::Serialize;

/// How much a finding weighs; the heaviest first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// The migration is not possible like this.
    Error,
    /// It is possible, and somebody may be surprised.
    Warning,
    /// Good to know.
    Info,
}

impl Severity {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// One thing a check found.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// How much it weighs.
    pub severity: Severity,
    /// The object it is about, as `kind/name`.
    pub object: String,
    /// What is so, and why it matters.
    pub message: String,
    /// What to do; empty when there is nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hint: String,
}

impl Finding {
    fn new(severity: Severity, object: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity,
            object: object.into(),
            message: message.into(),
            hint: String::new(),
        }
    }

    /// Something that makes the migration impossible.
    pub fn error(object: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, object, message)
    }

    /// Something that may surprise.
    pub fn warning(object: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, object, message)
    }

    /// Something good to know.
    pub fn info(object: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Severity::Info, object, message)
    }

    /// The same with what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

/// What all checks found, and what a migration would start from.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was found, the heaviest first.
    pub findings: Vec<Finding>,
    /// What a migration starts from; none when a finding is an error.
    pub spec: Option<MigrationSpec>,
}

impl Report {
    /// What makes the migration impossible.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(|finding| finding.severity == Severity::Error)
    }

    /// What makes the migration impossible, as the failure of its first step; none when it is
    /// possible.
    pub fn refusal(&self) -> Option<StepFailure> {
        let errors: Vec<String> = self
            .errors()
            .map(|finding| format!("{}: {}", finding.object, finding.message))
            .collect();
        if errors.is_empty() {
            return None;
        }
        let failure = StepFailure::permanent(errors.join("; "));
        let hints: Vec<&str> = self
            .errors()
            .map(|finding| finding.hint.as_str())
            .filter(|hint| !hint.is_empty())
            .collect();
        Some(if hints.is_empty() {
            failure
        } else {
            failure.with_hint(hints.join("; "))
        })
    }

    /// What may surprise, one sentence for each.
    pub fn warnings(&self) -> Vec<String> {
        self.findings
            .iter()
            .filter(|finding| finding.severity == Severity::Warning)
            .map(|finding| format!("{}: {}", finding.object, finding.message))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_make_a_failure_and_warnings_do_not() {
        let mut report = Report {
            findings: vec![Finding::warning("a/b", "It may surprise").hint("wait")],
            spec: None,
        };
        assert_eq!(report.refusal(), None);
        assert_eq!(report.warnings(), ["a/b: It may surprise"]);
        report
            .findings
            .push(Finding::error("c/d", "It is not there").hint("make it"));
        report.findings.push(Finding::error("e/f", "It is in use"));
        let failure = report.refusal().unwrap();
        assert!(
            failure
                .to_string()
                .contains("c/d: It is not there; e/f: It is in use"),
            "{failure}"
        );
        assert_eq!(failure.hint.as_deref(), Some("make it"));
        assert_eq!(report.warnings().len(), 1);
    }
}

//! Findings of checks, for people.

use crate::kube::preflight::finding::{Finding, Severity};

/// As wide as the longest word for a weight.
const WIDTH: usize = 7;

/// A paragraph for each finding, in the order given, which is the heaviest first: its weight, its
/// object, what is so, and behind an arrow what to do. The same finding about several objects is
/// told once.
pub(crate) fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    let mut told: Vec<&Finding> = Vec::new();
    for finding in findings {
        if told.iter().any(|earlier| is_same(earlier, finding)) {
            continue;
        }
        told.push(finding);
        let objects: Vec<&str> = findings
            .iter()
            .filter(|other| is_same(other, finding))
            .map(|other| other.object.as_str())
            .collect();
        let lines = [
            (finding.severity.word(), objects.join(", ")),
            ("", finding.message.clone()),
            ("", format!("-> {}", finding.hint)),
        ];
        let shown = if finding.hint.is_empty() { 2 } else { 3 };
        let lines = lines.into_iter().take(shown);
        text.extend(lines.map(|(word, line)| format!("{word:<WIDTH$}  {line}\n")));
    }
    text
}

fn is_same(one: &Finding, other: &Finding) -> bool {
    let told = |finding: &Finding| {
        (
            finding.severity,
            finding.message.clone(),
            finding.hint.clone(),
        )
    };
    told(one) == told(other)
}

/// How many findings of each weight there are, as in `2 errors, 1 warning`.
pub(crate) fn count(findings: &[Finding]) -> String {
    let counted: Vec<String> = [Severity::Error, Severity::Warning]
        .into_iter()
        .filter_map(|severity| {
            let count = findings.iter().filter(|f| f.severity == severity).count();
            let plural = if count == 1 { "" } else { "s" };
            (count > 0).then(|| format!("{count} {}{plural}", severity.word()))
        })
        .collect();
    if counted.is_empty() {
        "no obstacle".to_owned()
    } else {
        counted.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_aligned_and_the_same_is_told_once() {
        let findings = [
            Finding::error("pod/backup", "It uses the claim").hint("stop it"),
            Finding::info("volume/a", "It is kept"),
            Finding::info("volume/b", "It is kept"),
        ];
        let expected = "\
error    pod/backup
         It uses the claim
         -> stop it
info     volume/a, volume/b
         It is kept
";
        assert_eq!(text(&findings), expected);
    }

    #[test]
    fn findings_are_counted_by_weight() {
        let findings = [Finding::error("a", "b"), Finding::warning("a", "b")];
        assert_eq!(count(&findings), "1 error, 1 warning");
        assert_eq!(count(&[Finding::info("a", "b")]), "no obstacle");
    }
}

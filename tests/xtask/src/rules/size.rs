//! Small files: what is longer than the limit says why in a design note.

use super::workspace::Texts;

/// Lines that a Rust file may have without a reason.
const LIMIT: usize = 500;

/// The files that are too long and that no design note names.
pub(super) fn check(sources: &Texts, design_notes: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, text) in sources {
        let lines = text.lines().count();
        if lines > LIMIT && !design_notes.contains(path.as_str()) {
            problems.push(format!(
                "{path} has {lines} lines: split it, or name it in a DESIGN.md with the reason"
            ));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_needs_a_reason() {
        let sources = Texts::from([
            ("mover/src/a.rs".to_owned(), "x\n".repeat(501)),
            ("mover/src/b.rs".to_owned(), "x\n".repeat(500)),
        ]);
        assert_eq!(check(&sources, "").len(), 1);
        assert_eq!(check(&sources, "`mover/src/a.rs`: a table.").len(), 0);
    }
}

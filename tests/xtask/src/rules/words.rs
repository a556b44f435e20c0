//! Words that must not be in the repository: paths of one machine, and what is unfinished.

use super::workspace::Texts;

/// Each is split so that this file does not hold it.
const FORBIDDEN: [(&str, &str); 8] = [
    ("/wo", "rk/"),
    ("/ro", "ot/"),
    ("/ho", "me/"),
    ("todo", "!("),
    ("unimplemented", "!("),
    ("TO", "DO"),
    ("FIX", "ME"),
    ("#[ign", "ore"),
];

/// Where such words stand.
pub(super) fn check(texts: &Texts) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, text) in texts {
        for (number, line) in text.lines().enumerate() {
            for (head, tail) in FORBIDDEN {
                if holds(line, &format!("{head}{tail}")) {
                    problems.push(format!("{path}:{}: {head}{tail}", number + 1));
                }
            }
        }
    }
    problems
}

/// Whether `line` holds `word` as such, not as the end of a longer path or name.
fn holds(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|head| head.chars().next_back());
        !before.is_some_and(|before| before.is_alphanumeric() || matches!(before, '_' | '-' | '}'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_a_machine_is_seen_and_a_part_of_another_is_not() {
        let text = |line: String| Texts::from([("a.md".to_owned(), line)]);
        assert_eq!(check(&text(format!("see {}rk/x", "/wo"))).len(), 1);
        assert_eq!(check(&text(format!("/proc/1{}ot/x", "/ro"))).len(), 0);
    }
}

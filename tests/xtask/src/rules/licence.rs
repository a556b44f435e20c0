//! Licence expressions (SPDX): whether what we allow satisfies one.

/// Whether an expression such as `(MIT OR Apache-2.0) AND Unicode-3.0` can be satisfied with the
/// `allowed` licences alone. What cannot be read cannot be satisfied.
pub(super) fn is_satisfied(expression: &str, allowed: &[String]) -> bool {
    // An older way to write OR.
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let mut words: Vec<&str> = spaced.split_whitespace().rev().collect();
    let value = any_of(&mut words, allowed);
    value == Some(true) && words.is_empty()
}

/// `a OR b`; the next word is the last of `words`.
fn any_of(words: &mut Vec<&str>, allowed: &[String]) -> Option<bool> {
    let mut value = all_of(words, allowed)?;
    while words.last() == Some(&"OR") {
        words.pop();
        value |= all_of(words, allowed)?;
    }
    Some(value)
}

/// `a AND b`, which binds closer.
fn all_of(words: &mut Vec<&str>, allowed: &[String]) -> Option<bool> {
    let mut value = one(words, allowed)?;
    while words.last() == Some(&"AND") {
        words.pop();
        value &= one(words, allowed)?;
    }
    Some(value)
}

/// A licence, one with an exception, or a group in parentheses.
fn one(words: &mut Vec<&str>, allowed: &[String]) -> Option<bool> {
    match words.pop()? {
        "(" => {
            let value = any_of(words, allowed)?;
            (words.pop()? == ")").then_some(value)
        }
        licence => {
            let mut name = licence.to_owned();
            if words.last() == Some(&"WITH") {
                words.pop();
                name = format!("{name} WITH {}", words.pop()?);
            }
            Some(allowed.contains(&name))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read_as_spdx_does() {
        let allowed = ["MIT", "Apache-2.0", "Unicode-3.0"].map(str::to_owned);
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("MIT OR GPL-3.0", true),
            ("MIT AND GPL-3.0", false),
            ("MIT/GPL-3.0", true),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("GPL-3.0 OR MIT AND Unicode-3.0", true),
            ("Apache-2.0 WITH LLVM-exception", false),
            ("Apache-2.0 WITH LLVM-exception OR MIT", true),
            ("(MIT", false),
            ("MIT MIT", false),
            ("", false),
        ] {
            assert_eq!(is_satisfied(expression, &allowed), expected, "{expression}");
        }
    }
}

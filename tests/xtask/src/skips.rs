//! What tests say they could not do here: lines of `test|part TAB name TAB reason`, appended to
//! the file that `LIVMIG_SKIPS` names.

/// One skip.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Skip {
    /// The whole test did not run, so its `ok` is no pass.
    pub(crate) whole: bool,
    /// The test.
    pub(crate) name: String,
    /// Why.
    pub(crate) reason: String,
}

/// The skips in the text of that file, each once.
pub(crate) fn parse(text: &str) -> Vec<Skip> {
    let mut skips: Vec<Skip> = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, '\t');
            Some(Skip {
                whole: fields.next()? == "test",
                name: fields.next()?.to_owned(),
                reason: fields.next()?.to_owned(),
            })
        })
        .collect();
    skips.sort();
    skips.dedup();
    skips
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_skip_counts_once() {
        let text = "test\ta::b\tneeds root\npart\tc\tno xfs\ntest\ta::b\tneeds root\nbroken\n";
        let skips = parse(text);
        assert_eq!(skips.len(), 2);
        assert_eq!(skips.iter().filter(|skip| skip.whole).count(), 1);
    }
}

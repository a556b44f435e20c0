//! One way to lay out a module: with others below it, it is `x/mod.rs`, and its tests too large for its
//! own file are `x/tests.rs` or `x/tests/`.

use super::workspace::Texts;

/// The files that are laid out otherwise, a line each.
pub(super) fn check(sources: &Texts) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, text) in sources {
        let folder = path.strip_suffix(".rs").map(|stem| format!("{stem}/"));
        let has_folder = |folder: &String| sources.keys().any(|other| other.starts_with(folder));
        if let Some(folder) = folder.filter(has_folder) {
            problems.push(format!(
                "{path} lies beside {folder}: make it {folder}mod.rs"
            ));
        }
        if text.lines().any(|line| line.starts_with("#[path")) {
            problems.push(format!(
                "{path} says where a module's file is: put it where it belongs"
            ));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_beside_its_folder_and_a_path_attribute_are_named() {
        let sources = Texts::from(
            [
                ("a/src/x.rs", "mod y;"),
                ("a/src/x/y.rs", "#[path = \"other.rs\"]\nmod z;"),
                ("a/src/w/mod.rs", "mod v;"),
                ("a/src/w/v.rs", ""),
            ]
            .map(|(path, text)| (path.to_owned(), text.to_owned())),
        );
        let problems = check(&sources);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(
            problems
                .iter()
                .any(|problem| problem.contains("a/src/x/mod.rs"))
        );
        assert!(
            problems
                .iter()
                .any(|problem| problem.starts_with("a/src/x/y.rs"))
        );
    }
}

//! No circular modules: what the top-level modules of a crate use of each other has a direction.

use std::collections::{BTreeMap, BTreeSet};

use super::workspace::Texts;

/// A module to the modules it uses.
type Edges = BTreeMap<String, BTreeSet<String>>;

/// The cycles of every crate, one line each.
pub(super) fn check(crates: &BTreeMap<String, Texts>) -> Vec<String> {
    let mut problems = Vec::new();
    for (owner, files) in crates {
        if let Some(cycle) = cycle(&edges(files)) {
            problems.push(format!("{owner}src: {}", cycle.join(" -> ")));
        }
    }
    problems
}

fn edges(files: &Texts) -> Edges {
    let modules: BTreeSet<String> = files.keys().filter_map(|file| module_of(file)).collect();
    let mut edges = Edges::new();
    for (file, text) in files {
        let Some(module) = module_of(file) else {
            continue;
        };
        let used = edges.entry(module.clone()).or_default();
        let mut code = code_of(text);
        if !file.contains('/') || file.ends_with("/mod.rs") && file.matches('/').count() == 1 {
            // Here the parent is the crate. Indented, it would be that of an inner module.
            code = code.replace("\nuse super::", "\nuse crate::");
        }
        for name in names_after_crate(&code) {
            if name != module && modules.contains(&name) {
                used.insert(name);
            }
        }
    }
    edges
}

/// The top-level module that a file belongs to; none for the crate's roots.
fn module_of(file: &str) -> Option<String> {
    let first = file.split('/').next()?;
    match first.strip_suffix(".rs") {
        Some("lib" | "main") => None,
        Some(module) => Some(module.to_owned()),
        None if first == "bin" => None,
        None => Some(first.to_owned()),
    }
}

/// The text without comments, and without the tests at its end (a test may use anything).
fn code_of(text: &str) -> String {
    let mut code = String::new();
    for line in text.lines() {
        if line == "mod tests {" {
            break;
        }
        code.push_str(line.split_once("//").map_or(line, |(before, _)| before));
        code.push('\n');
    }
    code
}

/// Every first name after `crate::`, those of a group in braces each.
fn names_after_crate(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, found) in code.match_indices("crate::") {
        let before = code.get(..at).and_then(|head| head.chars().next_back());
        if before.is_some_and(|before| before.is_alphanumeric() || matches!(before, '_' | '$')) {
            continue;
        }
        let rest = code.get(at + found.len()..).unwrap_or_default();
        match rest.strip_prefix('{') {
            Some(group) => names.extend(names_of_group(group)),
            None => names.push(leading_name(rest)),
        }
    }
    names
}

/// The first names of a `{a::b, c::{d, e}}`, whose opening brace is gone.
fn names_of_group(group: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut depth, mut expecting) = (0_usize, true);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => expecting = true,
            character if expecting && !character.is_whitespace() => {
                names.push(leading_name(group.get(at..).unwrap_or_default()));
                expecting = false;
            }
            _ => {}
        }
    }
    names
}

fn leading_name(text: &str) -> String {
    text.chars()
        .take_while(|character| character.is_alphanumeric() || *character == '_')
        .collect()
}

/// One cycle, from a module back to itself, if there is any.
fn cycle(edges: &Edges) -> Option<Vec<String>> {
    let mut done = BTreeSet::new();
    edges
        .keys()
        .find_map(|start| visit(start, edges, &mut Vec::new(), &mut done))
}

fn visit(
    module: &String,
    edges: &Edges,
    path: &mut Vec<String>,
    done: &mut BTreeSet<String>,
) -> Option<Vec<String>> {
    if let Some(at) = path.iter().position(|visited| visited == module) {
        let mut cycle = path.split_off(at);
        cycle.push(module.clone());
        return Some(cycle);
    }
    if done.contains(module) {
        return None;
    }
    path.push(module.clone());
    for next in edges.get(module).into_iter().flatten() {
        if let Some(cycle) = visit(next, edges, path, done) {
            return Some(cycle);
        }
    }
    path.pop();
    done.insert(module.clone());
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> BTreeMap<String, Texts> {
        let files = list
            .iter()
            .map(|(file, text)| ((*file).to_owned(), (*text).to_owned()));
        BTreeMap::from([("x/".to_owned(), files.collect())])
    }

    #[test]
    fn a_cycle_over_three_modules_and_a_group_is_named() {
        let problems = check(&files(&[
            ("lib.rs", "mod a; mod b; mod c; use crate::a;"),
            ("a.rs", "use crate::{\n    d::X,\n    b::{Y, c},\n};"),
            ("b/deep.rs", "fn f() { crate::c::g() }"),
            ("b/mod.rs", "mod deep;"),
            ("c.rs", "//! Doc.\nuse super::a::X;"),
            ("d.rs", ""),
        ]));
        assert_eq!(problems, ["x/src: a -> b -> c -> a"]);
    }

    #[test]
    fn comments_tests_macros_and_a_module_itself_make_no_cycle() {
        let problems = check(&files(&[
            ("a.rs", "use crate::b::X;\nuse crate::a::y;"),
            ("b/deep.rs", "\nuse super::a;"),
            (
                "b.rs",
                "// crate::a\nm!($crate::a);\n#[cfg(test)]\nmod tests {\n    use crate::a;\n}",
            ),
        ]));
        assert_eq!(problems, Vec::<String>::new());
    }
}

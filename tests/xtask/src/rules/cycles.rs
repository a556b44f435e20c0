//! No circular modules: in every folder of every crate, what its children use of each other has a
//! direction. What lies below a child counts as the child's.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};

use super::{
    modules::{ModulePath, Modules},
    workspace::Texts,
};

/// A child of a folder to the children that it uses, each with the first import that says so.
type Edges = BTreeMap<String, BTreeMap<String, String>>;

/// The circles of every crate, one line each, with the imports that tie it.
pub(super) fn check(crates: &BTreeMap<String, Texts>) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for (root, files) in crates {
        let modules = Modules::read(files).with_context(|| format!("reading {root}"))?;
        for (folder, edges) in edges(&modules) {
            let place = [&[root.trim_end_matches('/').to_owned()][..], &folder]
                .concat()
                .join("/");
            for circle in circles(&edges) {
                problems.push(format!("{place}: {}", ties(&circle, &edges).join("; ")));
            }
        }
    }
    Ok(problems)
}

/// The edges between the children of each folder.
fn edges(modules: &Modules) -> BTreeMap<ModulePath, Edges> {
    let mut folders: BTreeMap<ModulePath, Edges> = BTreeMap::new();
    for (user, module) in &modules.0 {
        for used in modules.uses(user) {
            let common = user
                .iter()
                .zip(&used.of)
                .take_while(|(a, b)| a == b)
                .count();
            // Where one is above the other there are no two children.
            let (Some(from), Some(to)) = (user.get(common), used.of.get(common)) else {
                continue;
            };
            let folder = user.iter().take(common).cloned().collect();
            let edges = folders.entry(folder).or_default();
            let import = || format!("{} in {}", used.path, module.file);
            edges
                .entry(from.clone())
                .or_default()
                .entry(to.clone())
                .or_insert_with(import);
        }
    }
    folders
}

/// The sets of children that all use each other, directly or through others.
fn circles(edges: &Edges) -> BTreeSet<BTreeSet<&str>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> = edges
        .keys()
        .map(|start| (start.as_str(), reached_from(start, edges)))
        .collect();
    let reaches = |a: &str, b: &str| reached.get(a).is_some_and(|there| there.contains(b));
    let circle_of = |start: &&str| -> BTreeSet<&str> {
        let names = reached.keys().copied();
        names
            .filter(|other| reaches(start, other) && reaches(other, start))
            .collect()
    };
    let found = reached.keys().map(circle_of);
    found.filter(|circle| circle.len() > 1).collect()
}

fn reached_from<'e>(start: &'e str, edges: &'e Edges) -> BTreeSet<&'e str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![start];
    while let Some(module) = open.pop() {
        for next in edges.get(module).into_iter().flat_map(BTreeMap::keys) {
            if reached.insert(next.as_str()) {
                open.push(next);
            }
        }
    }
    reached
}

/// The edges within a circle.
fn ties(circle: &BTreeSet<&str>, edges: &Edges) -> Vec<String> {
    let from = edges
        .iter()
        .filter(|(from, _)| circle.contains(from.as_str()));
    from.flat_map(|(from, to)| {
        let within = to.iter().filter(|(to, _)| circle.contains(to.as_str()));
        within.map(move |(to, import)| format!("{from} uses {to} ({import})"))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(list: &[(&str, &str)]) -> Vec<String> {
        let files = list
            .iter()
            .map(|(file, text)| ((*file).to_owned(), (*text).to_owned()));
        check(&BTreeMap::from([("x/src/".to_owned(), files.collect())])).unwrap()
    }

    #[test]
    fn a_circle_at_the_top_is_named_with_its_imports() {
        let found = problems(&[
            ("lib.rs", "mod a; mod b; mod c; use crate::a::X;"),
            ("a.rs", "use crate::{\n    d::X,\n    b::{Y, c},\n};"),
            ("b/deep.rs", "fn f() { crate::c::g() }"),
            ("b/mod.rs", "mod deep;"),
            ("c.rs", "//! Doc.\nuse super::a::X;"),
            ("d.rs", ""),
        ]);
        assert_eq!(
            found,
            [
                "x/src: a uses b (crate::b::Y in a.rs); b uses c (crate::c::g in b/deep.rs); \
              c uses a (super::a::X in c.rs)"
            ]
        );
    }

    #[test]
    fn a_circle_deep_below_is_named() {
        let found = problems(&[
            ("lib.rs", "mod wing;"),
            ("wing/mod.rs", "mod a; mod b;"),
            ("wing/a.rs", "use super::b::inner::X;"),
            ("wing/b/mod.rs", "pub mod inner;"),
            ("wing/b/inner.rs", "use super::super::a;"),
        ]);
        assert_eq!(
            found,
            ["x/src/wing: a uses b (super::b::inner::X in wing/a.rs); \
              b uses a (super::super::a in wing/b/inner.rs)"]
        );
    }

    #[test]
    fn what_is_lent_under_another_module_s_name_comes_from_its_maker() {
        let found = problems(&[
            ("lib.rs", "mod a; mod b; pub use self::a::X as Y;"),
            ("a.rs", "pub struct X; use super::b::Z;"),
            ("b.rs", "use crate::Y; pub struct Z;"),
        ]);
        assert_eq!(
            found,
            ["x/src: a uses b (super::b::Z in a.rs); b uses a (crate::Y in b.rs)"]
        );
    }

    #[test]
    fn a_path_in_a_macro_counts() {
        let found = problems(&[
            ("a.rs", "fn f() { println!(\"{}\", crate::b::NAME); }"),
            ("b.rs", "use super::a;"),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn comments_tests_foreign_macros_and_a_module_itself_make_no_circle() {
        let found = problems(&[
            ("lib.rs", "mod a; mod b; #[cfg(test)] mod made;"),
            ("a.rs", "use crate::b::X;\nuse crate::a::y;"),
            ("b/deep.rs", "use super::Own;"),
            (
                "b/mod.rs",
                "mod deep;\n// crate::a\nm!($crate::a);\n#[cfg(test)]\n#[path = \"b_tests.rs\"]\n\
                 mod tests;\n#[cfg(test)] mod inner { use crate::a; }",
            ),
            ("b/b_tests.rs", "use crate::a;"),
            ("made.rs", "use crate::a;"),
        ]);
        assert_eq!(found, Vec::<String>::new());
    }
}

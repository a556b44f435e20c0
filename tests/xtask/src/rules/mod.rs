//! The house rules that no other tool checks, each a pure function over what was read.

mod booleans;
mod cycles;
mod layout;
mod licence;
mod modules;
mod purity;
mod size;
mod supply;
mod words;
pub(crate) mod workspace;

use anyhow::Result;

use self::workspace::Workspace;

/// A rule: the problems that it sees, a line each.
type Rule = fn(&Workspace) -> Result<Vec<String>>;

/// Every rule and its name.
pub(crate) const ALL: [(&str, Rule); 7] = [
    ("house rule: small files", |workspace| {
        Ok(size::check(&workspace.sources, &workspace.design_notes))
    }),
    ("house rule: no circular modules", |workspace| {
        cycles::check(&workspace.crates()?)
    }),
    ("house rule: no boolean parameters", |workspace| {
        booleans::check(&workspace.crates()?)
    }),
    ("house rule: one layout", |workspace| {
        Ok(layout::check(&workspace.sources))
    }),
    ("house rule: pure crates", |workspace| {
        purity::check(&workspace.metadata)
    }),
    ("house rule: words", |workspace| {
        Ok(words::check(&workspace.texts))
    }),
    ("supply chain", |workspace| {
        supply::check(&workspace.metadata, &workspace.deny)
    }),
];

//! The modules of a crate, and what each of them uses of the others, read from the source. Tests are
//! left out: a test may use anything.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Attribute, Item, ItemMod, ItemUse, Macro, UseTree, Visibility,
    visit::{self, Visit},
};

use super::workspace::Texts;

/// A module's names from the root of its crate on.
pub(super) type ModulePath = Vec<String>;

/// A module, and what it says of others.
#[derive(Default)]
pub(super) struct Module {
    /// Its file, relative to the root of the crate.
    pub(super) file: String,
    /// The paths that it names, as they stand there.
    names: Vec<Vec<String>>,
    /// What it lends to others under a name of its own: the name, and the path behind it.
    lends: BTreeMap<String, Vec<String>>,
}

/// The modules of one crate.
#[derive(Default)]
pub(super) struct Modules(pub(super) BTreeMap<ModulePath, Module>);

/// One use of a module by another.
pub(super) struct Use {
    /// The module that is used.
    pub(super) of: ModulePath,
    /// The path by which it is named.
    pub(super) path: String,
}

impl Modules {
    /// Reads the files of a crate, by their paths relative to the crate's root.
    ///
    /// # Errors
    /// A file that is no Rust.
    pub(super) fn read(files: &Texts) -> Result<Self> {
        let mut modules = BTreeMap::new();
        let mut tests = Vec::new();
        for (file, text) in files.iter().filter(|(file, _)| !file.starts_with("bin/")) {
            let parsed = syn::parse_file(text).with_context(|| format!("{file} is no Rust"))?;
            let path = path_of(file);
            let mut reader = Reader {
                at: path.clone(),
                module: Module {
                    file: file.clone(),
                    ..Module::default()
                },
                tests: Vec::new(),
            };
            reader.visit_file(&parsed);
            tests.extend(reader.tests);
            // A library and a program may share their root.
            let known: &mut Module = modules.entry(path).or_default();
            known.file = reader.module.file;
            known.names.extend(reader.module.names);
            known.lends.extend(reader.module.lends);
        }
        modules.retain(|path, _| !tests.iter().any(|test| path.starts_with(test)));
        Ok(Self(modules))
    }

    /// What `user` uses of other modules.
    pub(super) fn uses(&self, user: &ModulePath) -> Vec<Use> {
        let names = self.0.get(user).map_or(&[][..], |module| &module.names);
        let found = names.iter().filter_map(|name| {
            let of = self.resolve(user, name, 0)?;
            let path = name.join("::");
            (of != *user).then_some(Use { of, path })
        });
        found.collect()
    }

    /// The module that a path leads to, as it stands in the module `at`.
    fn resolve(&self, at: &ModulePath, name: &[String], depth: usize) -> Option<ModulePath> {
        /// So many modules may lend each other one thing.
        const DEPTH: usize = 8;
        let (mut module, mut rest) = match name.first()?.as_str() {
            "crate" => (Vec::new(), name.get(1..)?),
            "self" => (at.clone(), name.get(1..)?),
            "super" => (at.clone(), name),
            child => {
                let mut below = at.clone();
                below.push(child.to_owned());
                self.0.get(&below)?;
                (at.clone(), name)
            }
        };
        while let Some((first, behind)) = rest.split_first() {
            if first == "super" {
                module.pop()?;
            } else {
                module.push(first.clone());
                if !self.0.contains_key(&module) {
                    module.pop();
                    break;
                }
            }
            rest = behind;
        }
        // What a module only lends comes from where it is made.
        if let Some(first) = rest.first()
            && depth < DEPTH
            && let Some(behind) = self
                .0
                .get(&module)
                .and_then(|lender| lender.lends.get(first))
            && let Some(maker) = self.resolve(&module, behind, depth + 1)
        {
            return Some(maker);
        }
        Some(module)
    }
}

/// The module that a file is.
fn path_of(file: &str) -> ModulePath {
    let stem = file.strip_suffix(".rs").unwrap_or(file);
    let mut path: ModulePath = stem.split('/').map(str::to_owned).collect();
    if path
        .last()
        .is_some_and(|last| matches!(last.as_str(), "mod" | "lib" | "main"))
    {
        path.pop();
    }
    path
}

/// Reads one file.
struct Reader {
    at: ModulePath,
    module: Module,
    /// Modules with files of their own that are tests.
    tests: Vec<ModulePath>,
}

impl Reader {
    /// Takes over the paths of a `use`.
    fn take(&mut self, tree: &UseTree, prefix: &[String], lends: bool) {
        let with = |name: &syn::Ident| [prefix, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.take(&path.tree, &with(&path.ident), lends),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.take(tree, prefix, lends);
                }
            }
            UseTree::Glob(_) => self.module.names.push(prefix.to_vec()),
            UseTree::Name(name) => self.take_name(&name.ident, with(&name.ident), prefix, lends),
            UseTree::Rename(name) => self.take_name(&name.rename, with(&name.ident), prefix, lends),
        }
    }

    fn take_name(&mut self, name: &syn::Ident, path: Vec<String>, prefix: &[String], lends: bool) {
        // `use a::{self}` is of `a`.
        let path = if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            prefix.to_vec()
        } else {
            path
        };
        if lends {
            self.module.lends.insert(name.to_string(), path.clone());
        }
        self.module.names.push(path);
    }

    /// Takes over the paths in what is handed to a macro, which nobody has parsed.
    fn take_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let (mut colons, mut foreign) = (0, false);
        for token in tokens {
            match token {
                TokenTree::Ident(name) if colons == 2 || path.is_empty() => {
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
                other => {
                    self.end_path(&mut path, foreign);
                    colons = 0;
                    // `$crate` is the crate of a macro's writer.
                    foreign = matches!(&other, TokenTree::Punct(mark) if mark.as_char() == '$');
                    match other {
                        TokenTree::Group(group) => self.take_tokens(group.stream()),
                        TokenTree::Ident(name) => path.push(name.to_string()),
                        _ => {}
                    }
                }
            }
        }
        self.end_path(&mut path, foreign);
    }

    fn end_path(&mut self, path: &mut Vec<String>, foreign: bool) {
        let path = std::mem::take(path);
        if path.len() > 1 && !foreign {
            self.module.names.push(path);
        }
    }

    /// Notes the modules that are only there for tests.
    fn note_test(&mut self, item: &ItemMod) {
        let file = item.attrs.iter().find_map(|attribute| {
            let syn::Meta::NameValue(value) = &attribute.meta else {
                return None;
            };
            let syn::Expr::Lit(literal) = &value.value else {
                return None;
            };
            match &literal.lit {
                syn::Lit::Str(file) if attribute.path().is_ident("path") => Some(file.value()),
                _ => None,
            }
        });
        let path = match file {
            Some(file) => {
                let folder = self
                    .module
                    .file
                    .rsplit_once('/')
                    .map_or("", |(folder, _)| folder);
                path_of(format!("{folder}/{file}").trim_start_matches('/'))
            }
            None => [&self.at[..], &[item.ident.to_string()]].concat(),
        };
        self.tests.push(path);
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        if is_for_tests(item) {
            if let Item::Mod(module) = item {
                self.note_test(module);
            }
            return;
        }
        visit::visit_item(self, item);
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.take(&item.tree, &[], !matches!(item.vis, Visibility::Inherited));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() && path.segments.len() > 1 {
            let names = path
                .segments
                .iter()
                .map(|segment| segment.ident.to_string());
            self.module.names.push(names.collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.take_tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }

    // `pub(in crate::x)` uses nothing.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}
}

/// Whether an item is only there for tests.
pub(super) fn is_for_tests(item: &Item) -> bool {
    attributes(item).iter().any(is_test)
}

fn is_test(attribute: &Attribute) -> bool {
    let names_test = |list: &syn::MetaList| {
        let names: Vec<String> = list
            .tokens
            .clone()
            .into_iter()
            .map(|t| t.to_string())
            .collect();
        names.iter().any(|name| name == "test")
    };
    attribute.path().is_ident("cfg") && attribute.meta.require_list().is_ok_and(names_test)
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

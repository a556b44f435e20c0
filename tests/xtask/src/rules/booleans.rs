//! No boolean parameters in functions that other modules call: at the call, `true` says nothing.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use syn::{
    FnArg, ImplItemFn, Item, ItemFn, ItemTrait, Pat, Signature, TraitItem, Type, Visibility,
    visit::{self, Visit},
};

use super::{modules, workspace::Texts};

/// The functions with such parameters, a line each.
pub(super) fn check(crates: &BTreeMap<String, Texts>) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for (root, files) in crates {
        for (file, text) in files {
            let parsed =
                syn::parse_file(text).with_context(|| format!("{root}{file} is no Rust"))?;
            let mut reader = Reader::default();
            reader.visit_file(&parsed);
            let found = reader.found.into_iter();
            problems.extend(found.map(|found| format!("{root}{file}: {found}")));
        }
    }
    Ok(problems)
}

/// Reads one file.
#[derive(Default)]
struct Reader {
    found: Vec<String>,
}

impl Reader {
    fn look(&mut self, visibility: &Visibility, signature: &Signature) {
        if matches!(visibility, Visibility::Inherited) {
            return;
        }
        for argument in &signature.inputs {
            let FnArg::Typed(argument) = argument else {
                continue;
            };
            if is_boolean(&argument.ty) {
                let name = match &*argument.pat {
                    Pat::Ident(name) => name.ident.to_string(),
                    _ => "a parameter".to_owned(),
                };
                self.found
                    .push(format!("fn {}: {name} is a boolean", signature.ident));
            }
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        if !modules::is_for_tests(item) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.look(&function.vis, &function.sig);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        self.look(&function.vis, &function.sig);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_item_trait(&mut self, of: &'ast ItemTrait) {
        for item in &of.items {
            if let TraitItem::Fn(function) = item {
                self.look(&of.vis, &function.sig);
            }
        }
        visit::visit_item_trait(self, of);
    }
}

fn is_boolean(of: &Type) -> bool {
    match of {
        Type::Path(path) => path.path.is_ident("bool"),
        Type::Reference(reference) => is_boolean(&reference.elem),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let files = Texts::from([("a.rs".to_owned(), text.to_owned())]);
        check(&BTreeMap::from([("x/src/".to_owned(), files)])).unwrap()
    }

    #[test]
    fn a_function_a_method_and_a_trait_s_are_named() {
        let found = problems(
            "pub fn one(name: &str, deep: bool) {}\n\
             impl X { pub(crate) async fn two(&self, polite: &bool) {} }\n\
             pub trait Y { fn three(&self, able: bool); }\n\
             mod inner { pub(super) const fn four(last: bool) {} }",
        );
        assert_eq!(
            found,
            [
                "x/src/a.rs: fn one: deep is a boolean",
                "x/src/a.rs: fn two: polite is a boolean",
                "x/src/a.rs: fn three: able is a boolean",
                "x/src/a.rs: fn four: last is a boolean",
            ]
        );
    }

    #[test]
    fn what_is_private_or_of_another_s_trait_or_a_test_may_have_them() {
        let found = problems(
            "fn one(deep: bool) {}\n\
             trait Y { fn three(&self, able: bool); }\n\
             impl Y for X { fn three(&self, able: bool) {} }\n\
             pub fn is_so() -> bool { true }\n\
             pub struct Flags { pub watch: bool }\n\
             #[cfg(test)] mod tests { pub fn made(full: bool) {} }",
        );
        assert_eq!(found, Vec::<String>::new());
    }
}

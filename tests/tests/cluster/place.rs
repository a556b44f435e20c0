//! What differs between clusters, by variables that `cargo xtask test` sets from its options.
//!
//! They are known when the tests are built, as tests have these names in lists of words; cargo
//! builds anew what reads a variable that has changed.

/// The class that volumes come from.
pub(crate) const OLD: &str = or(option_env!("LIVMIG_FROM_CLASS"), "old");
/// The class that volumes go to.
pub(crate) const NEW: &str = or(option_env!("LIVMIG_TO_CLASS"), "new");
/// The image of workloads, with bash and coreutils.
pub(crate) const IMAGE: &str = or(option_env!("LIVMIG_TEST_IMAGE"), "livmig.io/test/git:1");
/// The movers' image, where it is not the one that livmig-coord names by itself.
const MOVER_IMAGE: Option<&str> = option_env!("LIVMIG_MOVER_IMAGE");

const fn or(given: Option<&'static str>, otherwise: &'static str) -> &'static str {
    match given {
        Some(given) => given,
        None => otherwise,
    }
}

/// What livmig-coord is told of the movers' image beside `arguments`, which may name one.
pub(crate) fn mover_image(arguments: &[&str]) -> Vec<&'static str> {
    const OPTION: &str = "--mover-image";
    let starts_movers = matches!(arguments.first(), Some(&("plan" | "migrate")));
    match MOVER_IMAGE {
        Some(image) if starts_movers && !arguments.contains(&OPTION) => vec![OPTION, image],
        _ => Vec::new(),
    }
}

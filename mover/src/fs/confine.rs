//! Confinement: the kernel refuses this process every path outside what it works on (Landlock).
//!
//! A second wall behind resolution below handles. It must be raised before the threads start, for
//! a thread inherits it from its maker. Reading attributes through /proc needs no permission
//! here: Landlock rules on opening and changing, not on resolving.

use std::{
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
};

use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus,
};

/// Confines this process to reading below the directories `read` and doing anything below `write`,
/// which are held, so that it is not asked again where their paths lead. What came of
/// it, for people: full, partial, or not supported by this kernel. Never fails: the mover is
/// safe without, and a report says so.
pub fn confine(read: &[BorrowedFd<'_>], write: &[BorrowedFd<'_>]) -> String {
    // The second ABI lets entries move between directories, the third rules on truncation.
    let abi = ABI::V3;
    let rule = |path: &Path, access| {
        PathFd::new(path)
            .ok()
            .map(|fd| Ok::<_, landlock::RulesetError>(PathBeneath::new(fd, access)))
    };
    let held = |fd: &BorrowedFd<'_>, access| {
        let fd = fd.as_fd().try_clone_to_owned().ok()?;
        Some(Ok::<_, landlock::RulesetError>(PathBeneath::new(
            fd, access,
        )))
    };
    let readable = AccessFs::from_read(abi) & !AccessFs::Execute;
    // What the standard library and the C library may open while we run.
    let system = [
        Path::new("/proc/self"),
        Path::new("/sys/devices/system/cpu"),
        Path::new("/sys/fs/cgroup"),
    ];
    // What a statically linked program takes its randomness from: without a dynamic linker it does
    // not find the C library's own call. And how busy the machine is.
    let files = ["/dev/random", "/dev/urandom", "/proc/stat"].map(Path::new);
    // Without the second version's right every link between directories would be refused.
    let links_allowed = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::Refer);
    if links_allowed.is_err() {
        return "no landlock that allows links between directories in this kernel".to_owned();
    }
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))
        .and_then(Ruleset::create)
        .and_then(|rules| {
            rules
                .add_rules(system.iter().filter_map(|path| rule(path, readable)))?
                .add_rules(read.iter().filter_map(|fd| held(fd, readable)))?
                .add_rules(
                    files
                        .iter()
                        .filter_map(|path| rule(path, AccessFs::ReadFile.into())),
                )?
                .add_rules(
                    write
                        .iter()
                        .filter_map(|fd| held(fd, AccessFs::from_all(abi))),
                )?
                .restrict_self()
        });
    match status.map(|status| status.ruleset) {
        Ok(RulesetStatus::FullyEnforced) => "landlock".to_owned(),
        Ok(RulesetStatus::PartiallyEnforced) => "landlock, in part".to_owned(),
        Ok(RulesetStatus::NotEnforced) => "no landlock in this kernel".to_owned(),
        Err(error) => format!("no landlock: {error}"),
    }
}

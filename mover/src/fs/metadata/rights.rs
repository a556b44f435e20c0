//! What this process may do beside what owners may: its capabilities, not its user, decide that.

use std::sync::LazyLock;

use rustix::thread::{CapabilitySet, capabilities};

/// Whether this process may read, write and change what belongs to others or is locked away by its
/// mode. Root without capabilities may not, whatever its number.
pub fn overrides_permissions() -> bool {
    *OVERRIDES
}

static OVERRIDES: LazyLock<bool> = LazyLock::new(|| {
    capabilities(None).map_or_else(
        // Where that cannot be asked, the number has to do.
        |_| rustix::process::geteuid().is_root(),
        |sets| {
            let needed = CapabilitySet::DAC_OVERRIDE | CapabilitySet::FOWNER;
            sets.effective.contains(needed)
        },
    )
});

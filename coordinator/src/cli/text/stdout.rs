//! Whether the program was started without standard output. Before `main` the standard library opens
//! `/dev/null` in its place, and a document that is printed there would count as delivered.

use std::sync::atomic::{AtomicBool, Ordering};

static MISSING: AtomicBool = AtomicBool::new(false);

/// Whether nobody gave this program a standard output.
pub(crate) fn is_missing() -> bool {
    MISSING.load(Ordering::Relaxed)
}

/// Runs before `main`, when nothing was opened yet.
extern "C" fn look() {
    let missing = rustix::io::fcntl_getfd(rustix::stdio::stdout()).is_err();
    MISSING.store(missing, Ordering::Relaxed);
}

#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

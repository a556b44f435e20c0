//! Paths and names as people read them: they come from a volume or another process, and may hold
//! anything, escapes of a terminal among it.

use std::{
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use livmig_proto::{limits::LISTED_MAX, name::escape};

/// A path, with what is no text escaped.
pub(super) fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_bytes())
}

/// Some of `paths`.
pub(super) fn listed(paths: &[PathBuf]) -> String {
    let named: Vec<String> = paths
        .iter()
        .take(LISTED_MAX)
        .map(|path| shown(path))
        .collect();
    let more = match paths.len() - named.len() {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    format!("{}{more}", named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_is_called_forges_no_line() {
        let path = Path::new("/v/a\nerror: \u{1b}[31mfake");
        let shown = listed(&[path.to_owned()]);
        assert!(!shown.contains(['\n', '\u{1b}']), "{shown:?}");
        assert!(shown.starts_with("/v/a"), "{shown}");
    }
}

//! Names: one component of a path, and paths relative to a volume's root, as bytes.
//!
//! A name that exists as a value can be handed to the kernel relative to a directory handle: it
//! is not empty, not `.` or `..`, holds no `/` and no NUL, and fits `NAME_MAX`.

use std::{ffi::OsStr, fmt, fmt::Write as _, os::unix::ffi::OsStrExt as _};

use crate::limits::{DEPTH_MAX, NAME_MAX, PATH_BYTES_MAX};

/// One component of a path.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Name(Box<[u8]>);

/// Why bytes are not a name or a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NameError {
    /// No bytes at all.
    #[error("name is empty")]
    Empty,
    /// `.` or `..`.
    #[error("name is a relative directory reference")]
    Dots,
    /// Holds `/` or NUL.
    #[error("name holds a slash or a NUL byte")]
    Forbidden,
    /// Longer than `NAME_MAX`.
    #[error("name is longer than {NAME_MAX} bytes")]
    TooLong,
    /// More components or bytes than [`DEPTH_MAX`] or [`PATH_BYTES_MAX`].
    #[error("path is deeper than {DEPTH_MAX} components or longer than {PATH_BYTES_MAX} bytes")]
    TooDeep,
}

impl Name {
    /// The name in `bytes`.
    ///
    /// # Errors
    /// When they are not a single, ordinary component.
    pub fn new(bytes: &[u8]) -> Result<Self, NameError> {
        Self::check(bytes)?;
        Ok(Self(bytes.into()))
    }

    fn check(bytes: &[u8]) -> Result<(), NameError> {
        match bytes {
            [] => Err(NameError::Empty),
            b"." | b".." => Err(NameError::Dots),
            _ if bytes.len() > NAME_MAX => Err(NameError::TooLong),
            _ if bytes.iter().any(|byte| matches!(byte, b'/' | 0)) => Err(NameError::Forbidden),
            _ => Ok(()),
        }
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// It, as the operating system takes it.
    pub fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }
}

impl AsRef<Self> for Name {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", escape(&self.0))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.0))
    }
}

/// A path relative to the root: zero or more names. The root itself is the empty path.
#[derive(Clone, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RelPath(Vec<u8>);

impl RelPath {
    /// The root.
    pub const ROOT: Self = Self(Vec::new());

    /// The path in `bytes`: names joined by single slashes, or nothing for the root.
    ///
    /// # Errors
    /// When a component is no name, or the path exceeds its bounds.
    pub fn new(bytes: &[u8]) -> Result<Self, NameError> {
        if bytes.is_empty() {
            return Ok(Self::ROOT);
        }
        if bytes.len() > PATH_BYTES_MAX {
            return Err(NameError::TooDeep);
        }
        for (depth, component) in bytes.split(|byte| *byte == b'/').enumerate() {
            if depth >= DEPTH_MAX {
                return Err(NameError::TooDeep);
            }
            Name::check(component)?;
        }
        Ok(Self(bytes.to_vec()))
    }

    /// The path of `name` in this directory.
    ///
    /// # Errors
    /// When the path would exceed its bounds.
    pub fn child(&self, name: &Name) -> Result<Self, NameError> {
        let separator = usize::from(!self.is_root());
        if self.0.len() + separator + name.0.len() > PATH_BYTES_MAX || self.is_deepest() {
            return Err(NameError::TooDeep);
        }
        let mut bytes = Vec::with_capacity(self.0.len() + separator + name.0.len());
        bytes.extend_from_slice(&self.0);
        bytes.extend(std::iter::repeat_n(b'/', separator));
        bytes.extend_from_slice(&name.0);
        Ok(Self(bytes))
    }

    /// The directory that holds this path, and its name there; nothing for the root.
    pub fn split(&self) -> Option<(Self, Name)> {
        let (parent, name) = match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (self.0.get(..slash)?, self.0.get(slash + 1..)?),
            None => (&[][..], self.0.as_slice()),
        };
        Some((Self(parent.to_vec()), Name::new(name).ok()?))
    }

    /// Whether it is as deep as a path may be. A short one is not, without counting.
    fn is_deepest(&self) -> bool {
        self.0.len() + 1 >= 2 * DEPTH_MAX && self.depth() >= DEPTH_MAX
    }

    /// How many names it has.
    pub fn depth(&self) -> usize {
        if self.is_root() {
            0
        } else {
            1 + slashes(&self.0)
        }
    }

    /// Whether it has more than `names` names.
    pub fn is_deeper_than(&self, names: usize) -> bool {
        // A name takes two bytes at least, its slash included.
        self.0.len() + 1 >= 2 * names && self.components().nth(names).is_some()
    }

    /// The directory that `up` names taken off its end leave; nothing where it has fewer.
    pub fn ancestor(&self, up: usize) -> Option<Self> {
        let mut left = self.0.as_slice();
        for _ in 0..up {
            if left.is_empty() {
                return None;
            }
            let end = left.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            left = left.get(..end)?;
        }
        Some(Self(left.to_vec()))
    }

    /// The path of `below`, names joined by slashes or nothing, in this directory.
    ///
    /// # Errors
    /// When those are no names, or the path would exceed its bounds.
    pub fn join(&self, below: &[u8]) -> Result<Self, NameError> {
        let below = Self::new(below)?;
        if below.is_root() {
            return Ok(self.clone());
        }
        if self.is_root() {
            return Ok(below);
        }
        let len = self.0.len() + 1 + below.0.len();
        if len > PATH_BYTES_MAX
            || len + 1 >= 2 * DEPTH_MAX && self.depth() + below.depth() > DEPTH_MAX
        {
            return Err(NameError::TooDeep);
        }
        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(&self.0);
        bytes.push(b'/');
        bytes.extend_from_slice(&below.0);
        Ok(Self(bytes))
    }

    /// Bytes of the longest path that leads to both this and `other`: an end of a name in each.
    pub fn common(&self, other: &Self) -> usize {
        let same = same_bytes(&self.0, &other.0);
        let is_end = |path: &Self| matches!(path.0.get(same), None | Some(b'/'));
        if is_end(self) && is_end(other) {
            return same;
        }
        let shared = self.0.get(..same).unwrap_or_default();
        shared.iter().rposition(|byte| *byte == b'/').unwrap_or(0)
    }

    /// Its names after the first `bytes`, an end of a name, as a path.
    pub fn beyond(&self, bytes: usize) -> &[u8] {
        let beyond = self.0.get(bytes..).unwrap_or_default();
        beyond.strip_prefix(b"/").unwrap_or(beyond)
    }

    /// How many names those are.
    pub fn depth_beyond(&self, bytes: usize) -> usize {
        match self.beyond(bytes) {
            [] => 0,
            beyond => 1 + slashes(beyond),
        }
    }

    /// Its names, outermost first.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0
            .split(|byte| *byte == b'/')
            .filter(|component| !component.is_empty())
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Its bytes, names joined by slashes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            f.write_str(".")
        } else {
            f.write_str(&escape(&self.0))
        }
    }
}

/// How many bytes `one` and `other` begin alike with. Most of two neighbours is, so it is compared in
/// pieces.
fn same_bytes(one: &[u8], other: &[u8]) -> usize {
    const PIECE: usize = 256;
    let pieces = one.chunks(PIECE).zip(other.chunks(PIECE));
    let same = PIECE * pieces.take_while(|(one, other)| one == other).count();
    // The last pieces of both may have been alike and short.
    let same = same.min(one.len()).min(other.len());
    let (one, other) = (one.get(same..), other.get(same..));
    let rest = one.unwrap_or_default().iter();
    let rest = rest.zip(other.unwrap_or_default());
    same + rest.take_while(|(one, other)| one == other).count()
}

fn slashes(bytes: &[u8]) -> usize {
    bytes.split(|byte| *byte == b'/').count() - 1
}

/// `bytes` as text that is safe on a terminal and in a log: valid, printable text stays, every
/// other byte becomes an escape.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            // Bidirectional controls reorder what a terminal shows.
            let reorders = matches!(character, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if character.is_control() || character == '\\' || reorders {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_single_ordinary_components_are_names() {
        for bad in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0", &[b'x'; 256]] {
            assert!(Name::new(bad).is_err(), "{bad:?}");
        }
        for good in [&b"..."[..], b"-", b"a\nb", b"\xff", b" ", &[b'x'; 255]] {
            assert_eq!(Name::new(good).unwrap().as_bytes(), good);
        }
    }

    #[test]
    fn paths_take_apart_and_join() {
        let path = RelPath::new(b"a/b/c").unwrap();
        let (parent, name) = path.split().unwrap();
        assert_eq!(
            (parent.as_bytes(), name.as_bytes()),
            (&b"a/b"[..], &b"c"[..])
        );
        assert_eq!(parent.child(&name).unwrap(), path);
        assert_eq!(RelPath::ROOT.split(), None);
        assert_eq!(RelPath::ROOT.child(&name).unwrap().as_bytes(), b"c");
        for bad in [&b"/a"[..], b"a/", b"a//b", b"a/../b", b"./a"] {
            assert!(RelPath::new(bad).is_err(), "{bad:?}");
        }
        assert!(RelPath::new(&b"a/".repeat(DEPTH_MAX + 1)).is_err());
    }

    #[test]
    fn the_deepest_path_has_no_child_whatever_its_names() {
        for name in [&b"a"[..], b"several"] {
            let name = Name::new(name).unwrap();
            let mut path = RelPath::ROOT;
            for depth in 0..DEPTH_MAX {
                assert_eq!(path.depth(), depth);
                assert!(path.is_deeper_than(depth.saturating_sub(1)) || depth == 0);
                assert!(!path.is_deeper_than(depth));
                path = path.child(&name).unwrap();
            }
            assert_eq!(path.child(&name), Err(NameError::TooDeep));
            assert_eq!(path.join(b"x"), Err(NameError::TooDeep));
            let parent = path.ancestor(1).unwrap();
            assert_eq!(parent.join(name.as_bytes()).unwrap(), path);
            assert_eq!(path.ancestor(DEPTH_MAX), Some(RelPath::ROOT));
            assert_eq!(path.ancestor(DEPTH_MAX + 1), None);
        }
        let long = Name::new(&[b'n'; NAME_MAX]).unwrap();
        let mut path = RelPath::ROOT;
        while let Ok(below) = path.child(&long) {
            path = below;
        }
        assert_eq!(path.as_bytes().len(), PATH_BYTES_MAX - 1);
    }

    #[test]
    fn what_two_paths_share_ends_with_a_name() {
        let path = |text: &str| RelPath::new(text.as_bytes()).unwrap();
        for (one, other, shared) in [
            ("a/b", "a/b", 3),
            ("a/b", "a/b/c", 3),
            ("a/b", "a/bc", 1),
            ("a", "b", 0),
            ("", "a", 0),
        ] {
            let (one, other) = (path(one), path(other));
            assert_eq!((one.common(&other), other.common(&one)), (shared, shared));
        }
        assert_eq!(path("a/b/c").beyond(1), b"b/c");
        assert_eq!(path("a/b/c").depth_beyond(1), 2);
        assert_eq!(path("a").depth_beyond(1), 0);
    }

    #[test]
    fn what_is_shown_cannot_command_a_terminal() {
        assert_eq!(escape("größe".as_bytes()), "größe");
        assert_eq!(escape(b"a\nb\x1b[2J\xff\\"), "a\\nb\\u{1b}[2J\\xff\\\\");
        assert_eq!(escape("\u{202e}x".as_bytes()), "\\u{202e}x");
    }
}

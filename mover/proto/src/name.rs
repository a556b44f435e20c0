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
        match bytes {
            [] => Err(NameError::Empty),
            b"." | b".." => Err(NameError::Dots),
            _ if bytes.len() > NAME_MAX => Err(NameError::TooLong),
            _ if bytes.iter().any(|byte| matches!(byte, b'/' | 0)) => Err(NameError::Forbidden),
            _ => Ok(Self(bytes.into())),
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
            Name::new(component)?;
        }
        Ok(Self(bytes.to_vec()))
    }

    /// The path of `name` in this directory.
    ///
    /// # Errors
    /// When the path would exceed its bounds.
    pub fn child(&self, name: &Name) -> Result<Self, NameError> {
        let separator = usize::from(!self.is_root());
        if self.0.len() + separator + name.0.len() > PATH_BYTES_MAX
            || self.components().count() >= DEPTH_MAX
        {
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
    fn what_is_shown_cannot_command_a_terminal() {
        assert_eq!(escape("größe".as_bytes()), "größe");
        assert_eq!(escape(b"a\nb\x1b[2J\xff\\"), "a\\nb\\u{1b}[2J\\xff\\\\");
        assert_eq!(escape("\u{202e}x".as_bytes()), "\\u{202e}x");
    }
}

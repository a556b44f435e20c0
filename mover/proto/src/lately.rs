//! Paths as they differ from those that were spoken of lately: what is said of a tree, directory by
//! directory, is as long as the tree, however deep it is.
//!
//! Both ends of an ordered stream keep a [`Lately`] of their own. One says by [`Lately::refer`]
//! where it is, the other understands it by [`Lately::resolve`], and both remember it then.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::{
    hex,
    limits::LATELY_MAX,
    name::RelPath,
    wire::{DecodeError, Decoder, Encoder},
};

/// A path, as it differs from one that was spoken of lately.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Relative {
    /// Which one, the last of them first; beyond it means the root, where nothing was said yet.
    from: u8,
    /// How many names are taken off its end.
    up: u16,
    /// The names that come instead, as a path.
    #[serde(with = "hex::vec")]
    below: Vec<u8>,
}

/// The paths that one stream spoke of lately.
#[derive(Clone, Debug, Default)]
pub struct Lately(VecDeque<RelPath>);

/// What stands for the root among those that were spoken of.
const ROOT: u8 = u8::MAX;

impl Relative {
    /// The whole of `path`, whatever was spoken of.
    pub fn whole(path: &RelPath) -> Self {
        Self {
            from: ROOT,
            up: 0,
            below: path.as_bytes().to_vec(),
        }
    }

    /// Bytes of names in it.
    pub fn len(&self) -> usize {
        self.below.len()
    }

    /// Whether it names nothing new.
    pub fn is_empty(&self) -> bool {
        self.below.is_empty()
    }

    /// Appends its bytes.
    pub fn encode(&self, out: &mut Encoder) {
        out.u8(self.from);
        out.u16(self.up);
        out.bytes(&self.below);
    }

    /// Takes its bytes. Whether they lead anywhere shows when they are resolved.
    ///
    /// # Errors
    /// When they are too few, or more than a path has.
    pub fn decode(input: &mut Decoder) -> Result<Self, DecodeError> {
        Ok(Self {
            from: input.u8()?,
            up: input.u16()?,
            below: input.bytes(crate::limits::PATH_BYTES_MAX)?.to_vec(),
        })
    }
}

impl Lately {
    /// Nothing was spoken of yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// `path`, as the other end will understand it.
    pub fn refer(&mut self, path: &RelPath) -> Relative {
        let mut best = (ROOT, 0);
        for (from, said) in (0..ROOT).zip(&self.0) {
            let common = said.common(path);
            if common > best.1 {
                best = (from, common);
            }
        }
        let (from, common) = best;
        let up = self
            .0
            .get(usize::from(from))
            .map_or(0, |said| said.depth_beyond(common));
        let relative = Relative {
            from,
            up: u16::try_from(up).unwrap_or(u16::MAX),
            below: path.beyond(common).to_vec(),
        };
        self.remember(from, path);
        relative
    }

    /// The path that the other end meant.
    ///
    /// # Errors
    /// When there is none: nothing of the kind was spoken of, or it would be out of bounds.
    pub fn resolve(&mut self, relative: &Relative) -> Result<RelPath, DecodeError> {
        let base = if relative.from == ROOT {
            RelPath::ROOT
        } else {
            let said = self.0.get(usize::from(relative.from));
            said.cloned().ok_or(DecodeError::Invalid("path"))?
        };
        let path = base
            .ancestor(usize::from(relative.up))
            .ok_or(DecodeError::Invalid("path"))?
            .join(&relative.below)?;
        self.remember(relative.from, &path);
        Ok(path)
    }

    /// What was said last comes first, once.
    fn remember(&mut self, from: u8, path: &RelPath) {
        let at = usize::from(from);
        let said = if self.0.get(at) == Some(path) {
            self.0.remove(at)
        } else {
            None
        };
        self.0.push_front(said.unwrap_or_else(|| path.clone()));
        self.0.truncate(LATELY_MAX);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::{DEPTH_MAX, PATH_BYTES_MAX};

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).unwrap()
    }

    fn crossed(relative: &Relative) -> Relative {
        let mut out = Encoder::new();
        relative.encode(&mut out);
        let mut input = Decoder::new(out.into_bytes());
        let decoded = Relative::decode(&mut input).unwrap();
        input.finish().unwrap();
        decoded
    }

    #[test]
    fn what_is_said_is_as_long_as_the_way() {
        let mut lately = Lately::new();
        let mut deep = RelPath::ROOT;
        let name = crate::name::Name::new(b"name").unwrap();
        for _ in 0..1000 {
            deep = deep.child(&name).unwrap();
            assert_eq!(lately.refer(&deep).len(), 4);
        }
        while let Some((parent, _)) = deep.split() {
            deep = parent;
            assert!(lately.refer(&deep).is_empty());
        }
        // Of as many ways at once as there are lanes.
        let mut ways: Vec<RelPath> = (0..8).map(|way| path(&format!("way{way}"))).collect();
        for _ in 0..100 {
            for way in &mut ways {
                *way = way.child(&name).unwrap();
                assert!(lately.refer(way).len() <= 9);
            }
        }
    }

    #[test]
    fn names_that_begin_alike_are_not_alike() {
        let mut lately = Lately::new();
        lately.refer(&path("a/bc/d"));
        let next = lately.refer(&path("a/b"));
        assert_eq!((next.up, next.below.as_slice()), (2, &b"b"[..]));
    }

    #[test]
    fn what_leads_nowhere_is_refused() {
        let mut lately = Lately::new();
        let relative = |from, up, below: &[u8]| Relative {
            from,
            up,
            below: below.to_vec(),
        };
        for bad in [
            relative(0, 0, b"a"),
            relative(ROOT, 1, b""),
            relative(ROOT, 0, b"../x"),
            relative(ROOT, 0, b"a//b"),
            relative(ROOT, 0, &b"x".repeat(PATH_BYTES_MAX + 1)),
            relative(ROOT, 0, &b"a/".repeat(DEPTH_MAX)),
        ] {
            assert!(lately.resolve(&bad).is_err(), "{bad:?}");
        }
        let deepest = [b"a/".repeat(DEPTH_MAX - 1), b"a".to_vec()].concat();
        lately.resolve(&relative(ROOT, 0, &deepest)).unwrap();
        assert!(lately.resolve(&relative(0, 0, b"b")).is_err());
        lately.resolve(&relative(0, 1, b"b")).unwrap();
        assert!(lately.resolve(&relative(0, 4097, b"b")).is_err());
    }

    proptest! {
        #[test]
        fn both_ends_mean_the_same(ways in prop::collection::vec(
            prop::collection::vec("[ab]{1,2}", 0..6), 1..60)
        ) {
            let (mut here, mut there) = (Lately::new(), Lately::new());
            for way in ways {
                let path = path(&way.join("/"));
                let relative = crossed(&here.refer(&path));
                prop_assert_eq!(there.resolve(&relative).unwrap(), path);
            }
        }
    }
}

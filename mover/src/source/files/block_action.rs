//! What becomes of a block of a file, decided from what it is and what the destination has.

use crate::{catalog::tags::Tag, fs::space::reserved::Zeros};

/// What is to be done with a run of blocks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum BlockAction {
    /// They are as they should be.
    Same,
    /// They become a hole.
    Zero,
    /// They become zeros that take space.
    Reserve,
    /// They are sent.
    Data,
}

impl BlockAction {
    /// What a block that is found to be zero becomes.
    pub(crate) fn zeros(self) -> Zeros {
        if self == Self::Reserve {
            Zeros::Reserved
        } else {
            Zeros::Hole
        }
    }
}

/// What the destination has where a block is to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum OldBlock {
    /// A block with this tag.
    Tagged(Tag),
    /// Nothing: the file ends before.
    Nothing,
    /// Something that nobody has looked at.
    Unknown,
}

/// What is to be done with a block of zeros where the destination has `old`.
pub(crate) fn of_zeros(old: OldBlock, zeros: Zeros) -> BlockAction {
    let is_so = match (old, zeros) {
        (OldBlock::Tagged(tag), Zeros::Reserved) => tag == Tag::RESERVED,
        (OldBlock::Tagged(tag), Zeros::Hole) => tag == Tag::default(),
        // Already zero, perhaps to be reserved.
        (OldBlock::Nothing, _) => zeros == Zeros::Hole,
        (OldBlock::Unknown, _) => false,
    };
    match (is_so, zeros) {
        (true, _) => BlockAction::Same,
        (false, Zeros::Reserved) => BlockAction::Reserve,
        (false, Zeros::Hole) => BlockAction::Zero,
    }
}

/// Consecutive equal verdicts, with the blocks they cover.
pub(crate) fn runs(
    verdicts: impl Iterator<Item = BlockAction>,
) -> impl Iterator<Item = (BlockAction, std::ops::Range<usize>)> {
    let mut verdicts = verdicts.enumerate().peekable();
    std::iter::from_fn(move || {
        let (start, verdict) = verdicts.next()?;
        let mut end = start + 1;
        while verdicts.next_if(|(_, next)| *next == verdict).is_some() {
            end += 1;
        }
        Some((verdict, start..end))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the block is after the verdict; none where nobody knows.
    fn afterwards(old: OldBlock, verdict: BlockAction) -> Option<Tag> {
        match (verdict, old) {
            // Beyond the end of what was there is a hole.
            (BlockAction::Zero, _) | (BlockAction::Same, OldBlock::Nothing) => Some(Tag::default()),
            (BlockAction::Reserve, _) => Some(Tag::RESERVED),
            (BlockAction::Same, OldBlock::Tagged(tag)) => Some(tag),
            (BlockAction::Same, OldBlock::Unknown) | (BlockAction::Data, _) => None,
        }
    }

    #[test]
    fn a_hole_is_a_hole_and_a_reservation_one_whatever_was_there() {
        let tags = [Tag::default(), Tag::RESERVED, Tag([7; 16])];
        let others = [OldBlock::Nothing, OldBlock::Unknown];
        for old in tags.map(OldBlock::Tagged).into_iter().chain(others) {
            for (zeros, wanted) in [
                (Zeros::Hole, Tag::default()),
                (Zeros::Reserved, Tag::RESERVED),
            ] {
                let is = afterwards(old, of_zeros(old, zeros));
                assert_eq!(is, Some(wanted), "{old:?} {zeros:?}");
                // And it is not said again.
                assert_eq!(of_zeros(OldBlock::Tagged(wanted), zeros), BlockAction::Same);
            }
        }
    }
}

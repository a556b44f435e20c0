//! What the names of a group share, as the source's store keeps it.

use livmig_proto::{
    control::Fault,
    wire::{Decoder, Encoder},
};

use crate::{
    catalog::segment::{Kept, KeptFile, Seen, decode_seen, encode_seen},
    source::shared::Shared,
};

/// What the names of a group share.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Common {
    pub(super) kept: Kept,
    pub(super) seen: Option<Seen>,
}

impl Common {
    pub(super) fn load(shared: &Shared<'_>, number: u64) -> Result<Option<Self>, Fault> {
        let bytes = shared
            .store
            .get_group(number)
            .map_err(Shared::state_fault)?;
        Ok(bytes.and_then(Self::decode))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        encode_seen(self.seen.as_ref(), &mut out);
        match &self.kept {
            Kept::File(file) => {
                out.u8(1);
                file.encode(&mut out);
            }
            Kept::Other { digest } => {
                out.u8(2);
                out.digest(digest);
            }
            Kept::Directory | Kept::Link { .. } | Kept::Apart => out.u8(0),
        }
        out.into_bytes().into()
    }

    pub(super) fn decode(bytes: Vec<u8>) -> Option<Self> {
        let mut input = Decoder::new(bytes.into());
        let seen = decode_seen(&mut input).ok()?;
        let kept = match input.u8().ok()? {
            1 => Kept::File(KeptFile::decode(&mut input).ok()?),
            2 => Kept::Other {
                digest: input.digest().ok()?,
            },
            _ => return None,
        };
        Some(Self { kept, seen })
    }
}

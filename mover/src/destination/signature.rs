//! The rolling signature of a file, for a source that suspects shifted content.

use bytes::Bytes;
use fast_rsync::{Signature, SignatureOptions};
use livmig_proto::{
    control::{Fault, FaultCode, Side},
    limits::SIGNATURE_BLOCKS_MAX,
    name::{Name, RelPath},
};
use rustix::io::Errno;

use super::state::Destination;
use crate::{fault, fs::file, hash};

/// Bytes before the entries of a signature.
const HEAD: usize = 12;

impl Destination {
    /// The rolling signature of the file `name` in the directory at `path`, made window by
    /// window: a signature is its head and then one entry a block, so those of windows that are
    /// whole blocks can be strung together.
    ///
    /// It covers the first [`SIGNATURE_BLOCKS_MAX`] blocks, and none of a file that is not there:
    /// it only suggests, and what the source believes to be here is checked elsewhere.
    pub fn signature(&self, path: &RelPath, name: &Name, block: u32) -> Result<Bytes, Fault> {
        let entry = path.child(name).unwrap_or_default();
        let failed = |what: &str, errno| fault::at(Side::Destination, &entry, what, errno);
        let window = hash::WINDOW;
        let size = usize::try_from(block)
            .ok()
            .filter(|size| (512..=window).contains(size) && size.is_power_of_two());
        let Some(size) = size else {
            return Err(fault::named(
                Side::Destination,
                FaultCode::Protocol,
                &entry,
                "destination: was asked for a signature with an impossible block size",
            ));
        };
        let opened = self
            .volume
            .dir(path)
            .and_then(|dir| file::open_read(&dir, name));
        let fd = match opened {
            Ok(fd) => Some(fd),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO | Errno::ISDIR) => None,
            Err(errno) => return Err(failed("open the file", errno)),
        };
        let options = SignatureOptions {
            block_size: block,
            crypto_hash_size: 16,
        };
        let mut whole: Vec<u8> = vec![0; 4];
        let head = Signature::calculate(&[], options).into_serialized();
        whole.extend_from_slice(head.get(..HEAD).unwrap_or_default());
        let mut buffer = vec![0; window];
        let (mut offset, mut left) = (0, SIGNATURE_BLOCKS_MAX);
        while let (Some(fd), true) = (&fd, left > 0) {
            let wanted = window.min(left.saturating_mul(size));
            let part = buffer.get_mut(..wanted).unwrap_or_default();
            let read =
                file::read_at(fd, part, offset).map_err(|errno| failed("read the file", errno))?;
            let content = part.get(..read).unwrap_or_default();
            if read > 0 {
                let signature = Signature::calculate(content, options).into_serialized();
                whole.extend_from_slice(signature.get(HEAD..).unwrap_or_default());
            }
            offset += u64::try_from(read).unwrap_or(0);
            left -= read.div_ceil(size);
            if read < wanted {
                break;
            }
        }
        let length = u32::try_from(whole.len() - 4).unwrap_or(u32::MAX);
        if let Some(prefix) = whole.first_chunk_mut::<4>() {
            *prefix = length.to_le_bytes();
        }
        Ok(whole.into())
    }
}

#[cfg(test)]
mod tests {
    use livmig_proto::ids::MigrationUid;

    use super::*;
    use crate::fs::volume::Volume;

    /// The blocks in the signature of a file of `size` bytes, made with blocks of 512 bytes.
    fn blocks(size: Option<u64>) -> usize {
        let (root, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        if let Some(size) = size {
            let file = std::fs::File::create(root.path().join("f")).unwrap();
            file.set_len(size).unwrap();
        }
        let volume = Volume::open(root.path()).unwrap();
        let destination = Destination::new(volume, state.path(), MigrationUid([1; 16])).unwrap();
        let name = Name::new(b"f").unwrap();
        let signature = destination.signature(&RelPath::ROOT, &name, 512).unwrap();
        assert_eq!(signature[4 + 4..4 + 8], 512_u32.to_be_bytes());
        (signature.len() - 4 - HEAD) / 20
    }

    #[test]
    fn a_signature_is_bounded_whatever_the_file() {
        assert_eq!(blocks(None), 0);
        assert_eq!(blocks(Some(0)), 0);
        assert_eq!(blocks(Some(1000)), 2);
        assert_eq!(blocks(Some((3 << 20) + 1)), (3 << 11) + 1);
        assert_eq!(blocks(Some(1 << 40)), SIGNATURE_BLOCKS_MAX);
    }
}

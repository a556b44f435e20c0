//! Rolling checksums of some blocks of a file, for a source that suspects shifted content.

use bytes::{Bytes, BytesMut};
use livmig_proto::{
    control::{Fault, FaultCode, Side},
    limits::{FILE_SIZE_MAX, SUMMED_BLOCK_MAX, SUMS_MAX},
    name::{Name, RelPath},
};
use rustix::io::Errno;

use super::state::Destination;
use crate::{
    fault,
    fs::{
        file,
        stat::{Kind, Stat},
    },
    hash::rolling::Rolling,
};

impl Destination {
    /// The checksum of every `every`th block of `block` bytes of the file `name` in the directory
    /// at `path`, from the first on, after the length of all: at most [`SUMS_MAX`], and none of a
    /// file that is not there. They only suggest, and what the source believes to be here is
    /// checked elsewhere.
    pub fn sums(
        &self,
        path: &RelPath,
        name: &Name,
        block: u32,
        every: u64,
    ) -> Result<Bytes, Fault> {
        let entry = path.child(name).unwrap_or_default();
        let size = usize::try_from(block)
            .ok()
            .filter(|size| (512..=SUMMED_BLOCK_MAX).contains(size) && size.is_power_of_two());
        let step = u64::from(block).checked_mul(every).filter(|step| *step > 0);
        let (Some(size), Some(step)) = (size, step) else {
            return Err(fault::named(
                Side::Destination,
                FaultCode::Protocol,
                &entry,
                "destination: was asked for checksums of impossible blocks",
            ));
        };
        // Only a file is opened: what a device does then is nobody's to know.
        let opened = self.volume.dir(path).and_then(|dir| {
            if Stat::of_entry(&dir, name)?.kind == Kind::File {
                file::open_read(&dir, name)
            } else {
                Err(Errno::ISDIR)
            }
        });
        // They only suggest: without any, all of the file is sent.
        let fd = opened.ok();
        let mut sums = Vec::new();
        let mut buffer = vec![0; size];
        let mut offset = 0_u64;
        while let Some(fd) = fd.as_ref().filter(|_| sums.len() < SUMS_MAX) {
            if file::read_at(fd, &mut buffer, offset) != Ok(size) {
                break;
            }
            sums.push(Rolling::of(&buffer).value());
            // No file goes on there.
            match offset.checked_add(step).filter(|at| *at < FILE_SIZE_MAX) {
                Some(next) => offset = next,
                None => break,
            }
        }
        let mut answer = BytesMut::with_capacity(4 + 4 * sums.len());
        let length = u32::try_from(4 * sums.len()).unwrap_or(u32::MAX);
        answer.extend_from_slice(&length.to_le_bytes());
        for sum in sums {
            answer.extend_from_slice(&sum.to_le_bytes());
        }
        Ok(answer.freeze())
    }
}

#[cfg(test)]
mod tests {
    use livmig_proto::ids::MigrationUid;

    use super::*;
    use crate::fs::volume::Volume;

    /// The sums of every `every`th block of a file of `size` bytes, with blocks of 512 bytes.
    fn count(size: Option<u64>, every: u64) -> usize {
        let (root, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        if let Some(size) = size {
            let file = std::fs::File::create(root.path().join("f")).unwrap();
            file.set_len(size).unwrap();
        }
        let volume = Volume::open(root.path()).unwrap();
        let destination = Destination::new(volume, state.path(), MigrationUid([1; 16])).unwrap();
        let name = Name::new(b"f").unwrap();
        let answer = destination.sums(&RelPath::ROOT, &name, 512, every).unwrap();
        let length = u32::from_le_bytes(answer[..4].try_into().unwrap());
        assert_eq!(usize::try_from(length).unwrap(), answer.len() - 4);
        assert!(destination.sums(&RelPath::ROOT, &name, 512, 0).is_err());
        assert!(destination.sums(&RelPath::ROOT, &name, 500, 1).is_err());
        (answer.len() - 4) / 4
    }

    #[test]
    fn sums_are_bounded_whatever_the_file() {
        assert_eq!(count(None, 1), 0);
        assert_eq!(count(Some(0), 1), 0);
        // Only whole blocks have one.
        assert_eq!(count(Some(1000), 1), 1);
        assert_eq!(count(Some(10 * 512 + 1), 3), 4);
        assert_eq!(count(Some(1 << 40), 1), SUMS_MAX);
        assert_eq!(count(Some(1 << 40), u64::MAX / 512), 1);
    }
}

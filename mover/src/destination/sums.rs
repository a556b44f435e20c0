//! Rolling checksums of some blocks of a file, for a source that suspects shifted content.

use bytes::{Bytes, BytesMut};
use livmig_proto::{
    control::{Fault, FaultCode, Side},
    limits::{SUMMED_BLOCK_MAX, SUMS_MAX},
    name::{Name, RelPath},
};
use rustix::io::Errno;

use super::state::Destination;
use crate::{fault, fs::file, hash::rolling::Rolling};

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
        let failed = |what: &str, errno| fault::at(Side::Destination, &entry, what, errno);
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
        let opened = self
            .volume
            .dir(path)
            .and_then(|dir| file::open_read(&dir, name));
        let fd = match opened {
            Ok(fd) => Some(fd),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO | Errno::ISDIR) => None,
            Err(errno) => return Err(failed("open the file", errno)),
        };
        let mut sums = Vec::new();
        let mut buffer = vec![0; size];
        let mut offset = 0_u64;
        while let Some(fd) = fd.as_ref().filter(|_| sums.len() < SUMS_MAX) {
            let read = file::read_at(fd, &mut buffer, offset)
                .map_err(|errno| failed("read the file", errno))?;
            let next = offset.checked_add(step);
            let (true, Some(next)) = (read == size, next) else {
                break;
            };
            sums.push(Rolling::of(&buffer).value());
            offset = next;
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

//! Leaves a name as it is, whatever stands under it.

use std::os::fd::OwnedFd;

use livmig_proto::{
    control::{Fault, Side},
    entry::Meta,
    frame::ApartKind,
    name::Name,
};
use rustix::{
    fs::{FileType, Mode},
    io::Errno,
};

use super::{Applier, out_of_order};
use crate::{destination::write::metadata, fault, fs::stat::Stat};

impl Applier<'_> {
    /// From here on `name` is left as it is. Where nothing is, an empty entry is made.
    pub(super) fn set_apart(&self, name: &Name, meta: &Meta, kind: ApartKind) -> Result<(), Fault> {
        let Some(current) = &self.current else {
            return Err(out_of_order());
        };
        let (dir, path) = (&current.dir, current.path.child(name).unwrap_or_default());
        let failed = |what: &str, errno| fault::at(Side::Destination, &path, what, errno);
        let made = match Stat::of_entry(dir, name) {
            Ok(_) => Ok(false),
            Err(Errno::NOENT) => make(dir, name, kind).map(|()| true),
            Err(errno) => return Err(failed("look at the entry", errno)),
        };
        if made.map_err(|errno| failed("make the mount point", errno))? {
            metadata::to_entry(dir, name, &path, meta, self.destination.view())?;
        }
        self.destination.forget(&path)?;
        self.destination.apart.insert(path);
        Ok(())
    }
}

fn make(dir: &OwnedFd, name: &Name, kind: ApartKind) -> Result<(), Errno> {
    match kind {
        ApartKind::Directory => rustix::fs::mkdirat(dir, name.as_os_str(), Mode::RWXU),
        ApartKind::File => {
            let mode = Mode::RUSR | Mode::WUSR;
            rustix::fs::mknodat(dir, name.as_os_str(), FileType::RegularFile, mode, 0)
        }
    }
}

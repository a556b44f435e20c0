//! Makes hard links.

use std::os::fd::AsFd as _;

use livmig_proto::{
    control::{Fault, Side},
    name::{Name, RelPath},
};
use rustix::{fs::AtFlags, io::Errno};

use super::{Applier, out_of_order};
use crate::{
    advice::Doing,
    destination::{space, state::Destination, touched::Touch},
    fault,
    fs::{
        remove,
        stat::{Kind, Stat},
    },
};

impl Applier<'_> {
    /// Makes `name`, known as `path`, another name of `target_name` in the directory `parent`.
    pub(super) fn link(
        &mut self,
        name: &Name,
        path: &RelPath,
        parent: &RelPath,
        target_name: &Name,
    ) -> Result<(), Fault> {
        let Some(current) = &self.current else {
            return Err(out_of_order());
        };
        let failed = |what: &str, errno| fault::at(Side::Destination, path, what, errno);
        let target_dir = self
            .ways
            .1
            .open(self.destination.volume.root(), parent)
            .map_err(|errno| failed("open the directory of the link's target", errno))?;
        let stat = match Stat::of_entry(&target_dir, target_name) {
            // It is missing because there was no room for it.
            Err(Errno::NOENT) if self.room.has_run_out() => return Err(space::refused(path)),
            looked => looked.map_err(|errno| failed("look at the link's target", errno))?,
        };
        if stat.kind == Kind::Directory {
            return Err(failed("link to a directory", Errno::PERM));
        }
        // Before what the link replaces is gone: nothing can be linked to what is mounted.
        if self.destination.volume.is_mount(&stat) {
            return Err(failed("link to what is mounted there", Errno::XDEV));
        }
        if let Ok(there) = Stat::of_entry(&current.dir, name)
            && there.identity.ino == stat.identity.ino
        {
            return Ok(());
        }
        remove::remove(&current.dir, name).map_err(|resistance| {
            fault::resistance(path, "remove what the link replaces", &resistance)
        })?;
        // An entry that had one link has more now, and another directory may hold it.
        let touch = || {
            if *parent == current.path {
                return Ok(());
            }
            let touched = &self.destination.touched;
            touched
                .push(parent, &Touch::default())
                .map_err(Destination::state_fault)
        };
        touch()?;
        // Without AT_SYMLINK_FOLLOW a link to a symbolic link is to the link itself.
        rustix::fs::linkat(
            target_dir.as_fd(),
            target_name.as_os_str(),
            current.dir.as_fd(),
            name.as_os_str(),
            AtFlags::empty(),
        )
        .map_err(|errno| {
            let what = "make the hard link";
            fault::doing(Side::Destination, path, what, errno, Doing::Linking)
        })?;
        // Whoever surveys early may have taken up the first note before there was the link.
        touch()
    }
}

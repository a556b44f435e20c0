//! After a final pass: everything must still look as it did. A difference means that somebody
//! wrote after all.

use std::os::fd::AsFd as _;

use livmig_proto::{
    control::{Fault, FaultCode, Side},
    name::RelPath,
};
use rustix::io::Errno;

use super::{
    links::LinkStates,
    queue::{Baseline, Job, Queue},
    shared::{Faults, Shared},
    walk::apart::ApartStanding,
};
use crate::{
    catalog::{
        segment::{Entry, Kept},
        store::Known,
    },
    fault,
    fs::{
        dir,
        stat::{Kind, Stat},
        way::Way,
    },
};

/// Looks at every entry again, without reading content, on `threads` threads. `links` says what
/// inodes with several links were.
pub(super) fn recheck(
    shared: &Shared<'_>,
    links: &LinkStates,
    threads: usize,
) -> Result<(), Fault> {
    let queue = Queue::default();
    let faults = Faults::default();
    queue.push([Job {
        path: RelPath::ROOT,
        baseline: Baseline::Remembered,
        deep: true,
    }]);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut way = Way::new();
                while let Some(job) = queue.take() {
                    let result = directory(shared, links, &mut way, &job);
                    if let Ok(children) = result {
                        queue.push(children);
                    } else if let Err(fault) = result {
                        faults.push(fault);
                        queue.stop();
                    }
                    queue.done();
                }
            });
        }
    });
    match faults.get().0.into_iter().next() {
        Some(fault) => Err(fault),
        None => Ok(()),
    }
}

fn directory(
    shared: &Shared<'_>,
    links: &LinkStates,
    way: &mut Way,
    job: &Job,
) -> Result<Vec<Job>, Fault> {
    let failed = |errno| {
        fault::at(
            Side::Source,
            &job.path,
            "look at the directory again",
            errno,
        )
    };
    let Known::Segment(segment) = shared.store.get(&job.path).map_err(Shared::state_fault)? else {
        // In flight: an op in it failed, which is a fault of its own.
        return Ok(Vec::new());
    };
    let dir = match way.open(shared.volume.root(), &job.path) {
        Ok(dir) => dir,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(changed(&job.path)),
        Err(errno) => return Err(failed(errno)),
    };
    let stat = shared.volume.steady(Stat::of_fd(&dir).map_err(failed)?);
    let names = dir::list(dir.as_fd()).map_err(failed)?;
    if segment
        .seen
        .is_none_or(|seen| !shared.is_as_seen(&seen.identity, &stat.identity))
    {
        return Err(changed(&job.path));
    }
    let mut children = Vec::new();
    let mut seen = segment.entries.iter().peekable();
    for name in &names {
        let path = || job.path.child(name).unwrap_or_default();
        let stat = match Stat::of_entry(&dir, name) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Err(changed(&path())),
            Err(errno) => return Err(failed(errno)),
        };
        let standing = shared.standing(&job.path, name, &stat)?;
        match standing {
            ApartStanding::Nobodys => continue,
            ApartStanding::Closed => {
                // One that an earlier pass could look into is known.
                let _ = seen.next_if(|entry| entry.name == *name);
                continue;
            }
            ApartStanding::Content | ApartStanding::Apart(_) => {}
        }
        match seen.next() {
            Some(entry)
                if entry.name == *name
                    && matches!(standing, ApartStanding::Apart(_))
                        == (entry.kept == Kept::Apart)
                    && is_same(shared, entry, &stat, links) =>
            {
                if entry.kept == Kept::Directory {
                    let path = job.path.child(name);
                    let path = path.map_err(|_| failed(Errno::NAMETOOLONG))?;
                    children.push(child(path));
                }
            }
            _ => return Err(changed(&path())),
        }
    }
    if seen.next().is_some() {
        return Err(changed(&job.path));
    }
    Ok(children)
}

fn child(path: RelPath) -> Job {
    Job {
        path,
        baseline: Baseline::Remembered,
        deep: true,
    }
}

fn is_same(shared: &Shared<'_>, entry: &Entry, stat: &Stat, links: &LinkStates) -> bool {
    match entry.kept {
        // Its own segment says what it was.
        Kept::Directory => stat.kind == Kind::Directory,
        // What is mounted there may be in use by others.
        Kept::Apart => true,
        Kept::Link { .. } => links.has(stat),
        Kept::File(_) | Kept::Other { .. } => entry
            .seen
            .is_some_and(|seen| shared.is_as_seen(&seen.identity, &stat.identity)),
    }
}

fn changed(path: &RelPath) -> Fault {
    fault::named(
        Side::Source,
        FaultCode::StillWritten,
        path,
        "source: something still writes: the entry changed after the final pass had read it",
    )
}

//! Whether two directories are one tree, or one of them lies in the other, by whatever name each is
//! reached: through bind mounts, a second mount of one device, a subvolume that is mounted by
//! itself, or the layers of an overlay.
//!
//! Paths do not say. What does is where a directory lies *within its file system*: which directory
//! of it was mounted, and the way from the mount point.

use crate::{
    mounts::{Layer, Mount, Role},
    name::escape,
};

/// A directory as the kernel has resolved it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Located {
    /// The number of the mount that it was reached through; none where the kernel does not tell.
    pub mount: Option<u64>,
    /// Its absolute path, without links.
    pub path: Vec<u8>,
}

/// What has to be looked up on the way.
pub trait Look {
    /// The directory at an absolute path, if it is one.
    fn directory(&self, path: &[u8]) -> Option<Located>;
    /// The file that is the disk of the loop device at an absolute path, if that is known.
    fn image(&self, device: &[u8]) -> Option<Located>;
}

/// Where a tree lies, and what else is read or written when it is.
#[derive(Clone, Debug, Default)]
pub struct TreePlace {
    /// Itself.
    own: Vec<Place>,
    /// What is read when it is, and it.
    reads: Vec<Place>,
    /// What is written when it is, and it.
    writes: Vec<Place>,
    /// What nobody may write to beside the file systems that show it, as a whole.
    layers: Vec<Place>,
}

/// A directory within something that directories cannot leave.
#[derive(Clone, Debug)]
struct Place {
    within: Within,
    path: Vec<u8>,
    /// What it is, for people; nothing for what they named themselves.
    shown: String,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Within {
    /// The names of this process.
    Names,
    /// The file system on a device.
    Device((u32, u32)),
    /// What a server exports.
    Remote(Vec<u8>),
}

/// How one directory lies to another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Relation {
    /// They are one.
    Same,
    /// The first lies in the second.
    Inside,
    /// The second lies in the first.
    Around,
}

/// Two trees that are not apart.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Overlap {
    /// How the first lies to the second.
    pub relation: Relation,
    /// What the first is by another name, for people; nothing when its path says all.
    pub first: String,
    /// The same of the second.
    pub second: String,
}

/// Layers of layers that are looked at; the kernel allows two.
const DEPTH_MAX: usize = 8;

impl TreePlace {
    /// Of the directory at `at`, which need not exist yet if what it is to be made in does.
    pub fn of(at: &Located, mounts: &[Mount], look: &dyn Look) -> Self {
        let world = World { mounts, look };
        let own = world.places(at);
        let mut this = Self {
            reads: own.clone(),
            writes: own.clone(),
            own,
            layers: Vec::new(),
        };
        world.behind(at, Role::Upper, 0, &mut this);
        for mount in mounts {
            if relation(&mount.point, &at.path) == Some(Relation::Inside) {
                let mut below = Self::default();
                let root = Located {
                    mount: Some(mount.id),
                    path: mount.point.clone(),
                };
                if mount.kind == b"overlay" {
                    world.behind(&root, Role::Upper, 0, &mut below);
                }
                this.layers.append(&mut below.layers);
            }
        }
        this
    }

    /// How this, which is written, and `source`, which is read, are one, if they are.
    pub fn meets(&self, source: &Self) -> Option<Overlap> {
        meet(&self.writes, &source.reads)
            .chain(meet(&self.own, &source.layers))
            .chain(meet(&self.layers, &source.own))
            .next()
    }

    /// How this lies in `tree`, if it does.
    pub fn lies_in(&self, tree: &Self) -> Option<Overlap> {
        meet(&self.writes, &tree.reads)
            .chain(meet(&self.own, &tree.layers))
            .find(|overlap| overlap.relation != Relation::Around)
    }
}

impl Overlap {
    /// What makes them one, in half a sentence; nothing when the two paths say it.
    pub fn alias(&self, first: &str, second: &str) -> Option<String> {
        let told =
            |name: &str, shown: &str| (!shown.is_empty()).then(|| format!("the {name} is {shown}"));
        match (told(first, &self.first), told(second, &self.second)) {
            (Some(first), Some(second)) => Some(format!("{first}, and {second}")),
            (one, other) => one.or(other),
        }
    }
}

struct World<'a> {
    mounts: &'a [Mount],
    look: &'a dyn Look,
}

impl World<'_> {
    /// The mount that a directory was reached through.
    fn mount_of(&self, at: &Located) -> Option<&Mount> {
        let holds = |mount: &&Mount| {
            matches!(
                relation(&at.path, &mount.point),
                Some(Relation::Same | Relation::Inside)
            )
        };
        match at.mount {
            Some(id) => self
                .mounts
                .iter()
                .find(|mount| mount.id == id)
                .filter(holds),
            // The last of those on one mount point covers the others.
            None => (self.mounts.iter().filter(holds)).max_by_key(|mount| mount.point.len()),
        }
    }

    /// Where a directory lies.
    fn places(&self, at: &Located) -> Vec<Place> {
        let mut places = vec![Place {
            within: Within::Names,
            path: at.path.clone(),
            shown: String::new(),
        }];
        let Some(mount) = self.mount_of(at) else {
            return places;
        };
        let path = within(mount, at);
        let place = |within, path: Vec<u8>| Place {
            within,
            shown: format!("{} of {}", escape(&path), mount.shown_as()),
            path,
        };
        // An NFS mount tells the server's path as its source, also when it is a bind mount, and no
        // directory at all as its root.
        let is_nfs = matches!(mount.kind.as_slice(), b"nfs" | b"nfs4");
        if let Some((server, export)) = remote(mount) {
            places.push(place(Within::Remote(server), joined(&export, &path)));
        }
        if !is_nfs {
            places.push(place(Within::Device(mount.device), path));
        }
        places
    }

    /// Adds what lies behind a directory.
    fn behind(&self, at: &Located, role: Role, depth: usize, to: &mut TreePlace) {
        let Some(mount) = self.mount_of(at).filter(|_| depth < DEPTH_MAX) else {
            return;
        };
        if let Some(image) = self.look.image(&mount.source) {
            to.layers
                .extend(self.told(&image, || format!("the disk of {}", mount.shown_as())));
            self.behind(&image, role, depth + 1, to);
        }
        for layer in mount.layers() {
            let Some(whole) = self.find(mount, &layer) else {
                continue;
            };
            let shown = |what: &Located| {
                let (role, path) = (layer.role.name(), escape(&what.path));
                format!("the {role} {path} of {}", mount.shown_as())
            };
            if layer.role != Role::Mirror {
                to.layers.extend(self.told(&whole, || shown(&whole)));
            }
            if layer.role == Role::Work {
                continue;
            }
            // What is mounted below a layer is not shown.
            let part = Located {
                mount: whole.mount,
                path: joined(&whole.path, &within(mount, at)),
            };
            let places = self.told(&part, || shown(&part));
            to.reads.extend(places.iter().cloned());
            let is_written = matches!(role, Role::Upper | Role::Mirror)
                && matches!(layer.role, Role::Upper | Role::Mirror);
            if is_written {
                to.writes.extend(places);
            }
            let role = if is_written { Role::Upper } else { Role::Lower };
            self.behind(&part, role, depth + 1, to);
        }
    }

    /// Where a directory lies that nobody named, and what it is.
    fn told(&self, at: &Located, what: impl Fn() -> String) -> Vec<Place> {
        let mut places = self.places(at);
        // Its path may lead to what was mounted over it since.
        if places.len() > 1 {
            places.retain(|place| place.within != Within::Names);
        }
        for place in &mut places {
            place.shown = what();
        }
        places
    }

    /// Where a layer of `mount` lies, if it is in sight.
    fn find(&self, mount: &Mount, layer: &Layer) -> Option<Located> {
        let found = layer.paths.iter().find_map(|path| {
            if path.starts_with(b"/") {
                return self.look.directory(path);
            }
            // Whoever mounted it was in some directory, probably near.
            ancestors(&mount.point).find_map(|base| self.look.directory(&joined(base, path)))
        })?;
        let id = found.mount.or_else(|| Some(self.mount_of(&found)?.id));
        // Covered by what shows it.
        let covered = id.is_some_and(|id| self.stands_on(id, mount.id));
        Some(Located {
            mount: if covered { Some(mount.parent) } else { id },
            path: found.path,
        })
    }

    /// Whether the mount `id` is `base`, or was mounted somewhere in what that shows.
    fn stands_on(&self, mut id: u64, base: u64) -> bool {
        for _ in 0..=self.mounts.len() {
            if id == base {
                return true;
            }
            let Some(mount) = self.mounts.iter().find(|mount| mount.id == id) else {
                return false;
            };
            id = mount.parent;
        }
        false
    }
}

/// The path of a directory within the file system of the mount that it was reached through.
fn within(mount: &Mount, at: &Located) -> Vec<u8> {
    let below = at.path.get(mount.point.len()..).unwrap_or_default();
    let below = if mount.point == b"/" {
        at.path.as_slice()
    } else {
        below
    };
    if matches!(mount.kind.as_slice(), b"nfs" | b"nfs4") {
        return joined(b"/", below);
    }
    joined(&mount.root, below)
}

/// The server and the directory of it that a mount shows, where its source says so.
fn remote(mount: &Mount) -> Option<(Vec<u8>, Vec<u8>)> {
    let mark: &[u8] = match mount.kind.as_slice() {
        b"ceph" if mount.source.windows(2).any(|two| two == b"=/") => b"=/",
        b"nfs" | b"nfs4" | b"ceph" => b":/",
        _ => return None,
    };
    let at = (mount.source.windows(mark.len())).position(|two| two == mark)?;
    let (server, rest) = mount.source.split_at(at);
    Some((server.to_vec(), rest.get(1..)?.to_vec()))
}

/// `below` in the directory at `base`.
fn joined(base: &[u8], below: &[u8]) -> Vec<u8> {
    let mut path = base.to_vec();
    for part in below.split(|byte| *byte == b'/') {
        if part.is_empty() {
            continue;
        }
        if path.last() != Some(&b'/') {
            path.push(b'/');
        }
        path.extend_from_slice(part);
    }
    while path.len() > 1 && path.last() == Some(&b'/') {
        path.pop();
    }
    path
}

/// The directories above `path`, the nearest first.
fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let cuts = path.iter().enumerate().rev();
    cuts.filter(|(_, byte)| **byte == b'/')
        .filter_map(|(at, _)| path.get(..at.max(1)))
}

/// How one path lies to another.
fn relation(first: &[u8], second: &[u8]) -> Option<Relation> {
    let inside = |inner: &[u8], outer: &[u8]| {
        outer == b"/"
            || inner
                .strip_prefix(outer)
                .is_some_and(|rest| rest.starts_with(b"/"))
    };
    if first == second {
        Some(Relation::Same)
    } else if inside(first, second) {
        Some(Relation::Inside)
    } else if inside(second, first) {
        Some(Relation::Around)
    } else {
        None
    }
}

/// Every way in which one of the first lies to one of the second.
fn meet<'a>(first: &'a [Place], second: &'a [Place]) -> impl Iterator<Item = Overlap> + 'a {
    let pairs = (first.iter()).flat_map(move |one| second.iter().map(move |other| (one, other)));
    pairs.filter_map(|(one, other)| {
        let relation = (one.within == other.within)
            .then(|| relation(&one.path, &other.path))
            .flatten()?;
        Some(Overlap {
            relation,
            first: one.shown.clone(),
            second: other.shown.clone(),
        })
    })
}

#[cfg(test)]
mod tests;

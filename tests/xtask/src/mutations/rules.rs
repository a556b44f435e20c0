//! The rules by which nothing is lost in silence, and how each is turned off.

/// A rule of the mover.
pub(super) struct Mutation {
    /// What it says.
    pub(super) name: &'static str,
    /// The file that it is in.
    pub(super) file: &'static str,
    /// A text that is in the file once.
    pub(super) text: &'static str,
    /// What stands there instead when the rule is off.
    pub(super) without: &'static str,
}

/// All of them.
pub(super) const RULES: &[Mutation] = &[
    Mutation {
        name: "consent: what is grave and was not consented to fails a run",
        file: "mover/src/cli/sync.rs",
        text: "} else if !missing.is_empty() {",
        without: "} else if false {",
    },
    Mutation {
        name: "mounts: told by what they are, not by their device",
        file: "mover/src/fs/volume.rs",
        text: ".unwrap_or(\n            stat.kind == Kind::Directory && stat.identity.device != self.stat.identity.device,\n        )",
        without: ".map_or(true, |_| stat.identity.device != self.stat.identity.device)",
    },
    Mutation {
        name: "mounts: the empty mount point is carried",
        file: "mover/src/destination/write/apply/apart.rs",
        text: "Err(Errno::NOENT) => make(dir, name, kind).map(|()| true),",
        without: "Err(Errno::NOENT) => return Ok(()),",
    },
    Mutation {
        name: "mounts: what the destination has under their names stays",
        file: "mover/src/destination/apart.rs",
        text: "volume.is_mount(stat) || self.contains(path)",
        without: "volume.is_mount(stat)",
    },
    Mutation {
        name: "lost+found: one that holds something is told where it cannot be carried",
        file: "mover/src/source/walk/apart.rs",
        text: "(Some(LostFound::Holding), true) => ApartStanding::Apart(Reason::LostFound),",
        without: "(Some(LostFound::Holding), true) => ApartStanding::Nobodys,",
    },
    Mutation {
        name: "lost+found: one that holds something is carried where the name is free",
        file: "mover/src/source/walk/apart.rs",
        text: "(Some(LostFound::Holding), false) | (None, _) => ApartStanding::Content,",
        without: "(Some(LostFound::Holding), false) => ApartStanding::Nobodys, (None, _) => ApartStanding::Content,",
    },
    Mutation {
        name: "aliases: no two ends are one tree by whatever mount",
        file: "mover/src/sync/prepare.rs",
        text: "let overlap = (to.meets(&from)).or_else(|| by_identity(destination, source));",
        without: "let overlap = by_identity(destination, source);",
    },
    Mutation {
        name: "aliases: no two ends are one tree",
        file: "mover/src/sync/prepare.rs",
        text: "let overlap = (to.meets(&from)).or_else(|| by_identity(destination, source));",
        without: "let overlap: Option<Overlap> = None;",
    },
    Mutation {
        name: "links: names are of one inode only where they agree and are no more than it has",
        file: "mover/src/source/links/agree.rs",
        text: "if group.agreed && fits(&group.stat, group.paths.len()) {",
        without: "if true {",
    },
    Mutation {
        name: "links: an inode is one of its device",
        file: "mover/src/fs/stat.rs",
        text: "            device: self.identity.device,\n            ino: self.identity.ino,",
        without: "            device: (0, 0),\n            ino: self.identity.ino,",
    },
    Mutation {
        name: "links: an inode with names elsewhere is not written in place",
        file: "mover/src/destination/write/file.rs",
        text: "OpenMode::InPlace | OpenMode::Shared if here()?.identity.nlink > names => {",
        without: "OpenMode::InPlace if here()?.identity.nlink > names => {",
    },
    Mutation {
        name: "gone: a listing may miss a name, so it is looked for",
        file: "mover/src/source/walk/join.rs",
        text: "if Stat::of_entry(&visit.dir, &before.name).err() == Some(Errno::NOENT) {",
        without: "if true {",
    },
    Mutation {
        name: "gone: a name that is listed and not found is looked for in a later listing",
        file: "mover/src/source/walk/join.rs",
        text: "if names.binary_search(&name).is_ok() {",
        without: "if false {",
    },
];

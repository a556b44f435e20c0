use std::fs;

use livmig_proto::{
    entry::{Meta, Node},
    frame::{Op, OpenMode, Reserve},
    ids::MigrationUid,
    lately::Relative,
    tree::{leaf, root_of},
};

use super::*;
use crate::{destination::write::apply::Applier, fs::volume::Volume};

fn meta(mode: u32) -> Meta {
    Meta {
        mode,
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        ..Meta::default()
    }
}

fn file(name: Name, content: &[u8], replace: bool) -> Op {
    Op::File {
        name,
        replace,
        meta: meta(0o644),
        root: root_of(content),
        content: content.to_vec().into(),
    }
}

fn enter(path: &RelPath) -> Op {
    Op::Enter {
        path: Relative::whole(path),
    }
}

/// Applies a file, leaves it unread, lets `between` happen, and settles.
fn settled_after(between: impl FnOnce(&std::path::Path, &Destination)) -> SettleOutcome {
    let (root, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let volume = Volume::open(root.path()).unwrap();
    let destination = Destination::new(volume, state.path(), MigrationUid([1; 16])).unwrap();
    let mut applier = Applier::new(&destination);
    let ops = [
        Op::Enter {
            path: Relative::whole(&RelPath::ROOT),
        },
        file(Name::new(b"f").unwrap(), b"content", false),
    ];
    for op in ops {
        assert!(applier.apply(op).is_ok());
    }
    assert!(applier.note().is_ok());
    let left = destination.settle_unread().unwrap();
    assert_eq!(left.settled.digest, None);
    between(root.path(), &destination);
    destination.settle(VerifyLevel::Readback).unwrap()
}

#[test]
fn what_a_pass_left_unread_is_proven_by_the_next() {
    let at_the_end = settled_after(|_, _| {});
    assert!(at_the_end.mismatches.is_empty());
    assert!(at_the_end.settled.digest.is_some());
    assert_eq!(
        (at_the_end.settled.entries, at_the_end.settled.bytes),
        (2, 7)
    );
    let beside = settled_after(|_, destination| {
        std::thread::scope(|scope| {
            let reading = scope.spawn(|| destination.survey_early(VerifyLevel::Readback));
            while !destination.touched.keys().is_empty() {
                std::thread::yield_now();
            }
            destination.early.stop();
            reading.join().unwrap();
        });
    });
    assert!(beside.mismatches.is_empty());
    assert!(beside.settled.digest.is_some());
    assert_eq!((beside.settled.entries, beside.settled.bytes), (2, 7));
}

#[test]
fn damage_to_what_a_pass_left_unread_has_a_name() {
    let damage = |root: &std::path::Path| fs::write(root.join("f"), b"damaged").unwrap();
    for read_beside in [false, true] {
        let outcome = settled_after(|root, destination| {
            damage(root);
            if read_beside {
                let key = destination.touched.keys()[0];
                let mut surveyor = Surveyor::new(destination, VerifyLevel::Readback);
                assert_eq!(surveyor.early(key), Ok(None), "nothing is judged early");
            }
        });
        assert_eq!(outcome.settled.mismatched, [""], "the root directory");
        assert!(outcome.mismatches[0].message.contains("differ"));
    }
}

/// Numbers without a pattern (Knuth's MMIX generator).
struct Rng(u64);

impl Rng {
    fn below<T: TryFrom<u64>>(&mut self, limit: u64) -> T {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        T::try_from((self.0 >> 33) % limit).unwrap_or_else(|_| unreachable!())
    }

    fn name(&mut self) -> Name {
        Name::new(&[b'a' + self.below::<u8>(6)]).unwrap()
    }

    /// The root or one of three directories below it.
    fn directory(&mut self) -> RelPath {
        let paths = [&b""[..], b"x", b"y", b"x/y"];
        RelPath::new(paths[self.below::<usize>(4)]).unwrap()
    }

    /// What is done to one entry of `directory`. Not all of it can be done.
    fn ops(&mut self, directory: &RelPath) -> Vec<Op> {
        let name = self.name();
        let content = vec![b'0' + self.below::<u8>(10); self.below(20_000)];
        match self.below::<u8>(9) {
            0 => vec![Op::Remove { name }],
            // A source speaks of each directory that it has made.
            1 => {
                let (path, back) = (directory.child(&name).unwrap(), directory.clone());
                let made = Op::Directory { name };
                vec![made, enter(&path), enter(&back)]
            }
            // Directories get theirs otherwise.
            2 => {
                let meta = meta(0o600 + self.below::<u32>(64));
                vec![
                    file(name.clone(), &content, false),
                    Op::Meta {
                        name,
                        meta,
                        names: 1,
                    },
                ]
            }
            3 => {
                let directory = Relative::whole(&self.directory());
                let target = self.name();
                vec![Op::Link {
                    name,
                    directory,
                    target,
                }]
            }
            4 => vec![Op::Node {
                name,
                meta: meta(0o777),
                node: Node::Symlink { target: content },
            }],
            5 => vec![
                Op::Open {
                    name,
                    mode: [OpenMode::InPlace, OpenMode::Shared][self.below::<usize>(2)],
                    names: 1 + self.below::<u32>(2),
                    sparse: false,
                    base: Digest([0; 32]),
                },
                Op::Data {
                    offset: 0,
                    digest: leaf(&content),
                    content: content.clone().into(),
                },
                Op::Close {
                    size: content.len() as u64,
                    root: root_of(&content),
                    reserved: Reserve::NONE,
                    meta: meta(0o644),
                },
            ],
            6 => Vec::new(),
            replace => vec![file(name, &content, replace == 7)],
        }
    }
}

#[test]
fn what_is_known_after_many_passes_is_what_a_stranger_finds() {
    for seed in 0..60 {
        let mut rng = Rng(seed);
        let root = tempfile::tempdir().unwrap();
        let state = tempfile::tempdir().unwrap();
        let new = |state: &std::path::Path| {
            let volume = Volume::open(root.path()).unwrap();
            Destination::new(volume, state, MigrationUid([1; 16])).unwrap()
        };
        let destination = new(state.path());
        let mut applier = Applier::new(&destination);
        for path in ["", "x", "y", "x/y"] {
            let path = RelPath::new(path.as_bytes()).unwrap();
            assert!(applier.apply(enter(&path)).is_ok());
        }
        assert!(applier.note().is_ok());
        drop(applier);
        for pass in 0..6 {
            let mut applier = Applier::new(&destination);
            for _ in 0..rng.below::<u8>(6) {
                let path = rng.directory();
                let _ = applier.apply(enter(&path));
                for _ in 0..rng.below::<u8>(4) {
                    for op in rng.ops(&path) {
                        let _ = applier.apply(op);
                    }
                }
            }
            assert!(applier.note().is_ok());
            drop(applier);
            let known = destination.settle(VerifyLevel::Readback).unwrap().settled;
            let elsewhere = tempfile::tempdir().unwrap();
            let stranger = new(elsewhere.path());
            let found = stranger.settle(VerifyLevel::Readback).unwrap().settled;
            assert_eq!(
                (known.digest, known.entries, known.bytes),
                (found.digest, found.entries, found.bytes),
                "seed {seed}, pass {pass}"
            );
        }
    }
}

use std::collections::BTreeMap;

use super::*;
use crate::mounts;

/// A world of mounts in which every path is a directory but those of devices.
struct Host {
    mounts: Vec<Mount>,
    images: BTreeMap<&'static str, &'static str>,
    missing: Vec<&'static str>,
}

impl Look for Host {
    fn directory(&self, path: &[u8]) -> Option<Located> {
        let is_missing = self.missing.iter().any(|missing| {
            matches!(
                relation(path, missing.as_bytes()),
                Some(Relation::Same | Relation::Inside)
            )
        });
        (!is_missing).then(|| self.at(std::str::from_utf8(path).unwrap()))
    }

    fn image(&self, device: &[u8]) -> Option<Located> {
        let device = std::str::from_utf8(device).unwrap();
        self.images.get(device).map(|path| self.at(path))
    }
}

impl Host {
    fn new(mountinfo: &str) -> Self {
        Self {
            mounts: mounts::parse(mountinfo.as_bytes()),
            images: BTreeMap::new(),
            missing: Vec::new(),
        }
    }

    /// As the kernel resolves it: through the mount that covers the others.
    fn at(&self, path: &str) -> Located {
        let covering = World {
            mounts: &self.mounts,
            look: self,
        };
        let mut at = Located {
            mount: None,
            path: path.as_bytes().to_vec(),
        };
        at.mount = covering.mount_of(&at).map(|mount| mount.id);
        at
    }

    fn of(&self, path: &str) -> TreePlace {
        TreePlace::of(&self.at(path), &self.mounts, self)
    }

    /// How the destination lies to the source.
    fn meet(&self, source: &str, destination: &str) -> Option<Relation> {
        let overlap = self.of(destination).meets(&self.of(source))?;
        Some(overlap.relation)
    }
}

const PLAIN: &str = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
    30 22 8:17 / /disk rw - ext4 /dev/sdb1 rw\n\
    31 22 8:17 /vol /bind rw - ext4 /dev/sdb1 rw\n\
    32 22 8:17 / /again rw - ext4 /dev/sdb1 rw\n\
    33 22 8:17 /vol//deleted /gone rw - ext4 /dev/sdb1 rw\n";

#[test]
fn bind_mounts_and_second_mounts_are_seen_through() {
    use Relation::{Around, Inside, Same};
    let host = Host::new(PLAIN);
    let cases = [
        ("/a", "/b", None),
        ("/a", "/ab", None),
        ("/a", "/a/b", Some(Inside)),
        ("/a/b", "/a", Some(Around)),
        ("/", "/a", Some(Inside)),
        ("/disk/vol", "/bind", Some(Same)),
        ("/disk/vol", "/bind/new", Some(Inside)),
        ("/bind/sub", "/disk/vol", Some(Around)),
        ("/bind/sub", "/again", Some(Around)),
        ("/disk/vol", "/again/vol/x", Some(Inside)),
        ("/disk/vol", "/again/volume", None),
        ("/bind/a", "/again/vol/b", None),
        // The path says so, whatever is mounted there.
        ("/", "/disk/x", Some(Inside)),
    ];
    for (source, destination, expected) in cases {
        assert_eq!(
            host.meet(source, destination),
            expected,
            "{source} {destination}"
        );
    }
}

#[test]
fn a_subvolume_that_is_mounted_by_itself_lies_in_its_file_system() {
    let host = Host::new(
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
         30 22 0:40 / /top rw - btrfs /dev/sdb rw,subvolid=5,subvol=/\n\
         31 22 0:40 /@data /data rw - btrfs /dev/sdb rw,subvolid=256,subvol=/@data\n",
    );
    assert_eq!(host.meet("/top", "/data/x"), Some(Relation::Inside));
    assert_eq!(host.meet("/data", "/top"), Some(Relation::Around));
    assert_eq!(host.meet("/data", "/top/@data"), Some(Relation::Same));
    assert_eq!(host.meet("/data", "/top/@other"), None);
}

#[test]
fn without_numbers_of_mounts_the_covering_one_counts() {
    let host = Host::new(PLAIN);
    let at = |path: &str| {
        let at = Located {
            mount: None,
            path: path.as_bytes().to_vec(),
        };
        TreePlace::of(&at, &host.mounts, &host)
    };
    assert!(at("/bind/x").meets(&at("/disk/vol")).is_some());
    assert!(at("/bind/x").meets(&at("/disk/other")).is_none());
}

const OVERLAYS: &str = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
    30 22 8:17 / /disk rw - ext4 /dev/sdb1 rw\n\
    31 22 8:17 /up /alias rw - ext4 /dev/sdb1 rw\n\
    40 22 0:50 / /one rw - overlay overlay rw,lowerdir=/low,upperdir=/disk/up,workdir=/disk/w\n\
    41 22 0:51 / /two rw - overlay overlay rw,lowerdir=/low,upperdir=/up2,workdir=/work2\n\
    42 22 0:52 / /deep/three ro - overlay overlay ro,lowerdir=/one/sub:/low2\n\
    43 22 0:53 / /rel/m ro - overlay overlay ro,lowerdir=l1:l2\n";

#[test]
fn layers_of_an_overlay_are_what_it_shows() {
    use Relation::{Around, Inside, Same};
    let host = Host {
        missing: vec!["/rel/m/l1", "/rel/m/l2", "/l1", "/l2"],
        ..Host::new(OVERLAYS)
    };
    let cases = [
        ("/one", "/disk/up", Some(Same)),
        ("/one", "/alias/x", Some(Inside)),
        ("/one", "/disk", Some(Around)),
        ("/one/sub", "/disk/up/other", Some(Inside)),
        ("/one", "/disk/w/work", Some(Inside)),
        ("/one", "/low/x", Some(Inside)),
        ("/low", "/one", Some(Same)),
        ("/alias", "/one/sub", Some(Around)),
        ("/one", "/disk/other", None),
        ("/one/a", "/one/b", None),
        // They share what both only read.
        ("/one", "/two", None),
        ("/one", "/up2", None),
        // Through two of them, and from above.
        ("/deep/three", "/disk/up/sub/x", Some(Inside)),
        ("/deep", "/disk/up", Some(Around)),
        ("/deep", "/low2", Some(Same)),
        ("/low2/x", "/deep", Some(Inside)),
        // Relative ones are looked for around the mount.
        ("/rel/m", "/rel/l2/x", Some(Inside)),
    ];
    for (source, destination, expected) in cases {
        let met = host.meet(source, destination);
        assert_eq!(
            met.is_some(),
            expected.is_some(),
            "{source} {destination}: {met:?}"
        );
    }
    let overlap = host.of("/alias/x").meets(&host.of("/one")).unwrap();
    let alias = overlap.alias("destination", "source").unwrap();
    assert_eq!(
        alias,
        "the destination is /up/x of ext4 /dev/sdb1 mounted on /alias, and the source is the \
         upperdir /disk/up of overlay overlay mounted on /one"
    );
}

/// `/etc` over itself, as systems with a read-only root have it.
#[test]
fn an_overlay_may_cover_its_own_layer() {
    let host = Host::new(
        "22 1 8:1 / / ro - ext4 /dev/sda1 ro\n\
         30 22 8:17 / /rw rw - ext4 /dev/sdb1 rw\n\
         31 22 8:1 / /root-again ro - ext4 /dev/sda1 ro\n\
         40 22 0:50 / /data rw - overlay o rw,lowerdir=/data,upperdir=/rw/up,workdir=/rw/work\n",
    );
    assert_eq!(host.meet("/data/a", "/data/b"), None);
    assert!(host.meet("/data/a", "/root-again/data").is_some());
    assert!(host.meet("/data/a", "/rw/up/a").is_some());
    assert_eq!(host.meet("/data/a", "/rw/other"), None);
}

/// A live system: everything is in one overlay whose layers are in sight.
#[test]
fn two_directories_of_one_overlay_are_apart() {
    let host = Host::new(
        "22 1 0:50 / / rw - overlay o rw,lowerdir=/run/ro,upperdir=/run/rw/up,workdir=/run/rw/wk\n\
         23 22 0:20 / /run rw - tmpfs tmpfs rw\n\
         24 23 7:0 / /run/ro ro - squashfs /dev/loop0 ro\n",
    );
    assert_eq!(host.meet("/people", "/backup"), None);
    assert_eq!(host.meet("/people", "/run/backup"), None);
    assert!(host.meet("/people", "/run/rw/up/people").is_some());
    // What is kept beside is in neither.
    assert!(host.of("/tmp/state").lies_in(&host.of("/people")).is_none());
    assert!(
        host.of("/people/state")
            .lies_in(&host.of("/run/rw/up/people"))
            .is_some()
    );
}

#[test]
fn mirrors_are_compared_name_by_name() {
    let host = Host::new(
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
         40 22 0:50 / /mirror rw - fuse /data rw,user_id=0\n\
         41 22 0:51 / /plain rw - fuse.gocryptfs /cipher rw,user_id=0\n",
    );
    assert!(host.meet("/mirror", "/data/x").is_some());
    assert!(host.meet("/data/x", "/mirror").is_some());
    assert_eq!(host.meet("/mirror/a", "/data/b"), None);
    assert!(host.meet("/plain/a", "/cipher/b").is_some());
}

#[test]
fn the_disk_of_one_may_be_a_file_in_the_other() {
    let host = Host {
        images: BTreeMap::from([("/dev/loop0", "/images/disk.img")]),
        ..Host::new(
            "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
             40 22 7:0 / /mnt rw - ext4 /dev/loop0 rw\n",
        )
    };
    assert!(host.meet("/mnt", "/images").is_some());
    assert!(host.meet("/images", "/mnt/x").is_some());
    assert_eq!(host.meet("/mnt", "/other"), None);
    assert_eq!(host.meet("/mnt/a", "/mnt/b"), None);
}

#[test]
fn exports_of_one_server_are_compared_by_its_paths() {
    let host = Host::new(
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
         40 22 0:50 / /a rw - nfs4 host:/export/a rw\n\
         41 22 0:50 / /b rw - nfs4 host:/export/b rw\n\
         42 22 0:51 / /all rw - nfs4 host:/export rw\n\
         43 22 0:52 / /other rw - nfs4 [::1]:/export rw\n",
    );
    assert_eq!(host.meet("/a", "/b"), None);
    assert_eq!(host.meet("/a/x", "/all/a"), Some(Relation::Around));
    assert_eq!(host.meet("/a", "/other/a"), None);
}

#[test]
fn what_is_kept_may_lie_around_a_tree_but_not_in_it() {
    let host = Host::new(PLAIN);
    let state = |path: &str| host.of(path).lies_in(&host.of("/disk/vol")).is_some();
    assert!(state("/bind/state"));
    assert!(state("/bind"));
    assert!(!state("/disk"));
    assert!(!state("/again/state"));
}

//! What a name leads to may be another thing at each look: writers replace files, and some file
//! systems make inode numbers up.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use livmig_proto::{
    control::{PassKind, Side},
    ids::Epoch,
};
use livmig_tests::{
    bins, compare,
    control::{Keys, Mover},
    mounts::{self, Mount},
    odd::{self, OddFs, Oddity},
    pair::{pass_to, report},
    require,
    run::run,
    scratch::Scratch,
    skip,
};

/// Live passes that are run while a writer replaces what they look at.
const PASSES: usize = 12;

/// Does `change` again and again until `passes` is done.
fn while_changing(
    change: impl Fn(u64) -> Result<()> + Send + Sync,
    passes: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut round = 0;
            while !over.load(Ordering::Relaxed) {
                round += 1;
                change(round)?;
            }
            Ok(())
        });
        let result = passes();
        over.store(true, Ordering::Relaxed);
        let written: Result<()> = writer
            .join()
            .map_err(|_| anyhow::anyhow!("the writer died"))?;
        written.and(result)
    })
}

/// Live passes from `a` to `b`: in each of them every one of `names` is there afterwards.
fn expect_always(a: &Path, b: &Path, names: &[&str]) -> Result<()> {
    for pass in 0..PASSES {
        let done = run(bins::mover()?.arg("sync").args([a, b]))?;
        for name in names {
            let there = fs::symlink_metadata(b.join(name));
            ensure!(
                there.is_ok(),
                "pass {pass}: {name} is missing; {}",
                done.stderr
            );
        }
        done.expect(0)?;
    }
    Ok(())
}

fn replaced_files_stay(a: &Path, b: &Path) -> Result<()> {
    let names = ["s/one", "s/two", "s/three", "new"];
    fs::create_dir(a.join("s"))?;
    for name in names {
        fs::write(a.join(name), "0\n")?;
    }
    let replace = |round: u64| -> Result<()> {
        for name in names {
            let next = a.join(format!("{name}.next"));
            fs::write(&next, format!("{round}\n"))?;
            fs::rename(&next, a.join(name))?;
        }
        Ok(())
    };
    while_changing(replace, || expect_always(a, b, &names))?;
    run(bins::mover()?.arg("sync").args([a, b]))?.expect(0)?;
    compare::expect_equal(a, b)
}

#[test]
fn a_file_that_is_replaced_all_the_time_is_always_there() -> Result<()> {
    let scratch = Scratch::new()?;
    replaced_files_stay(&scratch.dir("a")?, &scratch.dir("b")?)
}

#[test]
fn a_file_that_is_replaced_all_the_time_is_always_there_on_btrfs() -> Result<()> {
    require!(mounts::available("mkfs.btrfs"));
    let scratch = Scratch::new()?;
    let source = Mount::btrfs(scratch.path(), "source", 256 << 20)?;
    replaced_files_stay(&source.dir("a")?, &scratch.dir("b")?)
}

/// Names of hard link groups are replaced by other links, and by files of their own.
#[test]
fn a_link_that_is_replaced_all_the_time_is_always_there() -> Result<()> {
    let scratch = Scratch::new()?;
    let (a, b) = (scratch.dir("a")?, scratch.dir("b")?);
    let names = ["one", "d/two", "d/three"];
    fs::create_dir(a.join("d"))?;
    for name in names {
        fs::write(a.join(name), "0\n")?;
    }
    let replace = |round: u64| -> Result<()> {
        let fresh = a.join("fresh");
        fs::write(&fresh, format!("{round}\n"))?;
        for (place, name) in (0..).zip(names) {
            let next = a.join("next");
            if (round + place).is_multiple_of(3) {
                fs::write(&next, format!("alone {round}\n"))?;
            } else {
                fs::hard_link(&fresh, &next)?;
            }
            fs::rename(&next, a.join(name))?;
            // A link that is renamed over another of the same inode stays.
            let _ = fs::remove_file(&next);
        }
        Ok(fs::remove_file(&fresh)?)
    };
    while_changing(replace, || expect_always(&a, &b, &names))?;
    run(bins::mover()?.arg("sync").args([&a, &b]))?.expect(0)?;
    compare::expect_equal(&a, &b)
}

/// An entry that is a file, a link and a directory in turn is none of them for long.
#[test]
fn an_entry_of_changing_kind_is_carried_or_named() -> Result<()> {
    let scratch = Scratch::new()?;
    let (a, b) = (scratch.dir("a")?, scratch.dir("b")?);
    let name = a.join("n");
    fs::write(&name, "0")?;
    fs::create_dir_all(a.join("next.d/below"))?;
    let replace = |round: u64| -> Result<()> {
        let next = a.join("next");
        if round.is_multiple_of(2) {
            fs::write(&next, format!("{round}\n"))?;
        } else {
            std::os::unix::fs::symlink("elsewhere", &next)?;
        }
        Ok(fs::rename(&next, &name)?)
    };
    while_changing(replace, || {
        for _ in 0..PASSES {
            let done = run(bins::mover()?.arg("sync").args([&a, &b]))?;
            let there = fs::symlink_metadata(b.join("n")).is_ok();
            let named = done.status.code() == Some(1) && done.stderr.contains(": n");
            ensure!(there || named, "{}", done.stderr);
        }
        Ok(())
    })?;
    run(bins::mover()?.arg("sync").args([&a, &b]))?.expect(0)?;
    compare::expect_equal(&a, &b)
}

/// Two file systems that are shown as one: inode numbers meet.
#[test]
fn equal_inode_numbers_of_two_disks_are_two_files() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    require!(skip::program("bindfs"));
    let scratch = Scratch::new()?;
    let (disks, shown, b) = (
        scratch.dir("disks")?,
        scratch.dir("shown")?,
        scratch.dir("b")?,
    );
    let mut mounted = Vec::new();
    for disk in ["one", "two"] {
        let mount = Mount::ext4(scratch.path(), disk, 16 << 20, &["-O", "^has_journal"])?;
        let at = mount.dir("v")?;
        for (file, name) in [("orders", "o"), ("wages", "w")] {
            fs::write(at.join(file), format!("{name} of {disk}"))?;
            fs::hard_link(at.join(file), at.join(format!("{file}.bak")))?;
        }
        fs::create_dir(disks.join(disk))?;
        mounted.push((Mount::bind(&at, &disks.join(disk))?, mount));
    }
    let union = Mount::bindfs(&disks, &shown)?;
    let ino = |name: &str| fs::metadata(shown.join(name)).map(|meta| (meta.dev(), meta.ino()));
    ensure!(
        ino("one/orders")? == ino("two/orders")?,
        "the numbers do not meet"
    );
    for _ in 0..2 {
        let done = run(bins::mover()?.args(["sync", "--json"]).args([&shown, &b]))?.expect(0)?;
        let told = done.json()?.pointer("/notCarried/links").cloned();
        ensure!(told == Some(8.into()), "{}", done.stdout);
        for disk in ["one", "two"] {
            compare::expect_equal(&shown.join(disk), &b.join(disk))?;
        }
    }
    run(bins::mover()?
        .args(["sync", "--verify", "full"])
        .args([&shown, &b]))?
    .expect(0)?;
    for disk in ["one", "two"] {
        let held = fs::read_to_string(b.join(disk).join("orders"))?;
        ensure!(held == format!("o of {disk}"), "{held}");
    }
    drop(union);
    Ok(())
}

/// A tree below an odd file system, with links, and a destination that has an older copy of it.
fn below(scratch: &Scratch) -> Result<[std::path::PathBuf; 3]> {
    let [backing, at, b] = ["backing", "at", "b"].map(|name| scratch.dir(name));
    let [backing, at, b] = [backing?, at?, b?];
    fs::create_dir_all(backing.join("d/e"))?;
    for name in ["one", "d/two", "d/e/three"] {
        fs::write(backing.join(name), format!("old {name}"))?;
    }
    std::os::unix::fs::symlink("one", backing.join("link"))?;
    run(bins::mover()?.arg("sync").args([&backing, &b]))?.expect(0)?;
    fs::write(backing.join("one"), "new one")?;
    fs::write(backing.join("d/new"), "new")?;
    Ok([backing, at, b])
}

#[test]
fn inode_numbers_that_are_made_up_remove_nothing() -> Result<()> {
    require!(odd::available());
    for oddity in [Oddity::InodesAnew, Oddity::AllInodesAnew] {
        let scratch = Scratch::new()?;
        let [backing, at, b] = below(&scratch)?;
        let odd = OddFs::mount(&backing, &at, oddity, "")?;
        for flags in [&[][..], &["--verify", "full"]] {
            run(bins::mover()?.arg("sync").args(flags).args([&at, &b]))?.expect(0)?;
            compare::expect_equal(&backing, &b).with_context(|| oddity.name())?;
        }
        drop(odd);
    }
    Ok(())
}

#[test]
fn inode_numbers_that_are_made_up_allow_a_final_pass() -> Result<()> {
    require!(odd::available());
    let scratch = Scratch::new()?;
    let [backing, at, b] = below(&scratch)?;
    let odd = OddFs::mount(&backing, &at, Oddity::InodesAnew, "")?;
    let keys = Keys::generate(7)?;
    let (dir, to) = (scratch.dir("work")?, scratch.dir("to")?);
    let source = Mover::start(Side::Source, &at, &dir, &keys)?;
    let destination = Mover::start(Side::Destination, &to, &dir, &keys)?;
    let mut client = source.connect(&keys.coordinator, Epoch(1))?;
    for (number, kind) in [(1, PassKind::Live), (2, PassKind::Final)] {
        let report = report(client.ask(pass_to(destination.data()?, number, kind))?)?;
        ensure!(report.complete, "{report:?}");
        compare::expect_equal(&backing, &to)?;
    }
    drop((client, source, destination, odd, b));
    Ok(())
}

/// Files of one number whose names the file system does not tell apart but by what they are.
#[test]
fn inode_numbers_that_collide_mix_no_content() -> Result<()> {
    require!(odd::available());
    let scratch = Scratch::new()?;
    let [backing, at, b] = below(&scratch)?;
    for name in ["x", "y", "z"] {
        fs::write(backing.join(name), name)?;
        fs::hard_link(backing.join(name), backing.join(format!("d/{name}.link")))?;
    }
    // As alike as two files can be.
    let time = fs::metadata(backing.join("x"))?.modified()?;
    for name in ["y", "z"] {
        fs::File::options()
            .write(true)
            .open(backing.join(name))?
            .set_modified(time)?;
    }
    let odd = OddFs::mount(&backing, &at, Oddity::InodesCollide, "")?;
    for flags in [&[][..], &["--verify", "full"]] {
        let done = run(bins::mover()?
            .args(["sync", "--json"])
            .args(flags)
            .args([&at, &b]))?;
        let done = done.expect(0)?;
        ensure!(
            done.json()?.pointer("/notCarried/links").is_some(),
            "{}",
            done.stdout
        );
        for name in ["x", "y", "z"] {
            for name in [name.to_owned(), format!("d/{name}.link")] {
                ensure!(
                    fs::read(b.join(&name))? == fs::read(backing.join(&name))?,
                    "{name}"
                );
            }
        }
    }
    drop(odd);
    Ok(())
}

/// A name that a listing misses, or that a look does not find, is not gone while others find it.
#[test]
fn one_look_that_finds_nothing_removes_nothing() -> Result<()> {
    require!(odd::available());
    for oddity in [Oddity::MissedOnce, Oddity::MissedOften, Oddity::AbsentOnce] {
        for victim in ["one", "d", "e", "link"] {
            let scratch = Scratch::new()?;
            let [backing, at, b] = below(&scratch)?;
            let odd = OddFs::mount(&backing, &at, oddity, victim)?;
            let done = run(bins::mover()?.arg("sync").args([&at, &b]))?;
            let case = || format!("{oddity:?} of {victim}: {}", done.stderr);
            compare::expect_equal(&backing, &b).with_context(case)?;
            drop(odd);
        }
    }
    Ok(())
}

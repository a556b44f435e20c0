//! What an inode has beside what is carried: flags, projects, encryption, damaged times, leases,
//! access times, and owners that a mount hides.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use livmig_tests::{
    bins, compare,
    mounts::{self, Mount},
    require,
    run::{Finished, run, spawn},
    scratch::Scratch,
    skip,
};
use serde_json::Value;

use super::super::aged::age;

fn command(program: &str, arguments: &[&str], path: &Path) -> Result<()> {
    run(Command::new(program).args(arguments).arg(path))?.expect(0)?;
    Ok(())
}

fn sync(a: &Path, b: &Path, flags: &[&str]) -> Result<Finished> {
    run(bins::mover()?
        .args(["sync", "--json"])
        .args(flags)
        .args([a, b]))
}

/// What a run left out for `reason`: paths with their details, sorted.
fn left(done: &Finished, reason: &str) -> Result<Vec<(String, String)>> {
    let document = done.json()?;
    let all = document.pointer("/leftOut").and_then(Value::as_array);
    let text = |entry: &Value, key: &str| {
        let text = entry.get(key).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let mut found: Vec<(String, String)> = all
        .context("no list")?
        .iter()
        .filter(|left| text(left, "reason") == reason)
        .filter_map(|left| left.get("listed")?.as_array().cloned())
        .flatten()
        .map(|entry| (text(&entry, "path"), text(&entry, "detail")))
        .collect();
    found.sort();
    Ok(found)
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected
        .iter()
        .map(|(path, detail)| ((*path).to_owned(), (*detail).to_owned()))
        .collect()
}

#[test]
fn flags_and_projects_are_told_by_path_where_they_begin() -> Result<()> {
    require!(mounts::available("mkfs.xfs"));
    require!(skip::program("chattr"));
    let scratch = Scratch::new()?;
    let source = Mount::xfs(scratch.path(), "source", 320 << 20)?;
    let (a, b, state) = (source.dir("a")?, scratch.dir("b")?, scratch.dir("state")?);
    for name in ["immutable", "append", "dump", "plain", "two"] {
        fs::write(a.join(name), name)?;
    }
    fs::hard_link(a.join("two"), a.join("two.link"))?;
    for name in ["project/below", "closed"] {
        fs::create_dir_all(a.join(name))?;
    }
    command("chattr", &["+P", "-p", "42"], &a.join("project"))?;
    fs::write(a.join("project/inside"), "inherits")?;
    fs::create_dir(a.join("project/inner"))?;
    fs::write(a.join("project/other"), "another")?;
    command("chattr", &["-p", "43"], &a.join("project/other"))?;
    command("chattr", &["-p", "0"], &a.join("project/below"))?;
    for (flag, name) in [
        ("+i", "immutable"),
        ("+a", "append"),
        ("+d", "dump"),
        ("+d", "two"),
    ] {
        command("chattr", &[flag], &a.join(name))?;
    }
    command("chattr", &["+i"], &a.join("closed"))?;
    age();
    let expected = pairs(&[
        ("append", "append only"),
        ("closed", "immutable"),
        ("dump", "no dump"),
        ("immutable", "immutable"),
        ("project", "project id 42"),
        ("project/other", "project id 43"),
        ("two", "no dump"),
    ]);
    let keeps = ["--state", state.to_str().context("a path that is text")?];
    let first = sync(&a, &b, &keeps)?.expect(0)?;
    // By then nothing is read, and all is told.
    let again = sync(&a, &b, &keeps)?.expect(0)?;
    for (flag, name) in [("-i", "immutable"), ("-a", "append"), ("-i", "closed")] {
        command("chattr", &[flag], &a.join(name))?;
    }
    ensure!(left(&first, "flags")? == expected, "{}", first.stdout);
    ensure!(
        again.json()?.get("bytesScanned") == Some(&0.into()),
        "{}",
        again.stdout
    );
    let paths = |told: Vec<(String, String)>| -> Vec<String> {
        told.into_iter().map(|(path, _)| path).collect()
    };
    ensure!(
        paths(left(&again, "flags")?) == paths(expected),
        "{}",
        again.stdout
    );
    compare::expect_equal(&a, &b)
}

#[test]
fn no_copy_on_write_is_told_of_the_directory_it_comes_from() -> Result<()> {
    require!(mounts::available("mkfs.btrfs"));
    require!(skip::program("chattr"));
    let scratch = Scratch::new()?;
    let source = Mount::btrfs(scratch.path(), "source", 256 << 20)?;
    let (a, b) = (source.dir("a")?, scratch.dir("b")?);
    fs::create_dir(a.join("images"))?;
    command("chattr", &["+C"], &a.join("images"))?;
    fs::write(a.join("images/disk"), "inherits")?;
    File::create(a.join("alone"))?;
    command("chattr", &["+C"], &a.join("alone"))?;
    let done = sync(&a, &b, &[])?.expect(0)?;
    let expected = pairs(&[
        ("alone", "no copy on write"),
        ("images", "no copy on write"),
    ]);
    ensure!(left(&done, "flags")? == expected, "{}", done.stdout);
    compare::expect_equal(&a, &b)
}

/// An inode whose modification time has more nanoseconds than a second.
#[test]
fn a_damaged_time_fails_one_entry_by_name() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    require!(skip::program("debugfs"));
    let scratch = Scratch::new()?;
    let b = scratch.dir("b")?;
    let (at, image) = (
        scratch.path().join("source"),
        scratch.path().join("source.img"),
    );
    let source = Mount::ext4(scratch.path(), "source", 16 << 20, &["-I", "256"])?;
    fs::create_dir(at.join("dir"))?;
    for name in ["a", "bad", "c", "dir/below"] {
        fs::write(at.join(name), name)?;
    }
    drop(source);
    for name in ["bad", "dir"] {
        let set = format!("set_inode_field {name} mtime_extra 0xfffffff0");
        command("debugfs", &["-w", "-R", &set], &image)?;
    }
    let source = Mount::again(&image, &at)?;
    fs::write(b.join("bad"), "the good copy")?;
    let done = sync(&at, &b, &[])?.expect(1)?;
    done.says(&["modification time is damaged", ": bad", ": dir"])?;
    ensure!(!done.stderr.contains("got a frame"), "{}", done.stderr);
    ensure!(fs::read_to_string(b.join("bad"))? == "the good copy");
    for name in ["a", "c", "dir/below"] {
        ensure!(fs::read_to_string(b.join(name))? == name, "{name}");
    }
    run(bins::mover()?.arg("inspect").arg(&at))?
        .expect(1)?
        .says(&["damaged"])?;
    // At a destination it is set anew.
    let fresh = scratch.dir("fresh")?;
    for name in ["a", "bad", "c"] {
        fs::write(fresh.join(name), name)?;
    }
    fs::create_dir(fresh.join("dir"))?;
    let done = sync(&fresh, &at, &[])?.expect(0)?;
    ensure!(
        done.json()?.get("proven") == Some(&true.into()),
        "{}",
        done.stdout
    );
    compare::expect_equal(&fresh, &at)?;
    drop(source);
    Ok(())
}

/// Whoever holds a lease on a file is asked to let go, and waited for.
#[test]
fn a_file_under_a_lease_is_waited_for() -> Result<()> {
    require!(skip::program("python3"));
    const HOLD: &str = "\
import fcntl, os, signal, sys, time
fd = os.open(sys.argv[1], os.O_RDWR)
def let_go(*_):
    time.sleep(0.3)
    os.ftruncate(fd, 0)
    os.pwrite(fd, b'flushed', 0)
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    sys.exit()
signal.signal(signal.SIGIO, let_go)
fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print('held', flush=True)
time.sleep(60)
";
    let scratch = Scratch::new()?;
    let (a, b) = (scratch.dir("a")?, scratch.dir("b")?);
    for root in [&a, &b] {
        fs::write(root.join("leased"), "old")?;
        // The holder's end, or the destination's: both give way.
        let mut holder = spawn(
            Command::new("python3")
                .args(["-S", "-E", "-c", HOLD])
                .arg(root.join("leased"))
                .stdout(Stdio::piped()),
        )?;
        let mut said = String::new();
        BufReader::new(holder.stdout.take().context("no stdout")?).read_line(&mut said)?;
        ensure!(said == "held\n", "no lease: {said:?}");
        let done = sync(&a, &b, &[]);
        let _ = holder.kill();
        holder.wait()?;
        done?.expect(0)?;
        ensure!(fs::read_to_string(b.join("leased"))? == "flushed");
        fs::remove_file(a.join("leased"))?;
        fs::write(a.join("leased"), "flushed")?;
    }
    Ok(())
}

#[test]
fn reading_leaves_access_times_alone() -> Result<()> {
    require!(skip::root());
    let scratch = Scratch::new()?;
    let (a, b) = (scratch.dir("a")?, scratch.dir("b")?);
    let mount = Mount::tmpfs_over(&a)?;
    command("mount", &["-o", "remount,strictatime"], &a)?;
    fs::create_dir(a.join("d"))?;
    fs::write(a.join("d/f"), "f")?;
    symlink("f", a.join("d/l"))?;
    for name in ["d/f", "d/l", "d", "."] {
        command(
            "touch",
            &["-h", "-a", "-d", "2001-01-01 UTC"],
            &a.join(name),
        )?;
    }
    let done = sync(&a, &b, &[])?.expect(0)?;
    let told = !left(&done, "access-times")?.is_empty();
    for name in ["d/f", "d", ".", "d/l"] {
        let kept = fs::symlink_metadata(a.join(name))?.atime() == 978_307_200;
        // Links need a right that a container may not have.
        ensure!(
            kept || told && name == "d/l",
            "{name} was touched: {}",
            done.stdout
        );
    }
    drop(mount);
    Ok(())
}

/// What a user may not leave alone is told.
#[test]
fn access_times_that_reading_moves_are_told() -> Result<()> {
    require!(skip::root());
    require!(skip::program("setpriv"));
    let scratch = Scratch::public()?;
    let program = scratch.path().join("livmig-mover");
    fs::copy(bins::path("livmig-mover")?, &program)?;
    let [a, b, work] = ["a", "b", "work"].map(|name| scratch.dir(name));
    let (a, b, work) = (a?, b?, work?);
    let mount = Mount::tmpfs_over(&a)?;
    fs::set_permissions(&a, fs::Permissions::from_mode(0o755))?;
    fs::write(a.join("f"), "f")?;
    chown(a.join("f"), Some(0), Some(65_534))?;
    for root in [&b, &work] {
        chown(root, Some(65_534), Some(65_534))?;
    }
    let guest = |flags: &[&str]| -> Result<Finished> {
        let mut setpriv = Command::new("setpriv");
        setpriv
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .arg(&program)
            .args(["sync", "--json"])
            .args(flags)
            .args([&a, &b])
            .env("TMPDIR", &work);
        run(&mut setpriv)
    };
    let told = left(&guest(&[])?, "access-times")?;
    ensure!(told == pairs(&[(".", "")]), "{told:?}");
    command("mount", &["-o", "remount,noatime"], &a)?;
    ensure!(left(&guest(&[])?, "access-times")?.is_empty());
    drop(mount);
    Ok(())
}

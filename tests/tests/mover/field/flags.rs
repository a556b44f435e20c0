//! What an inode has beside what is carried: flags, projects, encryption, damaged times, leases,
//! access times, and owners that a mount hides.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{BufRead as _, BufReader},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, PermissionsExt as _, chown, lchown, symlink},
    },
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
    let [root, image] = ["source", "source.img"].map(|name| scratch.path().join(name));
    let source = Mount::ext4(scratch.path(), "source", 16 << 20, &["-I", "256"])?;
    let at = source.dir("v")?;
    fs::create_dir(at.join("dir"))?;
    for name in ["a", "bad", "c", "dir/below"] {
        fs::write(at.join(name), name)?;
    }
    drop(source);
    for name in ["bad", "dir"] {
        let set = format!("set_inode_field v/{name} mtime_extra 0xfffffff0");
        command("debugfs", &["-w", "-R", &set], &image)?;
    }
    let source = Mount::again(&image, &root)?;
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

/// Holds a lease on a file, and lets go after a moment once it is asked to.
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

/// Whoever holds a lease on a file is asked to let go, and waited for.
#[test]
fn a_file_under_a_lease_is_waited_for() -> Result<()> {
    require!(skip::program("python3"));
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

/// Adds a key, makes `enc` or takes the key away: what `fscrypt` does.
const FSCRYPT: &str = "\
import fcntl, os, struct, sys
root, what = sys.argv[2], sys.argv[1]
fd = os.open(root, os.O_RDONLY)
def request(way, number, size): return way << 30 | size << 16 | ord('f') << 8 | number
key = bytes(range(64))
spec = struct.pack('<II32s', 2, 0, b'')
add = bytearray(spec + struct.pack('<II8I', 64, 0, *[0] * 8) + key)
if what != 'lock':
    fcntl.ioctl(fd, request(3, 23, 80), add)
    open(root + '/.id', 'wb').write(add[8:24])
name = open(root + '/.id', 'rb').read()
if what == 'make':
    os.mkdir(root + '/enc')
    policy = struct.pack('<BBBB4s16s', 2, 1, 4, 3, b'', name)
    fcntl.ioctl(os.open(root + '/enc', os.O_RDONLY), request(2, 19, 12), policy)
if what == 'lock':
    spec = struct.pack('<II32sI5I', 2, 0, name, 0, *[0] * 5)
    fcntl.ioctl(fd, request(3, 24, 64), bytearray(spec))
";

/// Runs a script in Python, which has system calls that no safe crate has.
fn python(script: &str, arguments: &[&str], path: &Path) -> Result<()> {
    let options = ["-S", "-E", "-c", script];
    command("python3", &[&options, arguments].concat(), path)
}

#[test]
fn an_encrypted_directory_needs_its_key_and_consent() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    require!(skip::program("python3"));
    let scratch = Scratch::new()?;
    let b = scratch.dir("b")?;
    let options = ["-b", "4096", "-O", "encrypt"];
    let source = Mount::ext4(scratch.path(), "source", 64 << 20, &options)?;
    let a = source.path();
    fs::write(a.join("plain"), "plain")?;
    let made = python(FSCRYPT, &["make"], a);
    require!(made.map_err(|error| format!("needs a kernel with fscrypt ({error})")));
    fs::create_dir_all(a.join("enc/links"))?;
    fs::write(a.join("enc/secret"), "secret")?;
    symlink("secret", a.join("enc/links/l"))?;

    let told = sync(a, &b, &[])?.expect(1)?;
    ensure!(
        left(&told, "encrypted")? == pairs(&[("enc", "")]),
        "{}",
        told.stdout
    );
    let flags = ["--leave-out", "encrypted"];
    sync(a, &b, &flags)?.expect(0)?;
    compare::expect_equal(&a.join("enc"), &b.join("enc"))?;

    // Where nothing is there yet, and where the good copy is; from above, and as the root.
    let (empty, good) = (scratch.dir("empty")?, b.join("enc"));
    run(&mut Command::new("sync"))?.expect(0)?;
    python(FSCRYPT, &["lock"], a)?;
    fs::write(a.join("more"), "more")?;
    for (from, to) in [
        (a.to_owned(), &b),
        (a.to_owned(), &empty),
        (a.join("enc"), &good),
    ] {
        let done = sync(&from, to, &flags)?.expect(1)?;
        done.says(&["encrypted", "key is not there"])?;
    }
    ensure!(fs::read_to_string(good.join("secret"))? == "secret");
    ensure!(fs::read_link(good.join("links/l"))? == Path::new("secret"));
    ensure!(fs::read_dir(&good)?.count() == 2);
    for root in [&b, &empty] {
        ensure!(fs::read_to_string(root.join("more"))? == "more");
    }
    ensure!(!empty.join("enc").exists());
    Ok(())
}

/// Mounts a directory a second time, its owners from 100 000 on shown as those from 0 on.
const MAP_OWNERS: &str = "\
import ctypes, os, struct, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
source, at = sys.argv[1:3]
other = subprocess.Popen(
    ['unshare', '-U', 'sh', '-c', 'echo; read x'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
other.stdout.readline()
for name in ('uid_map', 'gid_map'):
    open('/proc/%d/%s' % (other.pid, name), 'w').write('100000 0 65536')
namespace = os.open('/proc/%d/ns/user' % other.pid, os.O_RDONLY)
tree = libc.syscall(428, -100, source.encode(), 1 | 0o2000000)
attributes = struct.pack('<QQQQ', 0x100000, 0, 0, namespace)
failed = libc.syscall(442, tree, b'', 0x1000, attributes, 32)
failed = failed or libc.syscall(429, tree, b'', -100, at.encode(), 4)
other.communicate(b'x')
sys.exit(os.strerror(ctypes.get_errno()) if failed else 0)
";

/// Owners that an id-mapped mount does not know look like one that it may know.
#[test]
fn owners_that_a_mount_hides_are_told() -> Result<()> {
    require!(skip::root());
    require!(skip::program("python3"));
    let scratch = Scratch::new()?;
    let [back, a, b] = ["back", "a", "b"].map(|name| scratch.dir(name));
    let (back, a, b) = (back?, a?, b?);
    let below = Mount::tmpfs_over(&back)?;
    // The kernel's list of mounts is no text then.
    let aside = scratch.path().join(OsStr::from_bytes(b"\xff"));
    fs::create_dir(&aside)?;
    let aside = Mount::tmpfs_over(&aside)?;
    fs::create_dir(back.join("d"))?;
    chown(back.join("d"), Some(100_000), Some(100_000))?;
    for (name, owner) in [("in", 100_005), ("nobody", 165_534), ("d/out", 7)] {
        fs::write(back.join(name), name)?;
        chown(back.join(name), Some(owner), Some(100_000))?;
    }
    symlink("x", back.join("link"))?;
    lchown(back.join("link"), Some(100_000), Some(8))?;
    chown(&back, Some(100_000), Some(100_000))?;
    let from = back.to_str().context("a path that is text")?;
    let mapped = python(MAP_OWNERS, &[from], &a);
    require!(mapped.map_err(|error| format!("needs id-mapped mounts ({error})")));
    let done = sync(&a, &b, &[]);
    command("umount", &[], &a)?;
    let done = done?.expect(1)?;
    let expected = pairs(&[("d/out", ""), ("link", "")]);
    ensure!(left(&done, "owners")? == expected, "{}", done.stdout);
    // Where nothing is mapped it is an owner like any other.
    chown(back.join("in"), Some(65_534), Some(65_534))?;
    let done = sync(&back, &b, &[])?.expect(0)?;
    ensure!(left(&done, "owners")?.is_empty(), "{}", done.stdout);
    drop((aside, below));
    Ok(())
}

//! The app of `deploy/example`, on its own: it ends with the code it promises whatever was done to
//! its volumes, and a kill at any moment is nothing that it complains of.

use std::{
    fs::{self, OpenOptions},
    os::unix::{fs::FileExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output},
};

use anyhow::{Context as _, Result, ensure};
use livmig_tests::{require, scratch::Scratch, skip};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// The app's volumes.
struct App {
    scratch: Scratch,
}

/// The app while it runs, with every process that it starts.
struct Running(Child);

impl App {
    fn new() -> Result<Self> {
        let scratch = Scratch::new()?;
        for folder in ["data", "verify", "flags"] {
            scratch.dir(folder)?;
        }
        Ok(Self { scratch })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn command(&self, part: &str, fsck_every: u32) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/example/app.sh");
        let mut command = Command::new("bash");
        command
            .arg(script)
            .arg(part)
            .env("APP_DATA", self.path("data"))
            .env("APP_VERIFY", self.path("verify"))
            .env("APP_FLAGS", self.path("flags"))
            .env("APP_FSCK_EVERY", fsck_every.to_string())
            .env("APP_FILL_MB", "16")
            .env("APP_SMALL_FILES", "1001")
            .env("APP_SMALL_BYTES", "1000")
            .env("APP_PAUSE", "0")
            .env("APP_WRITE_PAUSE", "0")
            .process_group(0);
        command
    }

    fn run(&self, part: &str) -> Result<Output> {
        Ok(self.command(part, 100).output()?)
    }

    /// Starts it and waits until it has written.
    fn start(&self) -> Result<Running> {
        // A killed run leaves it.
        let _none_before = fs::remove_file(self.path("flags/ready"));
        let mut running = Running(self.command("run", 3).spawn()?);
        while !self.path("flags/ready").exists() {
            let ended = running.0.try_wait()?;
            ensure!(ended.is_none(), "the app ended with {ended:?}");
            std::thread::yield_now();
        }
        Ok(running)
    }

    /// Starts it on volumes that it cannot be content with; how it ends.
    fn end(&self) -> Result<ExitStatus> {
        Ok(Running(self.command("run", 1).spawn()?).0.wait()?)
    }

    fn counts(&self) -> Result<String> {
        Ok(String::from_utf8(self.run("counts")?.stdout)?)
    }

    fn git(&self, volume: &str, arguments: &[&str]) -> Result<String> {
        let mut git = Command::new("git");
        git.arg("-C").arg(self.path(volume).join("repository"));
        let output = git.args(arguments).output()?;
        ensure!(output.status.success(), "{git:?}: {output:?}");
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }
}

impl Running {
    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.0.id())?).context("a process id")?;
        if signal == Signal::KILL {
            kill_process_group(pid, signal)?;
        } else {
            kill_process(pid, signal)?;
        }
        Ok(())
    }

    fn kill(mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only as long as it is ours to wait for is its id surely its own.
        if matches!(self.0.try_wait(), Ok(None)) {
            let _already_ended = self.signal(Signal::KILL);
            let _reaped = self.0.wait();
        }
    }
}

/// An app that has written, and been stopped as Kubernetes stops it.
fn stopped() -> Result<App> {
    let app = App::new()?;
    let mut running = app.start()?;
    assert_eq!(app.run("check")?.status.code(), Some(0));
    assert_eq!(app.run("pre-stop")?.status.code(), Some(0));
    let counts = app.counts()?;
    running.signal(Signal::TERM)?;
    assert_eq!(running.0.wait()?.code(), Some(0));
    assert_eq!(app.counts()?, counts, "it wrote after the hook");
    Ok(app)
}

#[test]
fn stopped_as_asked_it_goes_on_where_it_was() -> Result<()> {
    require!(skip::program("bash"));
    require!(skip::program("git"));
    let app = stopped()?;
    let before = app.counts()?;
    let running = app.start()?;
    assert_eq!(app.run("check")?.status.code(), Some(0));
    assert_ne!(app.counts()?, before);
    running.kill()
}

#[test]
fn killed_at_any_moment_it_has_nothing_to_complain_of() -> Result<()> {
    require!(skip::program("bash"));
    require!(skip::program("git"));
    let app = App::new()?;
    for round in 0..8 {
        let running = app.start()?;
        // Not always just after the first commit.
        for _ in 0..round {
            app.counts()?;
        }
        running.kill()?;
    }
    let running = app.start()?;
    assert_eq!(app.run("check")?.status.code(), Some(0));
    running.kill()
}

#[test]
fn an_empty_volume_in_the_place_of_data_is_found_out() -> Result<()> {
    require!(skip::program("bash"));
    require!(skip::program("git"));
    let app = stopped()?;
    fs::remove_dir_all(app.path("data"))?;
    fs::create_dir(app.path("data"))?;
    assert_eq!(app.end()?.code(), Some(1));
    Ok(())
}

#[test]
fn a_damaged_object_is_found_out() -> Result<()> {
    require!(skip::program("bash"));
    require!(skip::program("git"));
    let app = stopped()?;
    // One of the first commit: nothing but fsck looks at it again.
    let first = app.git("data", &["rev-list", "--max-parents=0", "HEAD"])?;
    let object = app.git("data", &["rev-parse", &format!("{first}:random.b64")])?;
    let (folder, file) = object.split_at(2);
    let object = app
        .path("data/repository/.git/objects")
        .join(folder)
        .join(file);
    fs::remove_file(&object)?;
    fs::write(&object, "damaged")?;
    assert_eq!(app.end()?.code(), Some(2));
    Ok(())
}

#[test]
fn lost_commits_are_found_out() -> Result<()> {
    require!(skip::program("bash"));
    require!(skip::program("git"));
    let app = stopped()?;
    app.git("data", &["reset", "--quiet", "--hard", "HEAD~1"])?;
    assert_eq!(app.end()?.code(), Some(3));
    Ok(())
}

#[test]
fn a_lost_page_is_found_out() -> Result<()> {
    require!(skip::program("bash"));
    require!(skip::program("git"));
    let app = stopped()?;
    let file = app.path("data/fill/00000");
    // Many, far apart: the writer may rewrite one before anybody looks, in both volumes.
    let opened = OpenOptions::new().write(true).open(&file)?;
    for page in (0..fs::metadata(&file)?.len()).step_by(1 << 20) {
        opened.write_all_at(&[0; 4096], page)?;
    }
    let running = app.start()?;
    assert_eq!(app.run("check")?.status.code(), Some(4));
    running.kill()
}

#[test]
fn a_lost_small_file_is_found_out() -> Result<()> {
    require!(skip::program("bash"));
    require!(skip::program("git"));
    let app = stopped()?;
    // The writer rewrites those that it knows, which would mend one of them.
    fs::write(app.path("data/fill/small/00001/001"), "old")?;
    fs::write(app.path("verify/fill/small/00001/001"), "new")?;
    let running = app.start()?;
    assert_eq!(app.run("check")?.status.code(), Some(4));
    running.kill()
}

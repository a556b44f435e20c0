//! Movers that are no more than the workload, on volumes whose root directory belongs to somebody
//! else: what a restricted namespace leaves of them.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, chown},
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};
use livmig_proto::{
    control::{
        FaultCode, PassKind, PassReport, Reason, RequestBody, ResponseBody, Side, VerifyLevel,
    },
    ids::Epoch,
};
use livmig_tests::{
    bins, compare,
    control::{Keys, Mover},
    pair::{pass_to, report},
    require,
    scratch::Scratch,
    skip,
    tree::posix,
};

/// A user without rights, and its group, which the root directories are given to.
const GUEST: u32 = 65_534;

/// Two volumes and their movers.
struct Guests {
    a: PathBuf,
    b: PathBuf,
    keys: Keys,
    source: Mover,
    destination: Mover,
    _scratch: Scratch,
}

impl Guests {
    fn start() -> Result<Self> {
        let scratch = Scratch::public()?;
        let program = scratch.path().join("livmig-mover");
        fs::copy(bins::path("livmig-mover")?, &program)?;
        let (a, b, work) = (scratch.dir("a")?, scratch.dir("b")?, scratch.dir("work")?);
        chown(&work, Some(GUEST), Some(GUEST))?;
        for root in [&a, &b] {
            chown(root, Some(0), Some(GUEST))?;
            posix::set_mode(root, 0o2775)?;
        }
        fs::create_dir(a.join("folder"))?;
        for (name, mode) in [("program", 0o6750), ("folder/closed", 0o400)] {
            fs::write(a.join(name), name)?;
            chown(a.join(name), Some(GUEST), Some(GUEST))?;
            posix::set_mode(&a.join(name), mode)?;
        }
        chown(a.join("folder"), Some(GUEST), Some(GUEST))?;
        let keys = Keys::generate(1)?;
        let mover = |side, root: &Path| Mover::start_as(GUEST, &program, side, root, &work, &keys);
        let (source, destination) = (mover(Side::Source, &a)?, mover(Side::Destination, &b)?);
        Ok(Self {
            a,
            b,
            source,
            destination,
            keys,
            _scratch: scratch,
        })
    }

    fn pass(&self, number: u32, kind: PassKind) -> Result<PassReport> {
        let mut client = self.source.connect(&self.keys.coordinator, Epoch(1))?;
        report(client.ask(pass_to(self.destination.data()?, number, kind))?)
    }

    /// The digest of everything that a mover's volume holds, read again.
    fn digest(&self, mover: &Mover) -> Result<String> {
        let mut client = mover.connect(&self.keys.coordinator, Epoch(1))?;
        match client.ask(RequestBody::Manifest {
            level: VerifyLevel::Full,
        })? {
            ResponseBody::Manifest(manifest) => Ok(manifest.digest),
            other => bail!("no manifest but {other:?}"),
        }
    }
}

#[test]
fn all_but_the_root_s_time_is_carried_and_that_is_said() -> Result<()> {
    require!(skip::root());
    require!(skip::program("setpriv"));
    let guests = Guests::start()?;
    for (number, kind) in [(1, PassKind::Live), (2, PassKind::Final)] {
        let report = guests.pass(number, kind)?;
        assert!(report.complete, "{report:?}");
        assert_eq!(report.digest_source, report.digest_destination);
        let mut left = report.left_out.iter().map(|left| (left.reason, left.total));
        assert!(left.any(|left| left == (Reason::RootTime, 1)));
    }
    assert_eq!(
        guests.digest(&guests.source)?,
        guests.digest(&guests.destination)?
    );
    for root in [&guests.a, &guests.b] {
        let root = fs::metadata(root)?;
        assert_eq!((root.uid(), root.mode() & 0o7777), (0, 0o2775));
    }
    compare::expect_equal(&guests.a.join("folder"), &guests.b.join("folder"))?;
    let program = fs::metadata(guests.b.join("program"))?;
    assert_eq!((program.uid(), program.mode() & 0o7777), (GUEST, 0o6750));
    Ok(())
}

#[test]
fn what_belongs_to_another_fails_the_pass_by_name_and_is_not_given_to_the_mover() -> Result<()> {
    require!(skip::root());
    require!(skip::program("setpriv"));
    let guests = Guests::start()?;
    fs::write(guests.a.join("of another"), "mine")?;
    chown(guests.a.join("of another"), Some(4_242), Some(GUEST))?;
    let report = guests.pass(1, PassKind::Live)?;
    assert!(!report.complete);
    let fault = report.faults.iter().find(|fault| {
        fault.code == FaultCode::Permission && fault.path.as_deref() == Some("of another")
    });
    assert!(fault.is_some(), "{report:?}");

    fs::remove_file(guests.a.join("of another"))?;
    let report = guests.pass(2, PassKind::Live)?;
    assert!(report.complete, "{report:?}");
    assert!(!guests.b.join("of another").exists());
    Ok(())
}

#[test]
fn a_root_of_another_mode_fails_the_pass() -> Result<()> {
    require!(skip::root());
    require!(skip::program("setpriv"));
    let guests = Guests::start()?;
    posix::set_mode(&guests.a, 0o3775)?;
    let report = guests.pass(1, PassKind::Live)?;
    assert!(!report.complete);
    let fault = report.faults.iter().find(|fault| {
        fault.code == FaultCode::Permission && fault.message.contains("2775, to 3775")
    });
    assert!(fault.is_some(), "{report:?}");
    Ok(())
}

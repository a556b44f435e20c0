//! The limits of a migration that runs.

use std::fs;

use anyhow::{Result, ensure};
use livmig_tests::{
    journal::{Journals, is_intent},
    rng::Rng,
    run::{LIMIT, Running, run},
};

use super::{host::Host, migrate::expect_completed};

/// At the lowest bandwidth it would take longer than anything here waits.
const LARGE: usize = 48 << 20;

#[test]
fn a_bandwidth_is_changed_under_way() -> Result<()> {
    let host = Host::start()?;
    fs::write(host.old.join("large"), Rng::new(80).bytes(LARGE))?;
    let migration = Running::start(host.migrate_dir()?.args(["--bandwidth", "64Ki"]))?;
    let mut journals = Journals::watch(&host.state_home)?;
    ensure!(journals.wait_for(&migration, |record| is_intent(record, "pass"))?);
    let name = host.migration()?;
    let set = |flags: &[&str]| run(host.coord()?.args(["set", &name]).args(flags));
    set(&[])?.expect(2)?;
    set(&["--bandwidth", "1"])?.expect(2)?.says(&["64Ki"])?;
    let changed = set(&["--bandwidth", "none"])?.expect(0)?;
    ensure!(changed.stdout.contains("unlimited"), "{changed:?}");

    expect_completed(&migration.wait(LIMIT)?.expect(0)?.json()?)?;
    set(&["--bandwidth", "none"])?.expect(3)?.says(&["ended"])?;
    host.expect_running_on(&host.new)
}

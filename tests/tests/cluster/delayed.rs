//! A class whose volumes take long to attach.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use livmig_tests::{require, run::run, skip::own_cluster};

use crate::fixture::{NEW, OLD, Workload, with_namespace};

/// How long attaching a volume of [`OLD`] takes, until this is dropped.
struct Delay(PathBuf);

impl Delay {
    fn of(folder: &Path, duration: &str) -> Result<Self> {
        let delay = Self(folder.join("attach"));
        fs::write(&delay.0, duration)?;
        Ok(delay)
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_volume_that_attaches_slowly_is_waited_for() -> Result<()> {
    let cluster = own_cluster();
    require!(cluster.as_ref().map(|_| ()).map_err(Clone::clone));
    let folder = cluster.unwrap_or_default().join("delays");
    with_namespace("delayed", |namespace| {
        let workload = Workload::stateful_set().class(NEW);
        namespace.start(&workload)?;
        let delay = Delay::of(&folder, "2s")?;
        run(&mut namespace.migration(&workload, OLD)?)?.expect(0)?;
        drop(delay);
        namespace.expect_completed(&workload, OLD)
    })
}

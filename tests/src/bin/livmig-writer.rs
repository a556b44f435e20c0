//! The workload of whole-migration tests: `livmig-writer start|stop|run VOLUME HOME`.

use std::{env, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use livmig_tests::writer::service::Service;

fn main() -> Result<()> {
    let mut arguments = env::args_os().skip(1);
    let mut next = || {
        arguments
            .next()
            .context("usage: start|stop|run VOLUME HOME")
    };
    let action = next()?;
    let service = Service {
        volume: PathBuf::from(next()?),
        home: PathBuf::from(next()?),
    };
    match action.to_str() {
        Some("start") => service.start(&env::current_exe()?),
        Some("stop") => service.stop(),
        Some("run") => service.run(),
        _ => bail!("no action {}", action.display()),
    }
}

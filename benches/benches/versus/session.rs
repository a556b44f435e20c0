//! A running session: two movers that know each other's state, as during a migration.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use livmig_proto::{
    control::{PassKind, PassReport, PassRequest, RequestBody, ResponseBody, Side, VerifyLevel},
    ids::{Epoch, PassNumber},
};
use livmig_tests::{
    control::{Keys, Mover},
    run::LIMIT,
};
use rustix::process::Signal;

use crate::measure::{Cost, measure};

/// Two movers and the number of the last pass.
pub(crate) struct Session {
    keys: Keys,
    source: Mover,
    destination: Mover,
    passes: u32,
}

impl Session {
    /// Starts both movers, with what they need below `scratch`.
    pub(crate) fn start(from: &Path, to: &Path, scratch: &Path) -> Result<Self> {
        let keys = Keys::generate(1)?;
        Ok(Self {
            destination: Mover::start(Side::Destination, to, scratch, &keys)?,
            source: Mover::start(Side::Source, from, scratch, &keys)?,
            keys,
            passes: 0,
        })
    }

    /// Runs one pass to its end.
    pub(crate) fn pass(&mut self, kind: PassKind) -> Result<PassReport> {
        self.passes += 1;
        let mut client = self.source.connect(&self.keys.coordinator, Epoch(1))?;
        let request = PassRequest {
            pass: PassNumber(self.passes),
            kind,
            destination: self.destination.data()?,
            verify: VerifyLevel::Readback,
            adopt: true,
            allow_empty: false,
            may_leave_read_back: false,
        };
        let report = match client.ask(RequestBody::Pass(request))? {
            ResponseBody::Report(report) => *report,
            other => bail!("no report but {other:?}"),
        };
        client.ask(RequestBody::Acknowledge { pass: report.pass })?;
        ensure!(report.complete, "the pass is not complete: {report:?}");
        Ok(report)
    }

    /// One pass, measured. The movers live on, so their processor time is not among it.
    pub(crate) fn measured_pass(&mut self, kind: PassKind) -> Result<Cost> {
        measure(
            || {
                let report = self.pass(kind)?;
                eprintln!("  of which {:?}", report.seconds);
                Ok(Some(report.bytes_sent))
            },
            || Ok(()),
        )
    }

    /// Ends both.
    pub(crate) fn end(self) -> Result<()> {
        for mover in [self.source, self.destination] {
            mover.process.signal(Signal::TERM)?;
            mover.process.wait(LIMIT)?;
        }
        Ok(())
    }
}

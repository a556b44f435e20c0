//! Both movers of a migration, without a coordinator: tests are theirs.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::{Result, bail, ensure};
use livmig_proto::{
    control::{PassKind, PassReport, PassRequest, RequestBody, ResponseBody, Side, VerifyLevel},
    ids::{Epoch, PassNumber},
};

use crate::{
    compare,
    control::{Keys, Mover},
    rng::Rng,
    run::LIMIT,
    scratch::Scratch,
    tree::random,
};

/// Both movers of a migration, a tree to move, and their coordinator's keys.
pub struct Pair {
    /// The tree at the source.
    pub a: PathBuf,
    /// The one at the destination, empty at first.
    pub b: PathBuf,
    /// Those that the movers were started with.
    pub keys: Keys,
    /// The mover that reads `a`.
    pub source: Mover,
    /// The mover that writes `b`.
    pub destination: Mover,
    /// Where both trees and the movers' state are.
    pub scratch: Scratch,
}

impl Pair {
    /// Starts both, with a random tree at the source.
    pub fn start(seed: u64) -> Result<Self> {
        let scratch = Scratch::new()?;
        let (a, b) = (scratch.dir("a")?, scratch.dir("b")?);
        random::make(&a, 200, &mut Rng::new(seed))?;
        let keys = Keys::generate(1)?;
        let source = Mover::start(Side::Source, &a, scratch.path(), &keys)?;
        let destination = Mover::start(Side::Destination, &b, scratch.path(), &keys)?;
        Ok(Self {
            a,
            b,
            keys,
            source,
            destination,
            scratch,
        })
    }

    /// The request of a pass between them.
    pub fn pass(&self, number: u32, kind: PassKind) -> Result<RequestBody> {
        Ok(pass_to(self.destination.data()?, number, kind))
    }

    /// Runs a pass, which must be complete, and compares both ends.
    pub fn run_pass(&self, number: u32, kind: PassKind) -> Result<PassReport> {
        let mut client = self.source.connect(&self.keys.coordinator, Epoch(1))?;
        let report = report(client.ask(self.pass(number, kind)?)?)?;
        ensure!(report.complete, "{report:?}");
        ensure!(
            report.digest_source == report.digest_destination,
            "{report:?}"
        );
        compare::expect_equal(&self.a, &self.b)?;
        Ok(report)
    }

    /// Shuts both movers down; each must end with 0.
    pub fn shut_down(self) -> Result<()> {
        for mover in [self.source, self.destination] {
            let mut client = mover.connect(&self.keys.coordinator, Epoch(1))?;
            let answer = client.ask(RequestBody::Shutdown)?;
            ensure!(answer == ResponseBody::Accepted, "{answer:?}");
            mover.process.wait(LIMIT)?.expect(0)?;
        }
        Ok(())
    }
}

/// The request of a pass to the destination at `address`.
pub fn pass_to(address: SocketAddr, number: u32, kind: PassKind) -> RequestBody {
    RequestBody::Pass(PassRequest {
        pass: PassNumber(number),
        kind,
        destination: address,
        verify: VerifyLevel::Readback,
        adopt: false,
        allow_empty: false,
        may_leave_read_back: false,
    })
}

/// The same request, by one who does not rely on a first copy before it is read back.
pub fn leaving(mut request: RequestBody) -> RequestBody {
    if let RequestBody::Pass(pass) = &mut request {
        pass.may_leave_read_back = true;
    }
    request
}

/// The report in an answer.
pub fn report(answer: ResponseBody) -> Result<PassReport> {
    match answer {
        ResponseBody::Report(report) => Ok(*report),
        other => bail!("no report but {other:?}"),
    }
}

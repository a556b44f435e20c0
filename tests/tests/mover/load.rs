//! Limits of live passes: they hold, they may change under way, a final pass has none, and a
//! destination that is slow costs the source no memory.

use std::{fs, path::Path, time::Instant};

use anyhow::{Context as _, Result, bail};
use livmig_proto::{
    control::{
        Bandwidth, FaultCode, IoPriority, Limits, MoverRequest, PassKind, PassReport, Progress,
        RequestBody, ResponseBody, encode,
    },
    ids::{Epoch, PassNumber},
};
use livmig_tests::{
    compare,
    control::Client,
    pair::{Pair, report},
    rng::Rng,
    run::high_water,
};
use rustix::process::Signal;

const MIB: u64 = 1 << 20;

/// A rate at which what the tests send would take a quarter of an hour.
const CRAWL: u64 = Bandwidth::MIN;

/// The size of a file that would take it.
const LARGE: u64 = 48 * MIB;

fn load(rate: u64) -> Result<Limits> {
    Ok(Limits {
        bandwidth: Some(Bandwidth::try_from(rate)?),
        io_priority: IoPriority::Idle,
    })
}

fn put(dir: &Path, name: &str, bytes: u64, seed: u64) -> Result<()> {
    let content = Rng::new(seed).bytes(usize::try_from(bytes)?);
    Ok(fs::write(dir.join(name), content)?)
}

fn client(pair: &Pair) -> Result<Client> {
    pair.source.connect(&pair.keys.coordinator, Epoch(1))
}

fn limit(pair: &Pair, load: Limits) -> Result<()> {
    let answer = client(pair)?.ask(RequestBody::Limit(load))?;
    assert_eq!(answer, ResponseBody::Accepted);
    Ok(())
}

/// A pass that was asked for and is not waited for.
struct Asked(Client);

impl Asked {
    fn of(pair: &Pair, number: u32) -> Result<Self> {
        let mut client = client(pair)?;
        client.send(&encode(&MoverRequest {
            id: 1,
            epoch: Epoch(1),
            body: pair.pass(number, PassKind::Live)?,
        })?)?;
        Ok(Self(client))
    }

    /// Progress, until it is as `wanted`.
    fn until(&mut self, mut wanted: impl FnMut(&Progress) -> bool) -> Result<Progress> {
        loop {
            match self.0.receive()?.body {
                ResponseBody::Progress(progress) if wanted(&progress) => return Ok(progress),
                ResponseBody::Progress(_) => {}
                other => bail!("no progress but {other:?}"),
            }
        }
    }

    fn report(mut self) -> Result<PassReport> {
        loop {
            match self.0.receive()?.body {
                ResponseBody::Progress(_) => {}
                last => return report(last),
            }
        }
    }
}

#[test]
fn a_limited_pass_takes_the_time_it_must() -> Result<()> {
    let pair = Pair::start(70)?;
    pair.run_pass(1, PassKind::Live)?;
    put(&pair.a, "new", 3 * MIB, 71)?;
    limit(&pair, load(MIB)?)?;
    let begun = Instant::now();
    let report = pair.run_pass(2, PassKind::Live)?;
    let seconds = begun.elapsed().as_secs_f64();
    assert!(report.bytes_sent > 3 * MIB);
    assert!(seconds > 3.0 / 1.05, "{seconds}");
    pair.shut_down()
}

#[test]
fn a_change_is_heeded_by_the_pass_under_way() -> Result<()> {
    let pair = Pair::start(72)?;
    pair.run_pass(1, PassKind::Live)?;
    put(&pair.a, "large", LARGE, 73)?;
    limit(&pair, load(CRAWL)?)?;
    let mut pass = Asked::of(&pair, 2)?;
    let crept = pass.until(|progress| progress.bytes_sent > 0)?;
    assert!(crept.bytes_sent < LARGE / 2, "{crept:?}");
    // Both ways: up to what is plainly more, down again, and off.
    limit(&pair, load(4 * MIB)?)?;
    pass.until(|progress| progress.bytes_sent > crept.bytes_sent + 2 * MIB)?;
    limit(&pair, load(CRAWL)?)?;
    let before = pass.until(|_| true)?;
    let after = pass.until(|progress| progress.seconds > before.seconds + 2.0)?;
    let sent = u32::try_from(after.bytes_sent - before.bytes_sent)?;
    let rate = f64::from(sent) / (after.seconds - before.seconds);
    assert!(rate < 1e6, "{rate} after {CRAWL} was asked for");
    limit(&pair, Limits::default())?;
    assert!(pass.report()?.complete);
    compare::expect_equal(&pair.a, &pair.b)?;
    pair.shut_down()
}

#[test]
fn a_pass_that_is_stopped_or_final_is_not_held_back() -> Result<()> {
    let pair = Pair::start(74)?;
    pair.run_pass(1, PassKind::Live)?;
    put(&pair.a, "large", LARGE, 75)?;
    limit(&pair, load(CRAWL)?)?;
    let mut pass = Asked::of(&pair, 2)?;
    pass.until(|progress| progress.bytes_sent > 0)?;
    let stop = RequestBody::StopPass {
        pass: PassNumber(2),
    };
    assert_eq!(client(&pair)?.ask(stop)?, ResponseBody::Accepted);
    let crawled = f64::from(u32::try_from(LARGE / CRAWL)?);
    assert!(pass.report()?.seconds.total < crawled / 2.0);

    put(&pair.a, "larger", LARGE, 76)?;
    let last = pair.run_pass(3, PassKind::Final)?;
    assert!(last.bytes_sent > LARGE && last.seconds.total < crawled / 2.0);
    pair.shut_down()
}

/// The end of the line is full then, and so is the source's part of it.
#[test]
fn a_destination_that_stands_still_costs_the_source_no_memory() -> Result<()> {
    const CONTENT: u64 = 256 * MIB;
    const MEMORY: u64 = 160 * MIB;
    let pair = Pair::start(77)?;
    pair.run_pass(1, PassKind::Live)?;
    put(&pair.a, "large", CONTENT, 78)?;
    let mut pass = Asked::of(&pair, 2)?;
    pass.until(|progress| progress.bytes_sent > MIB)?;
    pair.destination.process.signal(Signal::STOP)?;
    let (mut last, mut same) = (0, 0);
    let stuck = pass.until(|progress| {
        same = if progress.bytes_sent == last {
            same + 1
        } else {
            0
        };
        last = progress.bytes_sent;
        same == 4
    });
    pair.destination.process.signal(Signal::CONT)?;
    let stuck = stuck?;
    assert!(stuck.bytes_sent < CONTENT, "{stuck:?}");
    assert!(pass.report()?.complete);
    let peak = high_water(pair.source.process.pid()).context("no such process")?;
    assert!(peak < MEMORY, "{peak} bytes");
    pair.shut_down()
}

#[test]
fn limits_are_the_sources_and_make_sense() -> Result<()> {
    let pair = Pair::start(79)?;
    let mut destination = pair.destination.connect(&pair.keys.coordinator, Epoch(1))?;
    match destination.ask(RequestBody::Limit(load(MIB)?))? {
        ResponseBody::Refused(fault) => assert_eq!(fault.code, FaultCode::BadRequest),
        other => bail!("not refused but {other:?}"),
    }
    for hostile in [
        r#""bandwidth":0"#,
        r#""bandwidth":-1"#,
        r#""ioPriority":"realtime""#,
    ] {
        let json = format!(r#"{{"id":1,"epoch":1,"body":{{"type":"limit",{hostile}}}}}"#);
        let mut frame = u32::try_from(json.len())?.to_be_bytes().to_vec();
        frame.extend_from_slice(json.as_bytes());
        let mut client = client(&pair)?;
        client.send(&frame)?;
        assert!(client.receive().is_err(), "{hostile}");
    }
    // It lives, and nothing limits it.
    pair.run_pass(1, PassKind::Live)?;
    pair.shut_down()
}

//! What each step does to the world, cut in two by a wait so that it can be cut off half way.

use std::time::Duration;

use livmig_engine::{
    result::{MoverFacts, Probe, Proof, StepFailure, StepOutcome, Verification, VolumePass},
    spec::VolumeName,
    step::Step,
};
use livmig_proto::{
    control::{PassKind, PassReport, Side, VerifyLevel},
    ids::PassNumber,
};

use super::{Sim, clock::yield_once, world::End};
use livmig_coord::{driver::Clock, platform::Context};

/// What every check warns of.
const WARNING: &str = "nothing of this is real";

/// What a step takes that has no time of its own.
const SHORT: Duration = Duration::from_millis(10);

pub(super) async fn perform(
    sim: &Sim,
    step: Step,
    context: &Context,
) -> Result<StepOutcome, StepFailure> {
    yield_once().await;
    let outcome = match step {
        Step::Check => StepOutcome::Checked {
            warnings: vec![WARNING.to_owned()],
        },
        Step::StartMovers => {
            sim.clock.sleep(SHORT).await;
            let mut world = sim.world();
            world.movers = Some(context.epoch);
            StepOutcome::Movers {
                movers: [Side::Source, Side::Destination]
                    .map(|side| MoverFacts {
                        volume: volume(),
                        welcome: world.welcome(side, context.epoch),
                        storage: None,
                    })
                    .into(),
            }
        }
        Step::Pass { number, kind } => pass(sim, number, kind, context).await?,
        Step::Quiesce => {
            let time = sim.world().nature.stop_time;
            sim.clock.sleep(time).await;
            sim.world().stop_workload();
            StepOutcome::Done
        }
        Step::Fence => fence(sim, context).await?,
        Step::Verify => verify(sim, context).await?,
        Step::Swap => {
            sim.clock.sleep(SHORT).await;
            sim.world().binding = End::Destination;
            StepOutcome::Done
        }
        Step::Unswap => {
            sim.clock.sleep(SHORT).await;
            sim.world().binding = End::Source;
            StepOutcome::Done
        }
        Step::Unfence => {
            sim.clock.sleep(SHORT).await;
            sim.world().fenced = false;
            StepOutcome::Done
        }
        Step::Unquiesce | Step::Restart => {
            let time = sim.world().nature.start_time;
            sim.clock.sleep(time / 2).await;
            start(sim, step)?;
            sim.clock.sleep(time / 2).await;
            StepOutcome::Done
        }
        Step::Settle | Step::StopMovers => {
            sim.clock.sleep(SHORT).await;
            let mut world = sim.world();
            world.movers = None;
            world.pass = None;
            StepOutcome::Done
        }
    };
    // Done, and the coordinator does not know it yet.
    yield_once().await;
    Ok(outcome)
}

pub(super) async fn probe(sim: &Sim, step: Step) -> Result<Probe, StepFailure> {
    yield_once().await;
    if !sim.world().nature.probes_know {
        return Ok(Probe::NotDone);
    }
    let done = match step {
        Step::Pass { number, .. } => {
            let running = sim
                .world()
                .pass
                .as_ref()
                .is_some_and(|pass| pass.number == number);
            if running {
                let report = report_of(sim, number).await?;
                return Ok(Probe::Done {
                    outcome: passed(report),
                });
            }
            false
        }
        Step::Quiesce => sim.world().workload.is_none(),
        Step::Swap => sim.world().binding == End::Destination,
        Step::Unswap => sim.world().binding == End::Source,
        Step::Unfence => !sim.world().fenced,
        Step::Unquiesce => sim.world().workload == Some(End::Destination),
        Step::Restart => sim.world().workload == Some(End::Source),
        Step::Settle | Step::StopMovers => sim.world().movers.is_none(),
        Step::Check | Step::StartMovers | Step::Fence | Step::Verify => {
            return Err(StepFailure::permanent(format!("{step} is never probed")));
        }
    };
    Ok(if done {
        Probe::Done {
            outcome: StepOutcome::Done,
        }
    } else {
        Probe::NotDone
    })
}

async fn pass(
    sim: &Sim,
    number: PassNumber,
    kind: PassKind,
    context: &Context,
) -> Result<StepOutcome, StepFailure> {
    {
        let mut world = sim.world();
        if world.movers != Some(context.epoch) {
            return Err(StepFailure::transient("no mover obeys this coordinator"));
        }
        world.begin_pass(number, kind, sim.clock.now());
    }
    report_of(sim, number).await.map(passed)
}

/// Waits for the pass's report.
async fn report_of(sim: &Sim, number: PassNumber) -> Result<PassReport, StepFailure> {
    loop {
        let ends = {
            let world = sim.world();
            match world.pass.as_ref().filter(|pass| pass.number == number) {
                Some(pass) => match &pass.report {
                    Some(report) => return Ok(report.clone()),
                    None => pass.ends,
                },
                None => return Err(StepFailure::transient("the pass was lost with its mover")),
            }
        };
        // Until it ends, or somebody stops it.
        let ended = || {
            let world = sim.world();
            world
                .pass
                .as_ref()
                .is_none_or(|pass| pass.number != number || pass.report.is_some())
        };
        sim.clock.until(ends, ended).await;
    }
}

async fn fence(sim: &Sim, context: &Context) -> Result<StepOutcome, StepFailure> {
    sim.clock.sleep(SHORT).await;
    let mut world = sim.world();
    world.fenced = true;
    if world.workload.is_some() {
        return Err(StepFailure::permanent(
            "the workload still runs although it was stopped",
        ));
    }
    world.prove(context.epoch);
    Ok(StepOutcome::Fenced { proof: proof() })
}

async fn verify(sim: &Sim, context: &Context) -> Result<StepOutcome, StepFailure> {
    sim.clock.sleep(SHORT).await;
    let world = sim.world();
    let volumes = vec![Verification {
        volume: volume(),
        level: VerifyLevel::Readback,
        on_device: true,
        entries: 1,
        bytes: 1,
        digest_source: world.digest(End::Source),
        digest_destination: world.digest(End::Destination),
    }];
    if world.proof.is_none_or(|proof| proof.epoch != context.epoch) {
        return Err(StepFailure::permanent(
            "somebody may have written since the fence",
        ));
    }
    Ok(StepOutcome::Verified {
        volumes,
        proof: proof(),
    })
}

fn start(sim: &Sim, step: Step) -> Result<(), StepFailure> {
    let mut world = sim.world();
    let wanted = match step {
        Step::Restart => End::Source,
        _ => End::Destination,
    };
    if world.binding != wanted {
        return Err(StepFailure::permanent(
            "the workload would find the wrong volume",
        ));
    }
    if wanted == End::Source && world.fenced {
        return Err(StepFailure::permanent("the source is fenced"));
    }
    world.start_workload();
    Ok(())
}

fn passed(report: PassReport) -> StepOutcome {
    StepOutcome::Passed {
        reports: vec![VolumePass {
            volume: volume(),
            report,
        }],
    }
}

fn volume() -> VolumeName {
    VolumeName("/srv/data".to_owned())
}

fn proof() -> Proof {
    Proof {
        evidence: "nothing runs in the simulation".to_owned(),
    }
}

//! Random histories: several faults, deaths and requests at random instants.

use crate::simulation::{
    Life, Sim,
    faults::{Effect, Fault},
    world::Nature,
};
use livmig_coord::driver::Start;
use livmig_engine::{request::Request, result::FailureKind, spec::Options};
use livmig_proto::{control::Reason, ids::PassNumber};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::{RESUME, assert_good_end, resume_to_the_end, start};

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let step = select(vec![
        "check",
        "start movers",
        "live pass",
        "quiesce",
        "fence",
        "final pass",
        "verify",
        "swap",
        "unquiesce",
        "settle",
        "unswap",
        "unfence",
        "restart",
        "stop movers",
    ]);
    let kind = select(vec![
        FailureKind::Transient,
        FailureKind::Permanent,
        FailureKind::Undecided,
    ]);
    let effect = prop_oneof![
        Just(Effect::CrashBefore),
        Just(Effect::CrashAfter),
        Just(Effect::Twice),
        Just(Effect::Hang),
        kind.clone().prop_map(Effect::FailBefore),
        kind.prop_map(Effect::FailAfter),
    ];
    let fault =
        (step, 0u32..3, 1u32..4, effect).prop_map(|(step, occurrence, times, effect)| Fault {
            step,
            occurrence,
            times,
            effect,
        });
    vec(fault, 0..5)
}

/// Grave without consent, and slight.
const REASONS: &[Reason] = &[Reason::Mount, Reason::Flags];

/// What happens to one coordinator: it dies after so many polls, and somebody asks for something
/// after so many.
fn life() -> impl Strategy<Value = (u32, Option<(u32, Request)>)> {
    let request = select(vec![
        Request::Switch,
        Request::RollBack,
        Request::Interrupt,
        Request::Proceed,
        Request::KeepPassing,
    ]);
    (1u32..200, proptest::option::of((1u32..150, request)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_random_history_ends_well(
        faults in faults(),
        lives in vec(life(), 1..5),
        probes_know in any::<bool>(),
        gap in 0u64..30,
        left_out in proptest::option::weighted(0.3, (select(REASONS), 1u32..8)),
    ) {
        let nature = Nature { probes_know, ..Nature::default() };
        let sim = Sim::new(nature, faults.clone());
        sim.world().left_out = left_out
            .map(|(reason, from)| (reason, PassNumber(from)))
            .into_iter()
            .collect();
        let mut last = Life::Crashed;
        for (polls, request) in &lives {
            let begin = if sim.records().is_empty() {
                start(Options::default())
            } else {
                RESUME
            };
            last = one_life(&sim, begin, *polls, *request);
            sim.clock().skip(std::time::Duration::from_secs(gap));
            prop_assert_eq!(&sim.world().violations, &Vec::<String>::new());
        }
        if sim.records().is_empty() {
            return Ok(());
        }
        let outcome = resume_to_the_end(&sim, last);
        assert_good_end(&sim, &outcome, &format!("{faults:?} {lives:?}"));
    }
}

fn one_life(sim: &Sim, begin: Start, polls: u32, request: Option<(u32, Request)>) -> Life {
    let mut polled = 0;
    let mut asking = None;
    sim.live(begin, |handle| {
        polled += 1;
        if let Some((at, request)) = request
            && at == polled
        {
            let handle = handle.clone();
            let mut future = Box::pin(async move { handle.request(request).await });
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            let _ = future.as_mut().poll(&mut context);
            asking = Some(future);
        }
        polled >= polls
    })
}

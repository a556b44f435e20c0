//! The plan: the steps of a migration as a value, to be shown before anything is done.

use std::fmt;

use livmig_proto::ids::PassNumber;
use serde::{Serialize, Serializer};

use crate::step::{Step, Undo};

/// What a migration will do when nothing fails.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// The steps in order.
    pub steps: Vec<PlannedStep>,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedStep {
    /// The step.
    #[serde(serialize_with = "as_word")]
    pub step: Step,
    /// What it does.
    pub does: &'static str,
    /// Whether the workload is down meanwhile.
    pub downtime: bool,
    /// How it is taken back, in words.
    pub undo: String,
}

/// The steps of every migration; what is volatile in them (how many passes) is said in words.
pub fn plan() -> Plan {
    let second = PassNumber::FIRST.next();
    let steps = [
        (
            Step::Check,
            false,
            "check that everything it needs is there",
        ),
        (Step::StartMovers, false, "start a mover at each end"),
        (
            Step::live(PassNumber::FIRST),
            false,
            "copy everything while the workload runs",
        ),
        (
            Step::live(second),
            false,
            "copy what changed, again and again while that shortens the downtime",
        ),
        (Step::Quiesce, true, "stop the workload"),
        (Step::Fence, true, "prove that nothing writes any more"),
        (Step::last(second.next()), true, "copy the last differences"),
        (Step::Verify, true, "prove both ends equal, then commit"),
        (
            Step::Swap,
            true,
            "make the destination what the workload finds",
        ),
        (
            Step::Unquiesce,
            true,
            "start the workload on the destination",
        ),
        (
            Step::Settle,
            false,
            "stop the movers; the source is kept as it is",
        ),
    ];
    Plan {
        steps: steps
            .into_iter()
            .map(|(step, downtime, does)| PlannedStep {
                step,
                does,
                downtime,
                undo: match step.undo() {
                    Undo::By(undo) => undo.to_string(),
                    Undo::Nothing { because } => format!("nothing to undo: {because}"),
                    Undo::Never { because } => format!("never undone: {because}"),
                },
            })
            .collect(),
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, planned) in self.steps.iter().enumerate() {
            let mark = if planned.downtime { "down" } else { "" };
            writeln!(
                f,
                "{:>2}  {:<12} {mark:<4}  {}",
                index + 1,
                planned.step.word(),
                planned.does
            )?;
        }
        Ok(())
    }
}

// Serde passes a reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn as_word<S: Serializer>(step: &Step, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(step.word())
}

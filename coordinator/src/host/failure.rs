//! What the host's errors mean to the machine: whether trying again may help, and what a person
//! can do.

use livmig_engine::result::StepFailure;

use super::{
    movers::MoverError,
    preflight::Refusal,
    symlink::{LinkError, LinkState, VolumeLink},
    workload::{Action, WorkloadError},
    writers::Holder,
};
use crate::movers::failure::{chain, control};

/// Holders that an error names; more are counted.
const NAMED_MAX: usize = 5;

/// A check found an obstacle.
pub fn refused(refusal: &Refusal) -> StepFailure {
    StepFailure::permanent(chain(refusal)).with_hint(refusal.hint())
}

/// A mover cannot be had or asked.
pub fn mover(error: &MoverError) -> StepFailure {
    match error {
        MoverError::Control { source, side } => {
            control(source, &format!("The {side} mover cannot be asked"))
        }
        MoverError::Slow { .. } => StepFailure::transient(chain(error)),
        MoverError::NoProgram { .. } => StepFailure::permanent(chain(error)).with_hint(
            "build it with `cargo build --release -p livmig-mover`, or name it with --mover PATH \
             or LIVMIG_MOVER",
        ),
        MoverError::Start { .. }
        | MoverError::Ended { .. }
        | MoverError::End { .. }
        | MoverError::Stranger { .. }
        | MoverError::Keys(_) => StepFailure::permanent(chain(error)),
    }
}

/// A command of the user did not do what it promises.
pub fn workload(error: &WorkloadError, log: &str) -> StepFailure {
    let message = chain(error);
    match error {
        WorkloadError::Failed { action, .. }
        | WorkloadError::TimedOut { action, .. }
        | WorkloadError::Io { action, .. } => match action {
            Action::Stop => StepFailure::permanent(message),
            // Past the point of no return there is nothing but trying again.
            Action::Start => StepFailure::transient(message),
        }
        .with_hint(format!("look at the command's output: {log}")),
    }
}

/// PATH could not be swapped.
pub fn link(error: &LinkError, link: &VolumeLink, wanted: LinkState) -> StepFailure {
    let failure = match error {
        LinkError::Foreign { .. } => StepFailure::undecided(chain(error)),
        LinkError::NoName { .. } => StepFailure::permanent(chain(error)),
        LinkError::Io { source, .. } => match source.kind() {
            std::io::ErrorKind::PermissionDenied
            | std::io::ErrorKind::ReadOnlyFilesystem
            | std::io::ErrorKind::NotFound => StepFailure::permanent(chain(error)),
            _ => StepFailure::transient(chain(error)),
        },
    };
    failure.with_hint(link.command(wanted))
}

/// Somebody still holds the source.
pub fn still_held(holders: &[Holder]) -> StepFailure {
    let mut named: Vec<String> = holders
        .iter()
        .take(NAMED_MAX)
        .map(Holder::to_string)
        .collect();
    if holders.len() > NAMED_MAX {
        named.push(format!("and {} more", holders.len() - NAMED_MAX));
    }
    StepFailure::permanent(format!(
        "The source is still in use after the stop command said that the workload has stopped: {}",
        named.join("; ")
    ))
    .with_hint("end these processes, or make the stop command wait until they have ended; then migrate again")
}

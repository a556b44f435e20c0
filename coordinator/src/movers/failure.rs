//! What errors mean to the machine, whatever the platform: whether trying again may help, and
//! what a person can do.

use std::error::Error;

use livmig_engine::result::StepFailure;
use livmig_proto::control::FaultCode;

use super::control::ControlError;

/// An error and its causes in one sentence.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// A mover was asked in vain.
pub fn control(error: &ControlError, context: &str) -> StepFailure {
    match error {
        ControlError::Refused(fault) if fault.code == FaultCode::StaleEpoch => {
            StepFailure::from(fault.clone())
                .with_hint("another coordinator has taken over: `livmig-coord get`")
        }
        ControlError::Refused(fault) => fault.clone().into(),
        _ if error.is_transient() => StepFailure::transient(format!("{context}: {}", chain(error))),
        _ => StepFailure::permanent(format!("{context}: {}", chain(error))),
    }
}

//! What a person may ask of a running migration.

use serde::{Deserialize, Serialize};

/// A request; the machine says whether it is legal now.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Request {
    /// Switch as soon as the destination is close, without waiting for more.
    Switch,
    /// Undo everything.
    RollBack,
    /// Stop working. Before the downtime this leaves a state that can be resumed, inside it the
    /// migration rolls back.
    Interrupt,
    /// Answer to the overrun question: accept the predicted downtime.
    Proceed,
    /// Answer to the overrun question: keep passing until the budget can be met.
    KeepPassing,
}

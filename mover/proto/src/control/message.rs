//! Requests to a mover and its answers.

use serde::{Deserialize, Serialize};

use super::{
    fault::Fault,
    pass::{PassRequest, VerifyLevel},
    report::{ManifestReport, PassReport, Progress},
    throttle::Limits,
    welcome::Welcome,
};
use crate::ids::{Epoch, PassNumber};

/// One request to a mover.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MoverRequest {
    /// Chosen by the coordinator, unique on the connection.
    pub id: u64,
    /// The epoch of the coordinator that asks.
    pub epoch: Epoch,
    /// What is asked.
    pub body: RequestBody,
}

/// What a request asks for.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum RequestBody {
    /// Who are you? Answered by `Welcome`.
    Hello,
    /// Source: run a pass. Answered by `Progress`…, then `Report` or `Refused`.
    Pass(PassRequest),
    /// Source: end the pass under way at the next entry boundary; what was not visited stays
    /// unproven and `PassReport::complete` is false. Answered by `Accepted`, also when no pass
    /// is under way.
    StopPass {
        /// The pass to end.
        pass: PassNumber,
    },
    /// Source: limit live passes, the one under way and those to come, until the next request of
    /// this kind or the mover's end. Answered by `Accepted`.
    Limit(Limits),
    /// Both: the digest of everything this end holds, as of its last complete pass. Level `full`
    /// reads all content again. Answered by `Progress`…, then `Manifest`.
    Manifest {
        /// How hard to look.
        level: VerifyLevel,
    },
    /// Source: the report of this pass is stored by the coordinator and may be forgotten here.
    /// Answered by `Accepted`.
    Acknowledge {
        /// The pass whose report was stored.
        pass: PassNumber,
    },
    /// Close every file and end with exit code 0. Answered by `Accepted` once all is closed.
    Shutdown,
    /// The same, but end only when SIGTERM comes, or the time that a mover waits for a coordinator
    /// is over. Until then the process holds nothing and serves nobody; as long as it is there, its
    /// node keeps the volume mounted for whoever uses it next. Since minor version 1.
    Retire,
}

/// One answer of a mover.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Response {
    /// The request that is answered.
    pub id: u64,
    /// The answer.
    pub body: ResponseBody,
}

/// What a mover answers.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum ResponseBody {
    /// To `Hello`.
    Welcome(Box<Welcome>),
    /// Not the last answer: how far it is.
    Progress(Progress),
    /// To `Pass`: it ran. A pass with faults is a report too, with `complete: false`.
    Report(Box<PassReport>),
    /// To `Manifest`.
    Manifest(ManifestReport),
    /// Done.
    Accepted,
    /// Not done, and why.
    Refused(Fault),
}

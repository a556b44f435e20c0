//! A migration on the fake API server, as far as a first coordinator has begun it: what tests of steps
//! start from.

use livmig_engine::{
    record::{Event, Record, SCHEMA},
    time::Timestamp,
};
use livmig_proto::ids::Epoch;
use serde_json::{Value, json};

use super::KubePlatform;
use crate::{
    journal::Journal as _,
    kube::{
        store::journal::ConfigMapJournal,
        testing::{
            objects::{self, with},
            server::MemoryServer,
        },
    },
    platform::{Context, ProgressSink},
};

/// How the paths of the workload, of its volume and of its claim end.
pub(super) const WORKLOAD: &str = "/statefulsets/app";
pub(super) const VOLUME: &str = "/persistentvolumes/pv-a";
pub(super) const CLAIM: &str = "/persistentvolumeclaims/data-app-0";

/// Everything of others that a migration may touch.
pub(super) const OBJECTS: [&str; 3] = [WORKLOAD, VOLUME, CLAIM];

/// A workload that was never touched, and a migration of it that a first coordinator began, in
/// epoch 1.
pub(super) async fn begun() -> MemoryServer {
    let server = MemoryServer::start().await;
    server.store(&objects::stateful_set("app"));
    server.store(&objects::claim("data-app-0", "pv-a"));
    let policy = json!({"spec": {"persistentVolumeReclaimPolicy": "Delete"}});
    server.store(&with(&objects::volume("pv-a", "data-app-0"), policy));
    let spec = Box::new(objects::migration().spec);
    record(&server, 1, 0, Event::Planned { spec }).await;
    server
}

/// Appends a record to the journal.
pub(super) async fn record(server: &MemoryServer, epoch: u64, seq: u64, event: Event) {
    let names = objects::migration().names;
    let mut journal = ConfigMapJournal::new(server.cluster().await, names);
    journal.load().await.unwrap();
    let record = Record {
        schema: SCHEMA,
        seq,
        epoch: Epoch(epoch),
        at: Timestamp(seq),
        event,
    };
    journal.append(&record).await.unwrap();
}

/// The platform of a coordinator that has just started.
pub(super) async fn platform(server: &MemoryServer) -> KubePlatform {
    KubePlatform::new(&server.cluster().await, objects::migration())
}

/// That of the first epoch; nobody hears of progress.
pub(super) fn context() -> Context {
    Context {
        epoch: Epoch(1),
        progress: ProgressSink::new(|_| ()),
    }
}

/// [`OBJECTS`] without what the server says of them.
pub(super) fn theirs(server: &MemoryServer) -> Vec<Value> {
    let each = OBJECTS.iter().map(|end| {
        let mut object = server.get(end).unwrap();
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.remove("resourceVersion");
        metadata.retain(|_, value| *value != json!({}));
        object
    });
    each.collect()
}

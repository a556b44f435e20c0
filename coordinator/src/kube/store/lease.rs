//! The Lease that elects a coordinator. It fences nothing: what a coordinator changes carries its
//! epoch and the version it was decided on, and that is what stops one that was replaced.
//!
//! Whether a holder still lives is told by changes of the object and this machine's own clock,
//! never by the times in it, which are another machine's.

use std::time::Duration;

use ::kube::{
    Api,
    api::{DeleteParams, PostParams, Preconditions},
};
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use tokio::{sync::watch, task::AbortHandle, time::timeout};

use crate::kube::api::{
    amend::patch,
    cluster::{Cluster, ClusterError, call},
    names::FIELD_MANAGER,
    watch::await_change,
};

/// A holder that has not renewed for this long is gone.
const EXPIRES: Duration = Duration::from_secs(6);
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(2);

/// The right to act, while it is held.
#[derive(Debug)]
pub struct HeldLease {
    api: Api<Lease>,
    name: String,
    renewing: AbortHandle,
    /// The Lease as it was last written by this holder.
    written: watch::Receiver<Lease>,
}

/// Why the right to act is not had.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Somebody else has it and renews it.
    #[error("Another coordinator, {holder}, works on this migration")]
    Held {
        /// Who.
        holder: String,
    },
    /// The Lease cannot be read or written.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// Takes the Lease `name`, as `holder`; waits until one that is no longer renewed has expired.
///
/// # Errors
/// When another coordinator renews it, or it cannot be read or written.
pub async fn acquire(cluster: &Cluster, name: &str, holder: &str) -> Result<HeldLease, LeaseError> {
    let api = cluster.api::<Lease>();
    let mut renewed = false;
    let lease = loop {
        let found = call(format!("read the lease {name}"), api.get_opt(name)).await?;
        let taken = match &found {
            None => create(&api, name, holder).await,
            Some(lease) => {
                let other = lease
                    .spec
                    .as_ref()
                    .and_then(|spec| spec.holder_identity.clone())
                    .filter(|other| !other.is_empty() && other != holder);
                if let Some(other) = other {
                    if renewed {
                        return Err(LeaseError::Held { holder: other });
                    }
                    let version = lease.metadata.resource_version.clone();
                    let change = await_change(&api, "lease", name, version.as_deref());
                    if let Ok(changed) = timeout(EXPIRES, change).await {
                        changed?;
                        renewed = true;
                        continue;
                    }
                }
                patch(&api, "lease", name, lease, held_by(holder)).await
            }
        };
        match taken {
            Ok(lease) => break lease,
            // Somebody was faster.
            Err(error) if error.is_conflict() => renewed = true,
            Err(error) => return Err(error.into()),
        }
    };
    let (writing, written) = watch::channel(lease);
    let renewing = tokio::spawn(renew(
        api.clone(),
        name.to_owned(),
        holder.to_owned(),
        writing,
    ));
    Ok(HeldLease {
        api,
        name: name.to_owned(),
        renewing: renewing.abort_handle(),
        written,
    })
}

impl HeldLease {
    /// Gives the right back, so that the next coordinator need not wait. What somebody else has
    /// taken since stays theirs.
    pub async fn release(self) {
        self.renewing.abort();
        let what = format!("delete the lease {}", self.name);
        let metadata = self.written.borrow().metadata.clone();
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: metadata.uid,
                resource_version: metadata.resource_version,
            }),
            ..DeleteParams::default()
        };
        if let Err(error) = call(what, self.api.delete(&self.name, &parameters)).await {
            tracing::warn!(%error, "the lease is left to expire");
        }
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

async fn create(api: &Api<Lease>, name: &str, holder: &str) -> Result<Lease, ClusterError> {
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            acquire_time: Some(now()),
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: i32::try_from(EXPIRES.as_secs()).ok(),
            renew_time: Some(now()),
            ..LeaseSpec::default()
        }),
    };
    let parameters = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    call(
        format!("create the lease {name}"),
        api.create(&parameters, &lease),
    )
    .await
}

fn held_by(holder: &str) -> serde_json::Value {
    serde_json::json!({"spec": {
        "holderIdentity": holder,
        "leaseDurationSeconds": EXPIRES.as_secs(),
        "renewTime": now(),
    }})
}

fn now() -> MicroTime {
    MicroTime(Timestamp::now())
}

/// Renews until somebody else has it.
async fn renew(api: Api<Lease>, name: String, holder: String, written: watch::Sender<Lease>) {
    let mut ticks = tokio::time::interval(RENEW);
    loop {
        ticks.tick().await;
        let lease = written.borrow().clone();
        match patch(&api, "lease", &name, &lease, held_by(&holder)).await {
            Ok(renewed) => {
                written.send_replace(renewed);
            }
            Err(error) if error.is_conflict() || error.is_not_found() => {
                tracing::warn!(%error, "another coordinator has taken the lease");
                return;
            }
            Err(error) => tracing::warn!(%error, "the lease could not be renewed"),
        }
    }
}

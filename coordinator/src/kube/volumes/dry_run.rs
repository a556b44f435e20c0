//! The claims to come, tried while the workload still runs: whatever would refuse or alter one at the
//! swap, or on the way back (a webhook, an admission policy, a limit range), is met before anything is
//! stopped.

use ::kube::api::PostParams;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use livmig_engine::result::StepFailure;

use crate::kube::{
    api::{
        cluster::{Cluster, ClusterError, call},
        names::FIELD_MANAGER,
    },
    objects::{
        claim::{ClaimClass, rebound},
        quantity::amount,
    },
};

/// One claim as it may have to be made anew, and the name it is tried under.
#[derive(Clone, Copy, Debug)]
pub struct DryRun<'a> {
    /// A name that no claim has: the real one is taken by the claim that is to be replaced, and
    /// the server answers so before it asks anybody. So a policy that tells claims by their names
    /// is not met here; labels, annotations and owners are the real ones.
    pub name: &'a str,
    /// The claim as it was before the migration.
    pub original: &'a PersistentVolumeClaim,
    /// The name of the volume that it will be bound to.
    pub volume: &'a str,
    /// Which one that is, in a word.
    pub which: &'static str,
    /// How the claim will tell its class.
    pub class: ClaimClass,
}

impl DryRun<'_> {
    /// Asks the API server to create the claim without storing it.
    ///
    /// # Errors
    /// When the claim would be refused, or come out of admission such that it could not be bound
    /// to the new volume; when the API server cannot be asked.
    pub async fn run(&self, cluster: &Cluster) -> Result<(), StepFailure> {
        let volumes = cluster.cluster_api::<PersistentVolume>();
        let what = format!("read the volume {}", self.volume);
        let volume = call(what, volumes.get(self.volume)).await?;
        let mut claim = rebound(self.original, &volume, self.class);
        claim.metadata.name = Some(self.name.to_owned());
        let parameters = PostParams {
            dry_run: true,
            field_manager: Some(FIELD_MANAGER.to_owned()),
        };
        let claims = cluster.api::<PersistentVolumeClaim>();
        let original = self
            .original
            .metadata
            .name
            .as_deref()
            .unwrap_or_default()
            .to_owned();
        let answer = call(
            format!("try how the claim {original} will be made anew"),
            claims.create(&parameters, &claim),
        )
        .await;
        match verdict(&claim, &volume, answer) {
            DryRunVerdict::Passed => Ok(()),
            DryRunVerdict::Unknown(why) => {
                let which = self.which;
                tracing::warn!(claim = %original, "the claim on its {which} volume could not be tried: {why}");
                Ok(())
            }
            DryRunVerdict::Altered(how) => Err(StepFailure::permanent(format!(
                "The claim {original} could not be bound to its {} volume {}: something in the \
                 cluster changes claims as they are created, and makes {how}",
                self.which, self.volume
            ))
            .with_hint(
                "look for mutating webhooks and policies: kubectl get \
                        mutatingwebhookconfigurations,mutatingadmissionpolicies; except the claim \
                        from them, and migrate again",
            )),
            DryRunVerdict::Refused(why) => Err(StepFailure::permanent(format!(
                "The claim {original} would be refused when it is made anew on its {} volume {}: \
                 {why}",
                self.which, self.volume
            ))
            .with_hint(
                "let the claim pass, with either class, as it stands in the message; then migrate \
                 again",
            )),
            DryRunVerdict::Failed(error) => Err(error.into()),
        }
    }
}

/// What a trial says.
#[derive(Debug)]
enum DryRunVerdict {
    /// The claim will be made as it is meant.
    Passed,
    /// It tells nothing, and why.
    Unknown(String),
    /// The claim would be made, but could not be bound.
    Altered(String),
    /// The claim would be refused, in the server's words.
    Refused(String),
    /// The server could not be asked.
    Failed(ClusterError),
}

fn verdict(
    wanted: &PersistentVolumeClaim,
    volume: &PersistentVolume,
    answer: Result<PersistentVolumeClaim, ClusterError>,
) -> DryRunVerdict {
    match answer {
        Ok(made) => {
            altered(wanted, volume, &made).map_or(DryRunVerdict::Passed, DryRunVerdict::Altered)
        }
        Err(ClusterError::Refused { message, .. }) if tells_nothing(&message) => {
            DryRunVerdict::Unknown(message)
        }
        Err(error) if error.is_transient() || error.is_lack_of_rights() => {
            DryRunVerdict::Failed(error)
        }
        Err(ClusterError::Refused { message, .. }) => DryRunVerdict::Refused(message),
        Err(error) => DryRunVerdict::Failed(error),
    }
}

/// Whether a refusal is no sign of one at the swap. The claim that goes, the staging one and this
/// one are counted together here, and the swap makes one of the three: `plan` does a quota's
/// arithmetic. A webhook with side effects is not called without storing anything, and the server
/// refuses in its place.
fn tells_nothing(message: &str) -> bool {
    message.contains("exceeded quota") || message.contains("does not support dry run")
}

/// What of `made` keeps it from being bound to the volume, where something changed it.
fn altered(
    wanted: &PersistentVolumeClaim,
    volume: &PersistentVolume,
    made: &PersistentVolumeClaim,
) -> Option<String> {
    let (wanted, made) = (wanted.spec.as_ref()?, made.spec.as_ref()?);
    let differs = |name: &str, wanted: &Option<String>, made: &Option<String>| {
        // What is not asked for may be filled in.
        (wanted.is_some() && wanted != made).then(|| {
            let shown = |text: &Option<String>| text.clone().unwrap_or_else(|| "empty".to_owned());
            format!("{name} {} of {}", shown(made), shown(wanted))
        })
    };
    let request = || {
        let asked = made.resources.as_ref()?.requests.as_ref()?.get("storage")?;
        let capacity = volume.spec.as_ref()?.capacity.as_ref()?.get("storage")?;
        (amount(asked)? > amount(capacity)?).then(|| {
            format!(
                "it ask for {}, which is more than the volume's {}",
                asked.0, capacity.0
            )
        })
    };
    let added = |name: &str, made: bool| made.then(|| format!("it have a {name}"));
    differs("volumeName", &wanted.volume_name, &made.volume_name)
        .or_else(|| {
            let (wanted, made) = (&wanted.storage_class_name, &made.storage_class_name);
            differs("storageClassName", wanted, made)
        })
        .or_else(|| differs("volumeMode", &wanted.volume_mode, &made.volume_mode))
        .or_else(|| {
            let modes = |modes: &Option<Vec<String>>| modes.as_ref().map(|modes| modes.join(","));
            let (wanted, made) = (modes(&wanted.access_modes), modes(&made.access_modes));
            differs("accessModes", &wanted, &made)
        })
        .or_else(request)
        .or_else(|| added("selector", made.selector.is_some()))
        .or_else(|| {
            let source = made.data_source.is_some() || made.data_source_ref.is_some();
            added("data source", source)
        })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn claim(change: &Value) -> PersistentVolumeClaim {
        let mut spec = json!({
            "accessModes": ["ReadWriteOnce"], "storageClassName": "new", "volumeName": "pv-b",
            "volumeMode": "Filesystem", "resources": {"requests": {"storage": "1Gi"}},
        });
        for (key, value) in change.as_object().unwrap() {
            spec[key] = value.clone();
        }
        serde_json::from_value(json!({"metadata": {"name": "try"}, "spec": spec})).unwrap()
    }

    fn volume() -> PersistentVolume {
        serde_json::from_value(json!({
            "metadata": {"name": "pv-b"}, "spec": {"capacity": {"storage": "2Gi"}},
        }))
        .unwrap()
    }

    fn said(code: u16, message: &str) -> DryRunVerdict {
        let answer = Err(ClusterError::Refused {
            what: "try".to_owned(),
            code,
            message: message.to_owned(),
        });
        verdict(&claim(&json!({})), &volume(), answer)
    }

    #[test]
    fn a_refusal_is_one_whatever_its_code_and_a_quota_or_a_webhook_that_is_not_called_is_none() {
        for (code, message) in [
            (
                403,
                "persistentvolumeclaims \"try\" is forbidden: minimum storage usage is 2Gi",
            ),
            (
                422,
                "ValidatingAdmissionPolicy 'no-new' denied request: not this class",
            ),
            (400, "admission webhook \"a.b.c\" denied the request: no"),
        ] {
            assert!(
                matches!(said(code, message), DryRunVerdict::Refused(said) if said == message),
                "{message}"
            );
        }
        for (code, message) in [
            (
                403,
                "\"try\" is forbidden: exceeded quota: q, requested: requests.storage=1Gi",
            ),
            (400, "admission webhook \"a.b.c\" does not support dry run"),
        ] {
            assert!(
                matches!(said(code, message), DryRunVerdict::Unknown(_)),
                "{message}"
            );
        }
    }

    #[test]
    fn a_server_that_cannot_ask_is_asked_again_and_a_right_that_lacks_is_called_so() {
        let away = said(500, "failed calling webhook \"a.b.c\": connection refused");
        let DryRunVerdict::Failed(error) = away else {
            panic!("{away:?}");
        };
        assert!(error.is_transient());
        let lacks = said(
            403,
            "persistentvolumeclaims is forbidden: User \"u\" cannot create resource \
             \"persistentvolumeclaims\" in API group \"\" in the namespace \"shop\"",
        );
        assert!(matches!(lacks, DryRunVerdict::Failed(_)), "{lacks:?}");
    }

    #[test]
    fn what_admission_changes_matters_only_where_it_keeps_the_claim_from_its_volume() {
        let verdict = |change: &Value| verdict(&claim(&json!({})), &volume(), Ok(claim(change)));
        for fine in [
            json!({}),
            json!({"resources": {"requests": {"storage": "1024Mi"}}}),
            json!({"resources": {"requests": {"storage": "2Gi"}}}),
            json!({"volumeAttributesClassName": "gold"}),
        ] {
            assert!(matches!(verdict(&fine), DryRunVerdict::Passed), "{fine}");
        }
        for (change, word) in [
            (
                json!({"storageClassName": "old"}),
                "storageClassName old of new",
            ),
            (json!({"volumeName": null}), "volumeName empty of pv-b"),
            (json!({"accessModes": ["ReadWriteMany"]}), "ReadWriteMany"),
            (
                json!({"resources": {"requests": {"storage": "3Gi"}}}),
                "3Gi",
            ),
            (json!({"selector": {"matchLabels": {}}}), "selector"),
            (
                json!({"dataSource": {"kind": "VolumeSnapshot", "name": "s"}}),
                "data source",
            ),
        ] {
            let verdict = verdict(&change);
            assert!(
                matches!(&verdict, DryRunVerdict::Altered(how) if how.contains(word)),
                "{verdict:?}"
            );
        }
        // A claim that keeps its own class by the letter names no volume.
        let kept = claim(&json!({"volumeName": null, "storageClassName": "old"}));
        let made = super::verdict(&kept, &volume(), Ok(kept.clone()));
        assert!(matches!(made, DryRunVerdict::Passed), "{made:?}");
    }
}

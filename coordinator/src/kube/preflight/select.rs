//! Which claims of a workload move, and where to.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use livmig_engine::spec::ClaimTarget;

use super::{
    finding::Finding,
    request::MigrationRequest,
    snapshot::{Snapshot, WorkloadObject},
};

/// One claim that is to move.
#[derive(Clone, Debug)]
pub(crate) struct ClaimMove<'a> {
    /// The claim.
    pub(crate) claim: &'a PersistentVolumeClaim,
    /// The volume it is bound to, where that could be read.
    pub(crate) volume: Option<&'a PersistentVolume>,
    /// The class it moves to.
    pub(crate) to_class: String,
}

impl ClaimMove<'_> {
    /// The claim's name.
    pub(crate) fn name(&self) -> &str {
        self.claim.metadata.name.as_deref().unwrap_or_default()
    }

    /// The claim as an object of a finding.
    pub(crate) fn object(&self) -> String {
        format!("persistentvolumeclaim/{}", self.name())
    }

    /// What a migration starts from; none while the claim has no volume.
    pub(crate) fn target(&self) -> Option<ClaimTarget> {
        let volume = self.volume?;
        Some(ClaimTarget {
            claim: self.name().to_owned(),
            claim_uid: self.claim.metadata.uid.clone()?,
            volume: volume.metadata.name.clone()?,
            volume_uid: volume.metadata.uid.clone()?,
            from_class: class_of(self.claim, Some(volume)).to_owned(),
            to_class: self.to_class.clone(),
        })
    }
}

/// The claims of the workload that move, in the order of their names; and what of the wish fits
/// none of them.
pub(crate) fn select<'a>(
    view: &'a Snapshot,
    workload: &WorkloadObject,
    wish: &MigrationRequest,
) -> (Vec<ClaimMove<'a>>, Vec<Finding>) {
    let owned = owned(view, workload);
    let mut findings = unfitting(&owned, view, wish);
    let mut moves = Vec::new();
    for (name, (claim, template)) in &owned {
        if !wish.claims.is_empty() && !wish.claims.iter().any(|wanted| wanted == name) {
            continue;
        }
        let volume = volume_of(view, claim);
        let class = class_of(claim, volume);
        if wish.from_class.as_deref().is_some_and(|from| from != class) {
            continue;
        }
        let Some(to) = wish.to.of(name, template.as_deref()) else {
            continue;
        };
        if to == class {
            if wish.claims.contains(name) {
                findings.push(
                    Finding::error(
                        format!("persistentvolumeclaim/{name}"),
                        format!("The claim is of class {to} already"),
                    )
                    .hint("leave it out of --claim, or name another class"),
                );
            }
            continue;
        }
        moves.push(ClaimMove {
            claim,
            volume,
            to_class: to.to_owned(),
        });
    }
    if moves.is_empty() && findings.is_empty() {
        findings.push(nothing(&owned, workload, wish));
    }
    (moves, findings)
}

/// The class that a claim's data is in: its volume's, and its own where that is not known.
pub(crate) fn class_of<'a>(
    claim: &'a PersistentVolumeClaim,
    volume: Option<&'a PersistentVolume>,
) -> &'a str {
    let class = match volume {
        Some(volume) => volume
            .spec
            .as_ref()
            .and_then(|s| s.storage_class_name.as_ref()),
        None => claim
            .spec
            .as_ref()
            .and_then(|s| s.storage_class_name.as_ref()),
    };
    class.map(String::as_str).unwrap_or_default()
}

/// The claims of a workload by name, each with the name of its template, by which `--to-class` may
/// call it.
type Owned<'a> = BTreeMap<String, (&'a PersistentVolumeClaim, Option<String>)>;

fn owned<'a>(view: &'a Snapshot, workload: &WorkloadObject) -> Owned<'a> {
    let direct: Vec<(&str, &str)> = workload
        .template()
        .and_then(|template| template.spec.as_ref())
        .and_then(|spec| spec.volumes.as_ref())
        .into_iter()
        .flatten()
        .filter_map(|volume| {
            let claim = volume.persistent_volume_claim.as_ref()?;
            Some((claim.claim_name.as_str(), volume.name.as_str()))
        })
        .collect();
    let templates = templates(workload);
    view.claims
        .iter()
        .filter_map(|claim| {
            let name = claim.metadata.name.as_deref()?;
            let template = templates
                .iter()
                .find(|template| is_ordinal_of(name, template, workload.name()))
                .map(|template| (*template).to_owned());
            let named = || {
                let (_, volume) = direct.iter().find(|(claimed, _)| *claimed == name)?;
                Some((*volume).to_owned())
            };
            let call = template.or_else(named)?;
            Some((name.to_owned(), (claim, Some(call))))
        })
        .collect()
}

fn templates(workload: &WorkloadObject) -> Vec<&str> {
    let WorkloadObject::StatefulSet(set) = workload else {
        return Vec::new();
    };
    set.spec
        .iter()
        .flat_map(|spec| spec.volume_claim_templates.iter().flatten())
        .filter_map(|template| template.metadata.name.as_deref())
        .collect()
}

/// Whether `claim` is called `<template>-<set>-<ordinal>`. Those of pods that were scaled away are
/// the workload's too: they come back with the next scale-up.
fn is_ordinal_of(claim: &str, template: &str, set: &str) -> bool {
    claim
        .strip_prefix(template)
        .and_then(|rest| rest.strip_prefix('-'))
        .and_then(|rest| rest.strip_prefix(set))
        .and_then(|rest| rest.strip_prefix('-'))
        .is_some_and(|ordinal| {
            let zero_led = ordinal.len() > 1 && ordinal.starts_with('0');
            !ordinal.is_empty() && !zero_led && ordinal.bytes().all(|b| b.is_ascii_digit())
        })
}

fn volume_of<'a>(
    view: &'a Snapshot,
    claim: &PersistentVolumeClaim,
) -> Option<&'a PersistentVolume> {
    let name = claim.spec.as_ref()?.volume_name.as_ref()?;
    view.volumes
        .iter()
        .flatten()
        .find(|volume| volume.metadata.name.as_ref() == Some(name))
}

/// Words of the wish that fit no claim of the workload: probably mistyped.
fn unfitting(owned: &Owned<'_>, view: &Snapshot, wish: &MigrationRequest) -> Vec<Finding> {
    let known: Vec<&str> = owned.keys().map(String::as_str).collect();
    let hint = if known.is_empty() {
        "name a workload that has claims".to_owned()
    } else {
        format!("its claims are {}", known.join(", "))
    };
    let mut findings = Vec::new();
    for wanted in wish.claims.iter().filter(|name| !owned.contains_key(*name)) {
        let exists = view
            .claims
            .iter()
            .any(|claim| claim.metadata.name.as_ref() == Some(wanted));
        let message = if exists {
            "The claim is not one of the workload's (a generic ephemeral volume is its pod's)"
        } else {
            "There is no such claim in the namespace"
        };
        findings.push(
            Finding::error(format!("persistentvolumeclaim/{wanted}"), message).hint(hint.clone()),
        );
    }
    for word in wish.to.named.keys() {
        let fits = owned
            .iter()
            .any(|(name, (_, template))| name == word || template.as_ref() == Some(word));
        if !fits {
            findings.push(
                Finding::error(
                    format!("{}/{}", wish.workload.kind.resource(), wish.workload.name),
                    format!("No claim or claim template of it is called {word} (--to-class)"),
                )
                .hint(hint.clone()),
            );
        }
    }
    for wanted in wish
        .claims
        .iter()
        .filter_map(|name| owned.get_key_value(name))
    {
        let (name, (_, template)) = wanted;
        if wish.to.of(name, template.as_deref()).is_none() {
            findings.push(
                Finding::error(
                    format!("persistentvolumeclaim/{name}"),
                    "No class is named for the claim",
                )
                .hint(format!("add {name}=CLASS to --to-class")),
            );
        }
    }
    findings
}

fn nothing(owned: &Owned<'_>, workload: &WorkloadObject, wish: &MigrationRequest) -> Finding {
    let object = format!("{}/{}", workload.kind().resource(), workload.name());
    if owned.is_empty() {
        return Finding::error(
            object,
            "The workload has no claims, so there is nothing to move",
        )
        .hint("kubectl get persistentvolumeclaims");
    }
    let classes: Vec<String> = owned
        .iter()
        .map(|(name, (claim, _))| {
            let class = claim
                .spec
                .as_ref()
                .and_then(|s| s.storage_class_name.as_deref());
            format!("{name} of class {}", class.unwrap_or("(none)"))
        })
        .collect();
    let why = match &wish.from_class {
        Some(from) => format!("No claim is to move from class {from} to another"),
        None => "Every claim is of the wanted class already".to_owned(),
    };
    Finding::error(object, format!("{why}: {}", classes.join(", ")))
        .hint("name another class with --to-class")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::preflight::fixture;

    fn names(moves: &[ClaimMove<'_>]) -> Vec<String> {
        moves.iter().map(|m| m.name().to_owned()).collect()
    }

    #[test]
    fn a_set_s_claims_are_those_of_its_templates_also_without_a_pod() {
        assert!(is_ordinal_of("data-db-0", "data", "db"));
        assert!(is_ordinal_of("data-db-17", "data", "db"));
        for other in [
            "data-db-",
            "data-db-x",
            "data-db-01",
            "data-dbx-0",
            "data-db",
            "xdata-db-0",
        ] {
            assert!(!is_ordinal_of(other, "data", "db"), "{other}");
        }
        let mut view = fixture::view();
        view.claims.push(fixture::claim("data-db-7", "pv-7"));
        view.claims.push(fixture::claim("scratch", "pv-8"));
        let (moves, findings) = fixture::selected(&view, &fixture::wish());
        assert_eq!(findings, []);
        assert_eq!(names(&moves), ["data-db-0", "data-db-1", "data-db-7"]);
    }

    #[test]
    fn a_deployment_s_claims_are_those_its_pods_name() {
        let (view, wish) = fixture::deployment();
        let (moves, findings) = fixture::selected(&view, &wish);
        assert_eq!(findings, []);
        assert_eq!(names(&moves), ["www"]);
    }

    #[test]
    fn claims_are_chosen_by_name_by_class_and_by_template() {
        let view = fixture::view();
        let mut wish = fixture::wish();
        wish.claims = vec!["data-db-1".to_owned()];
        assert_eq!(names(&fixture::selected(&view, &wish).0), ["data-db-1"]);
        wish.claims.clear();
        wish.from_class = Some("other".to_owned());
        let (moves, findings) = fixture::selected(&view, &wish);
        assert!(moves.is_empty());
        assert!(
            findings[0].message.contains("from class other"),
            "{findings:?}"
        );
        wish.from_class = None;
        wish.to = "data=new".parse().unwrap();
        assert_eq!(fixture::selected(&view, &wish).0.len(), 2);
    }

    #[test]
    fn a_word_that_fits_nothing_is_an_error() {
        let view = fixture::view();
        let mut wish = fixture::wish();
        wish.claims = vec!["data-db-9".to_owned()];
        let (_, findings) = fixture::selected(&view, &wish);
        assert!(findings[0].hint.contains("data-db-0"), "{findings:?}");
        wish.claims.clear();
        wish.to = "wal=new".parse().unwrap();
        let (_, findings) = fixture::selected(&view, &wish);
        assert!(findings[0].message.contains("called wal"), "{findings:?}");
        wish.to = "data-db-0=new".parse().unwrap();
        wish.claims = vec!["data-db-1".to_owned()];
        let (_, findings) = fixture::selected(&view, &wish);
        assert!(
            findings[0].message.contains("No class is named"),
            "{findings:?}"
        );
    }

    #[test]
    fn claims_of_the_wanted_class_stay_and_are_an_error_only_by_name() {
        let view = fixture::view();
        let mut wish = fixture::wish();
        wish.to = "old".parse().unwrap();
        let (moves, findings) = fixture::selected(&view, &wish);
        assert!(moves.is_empty());
        assert!(findings[0].message.contains("already"), "{findings:?}");
        wish.claims = vec!["data-db-0".to_owned()];
        let (_, findings) = fixture::selected(&view, &wish);
        assert_eq!(findings[0].object, "persistentvolumeclaim/data-db-0");
    }
}

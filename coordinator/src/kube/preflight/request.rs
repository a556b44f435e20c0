//! What a user asks of a cluster's workload, in the words of the command line.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use livmig_engine::spec::{
    KubernetesTarget, MigrationSpec, MoverCapability, Options, WorkloadKind,
};
use livmig_proto::ids::MigrationUid;

/// What a user asks for.
#[derive(Clone, Debug)]
pub struct MigrationRequest {
    /// The identity that the migration will have.
    pub uid: MigrationUid,
    /// Whose claims move.
    pub workload: WorkloadName,
    /// Which class each claim moves to.
    pub to: ToClasses,
    /// Only claims of this class move.
    pub from_class: Option<String>,
    /// Only these claims move; all of the workload's when empty.
    pub claims: Vec<String>,
    /// Whether a `StatefulSet`'s claim templates get the new classes.
    pub update_template: bool,
    /// Whether re-created claims keep the class name of the old ones.
    pub keep_claim_spec: bool,
    /// Run in every pod just before the stop.
    pub pre_stop: Option<String>,
    /// The movers' image.
    pub mover_image: String,
    /// The Secret with which it is pulled.
    pub pull_secret: Option<String>,
    /// What the movers may do beyond the ordinary.
    pub capabilities: BTreeSet<MoverCapability>,
    /// How the migration behaves.
    pub options: Options,
}

impl MigrationRequest {
    /// The wish that a planned migration stands for, so that its checks can be made again: exactly
    /// its claims, each to its class. None for a migration of another platform.
    pub fn of(spec: &MigrationSpec) -> Option<Self> {
        let target: &KubernetesTarget = spec.target.kubernetes()?;
        Some(Self {
            uid: spec.uid,
            workload: WorkloadName {
                kind: target.workload.kind,
                name: target.workload.name.clone(),
            },
            to: ToClasses {
                every: None,
                named: target
                    .claims
                    .iter()
                    .map(|claim| (claim.claim.clone(), claim.to_class.clone()))
                    .collect(),
            },
            from_class: None,
            claims: target.claims.iter().map(|c| c.claim.clone()).collect(),
            update_template: target.update_template,
            keep_claim_spec: target.keep_claim_spec,
            pre_stop: target.pre_stop.clone(),
            mover_image: target.mover.image.clone(),
            pull_secret: target.mover.pull_secret.clone(),
            capabilities: target.mover.capabilities.clone(),
            options: spec.options.clone(),
        })
    }
}

/// A workload as it is named on a command line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WorkloadName {
    /// What it is.
    pub kind: WorkloadKind,
    /// Its name.
    pub name: String,
}

/// A text that names no workload.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadWorkload {
    /// Not KIND/NAME.
    #[error("expected KIND/NAME, as in statefulset/db")]
    Form,
    /// A kind that cannot be stopped and started by its number of replicas.
    #[error("{0:?} cannot be migrated; a statefulset or a deployment can")]
    Kind(String),
    /// A name that no object has.
    #[error("{0:?} is no object's name: 1 to 253 of a-z, 0-9, dots and dashes")]
    Name(String),
}

impl FromStr for WorkloadName {
    type Err = BadWorkload;

    fn from_str(text: &str) -> Result<Self, BadWorkload> {
        let (kind, name) = text.split_once('/').ok_or(BadWorkload::Form)?;
        let lower = kind.to_ascii_lowercase();
        let word = lower
            .strip_suffix(".v1.apps")
            .or_else(|| lower.strip_suffix(".apps"))
            .unwrap_or(&lower);
        let kind = match word {
            "statefulset" | "statefulsets" | "sts" => WorkloadKind::StatefulSet,
            "deployment" | "deployments" | "deploy" => WorkloadKind::Deployment,
            _ => return Err(BadWorkload::Kind(kind.to_owned())),
        };
        if is_name(name) {
            Ok(Self {
                kind,
                name: name.to_owned(),
            })
        } else {
            Err(BadWorkload::Name(name.to_owned()))
        }
    }
}

/// Which class each claim moves to: `fast`, or `data=fast,wal=nvme` by the claim's template or the
/// claim itself.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ToClasses {
    /// The class of every claim that is not named.
    pub every: Option<String>,
    /// Claim templates or claims, and their classes.
    pub named: BTreeMap<String, String>,
}

/// A text that names no classes.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadClasses {
    /// Not a name where one is expected.
    #[error("{0:?} is no class; expected CLASS, or TEMPLATE=CLASS,…")]
    Name(String),
    /// The same word twice.
    #[error("{0:?} is given two classes")]
    Twice(String),
}

impl ToClasses {
    /// The class for a claim, by its own name first, then by that of its template.
    pub fn of(&self, claim: &str, template: Option<&str>) -> Option<&str> {
        self.named
            .get(claim)
            .or_else(|| self.named.get(template?))
            .or(self.every.as_ref())
            .map(String::as_str)
    }
}

impl FromStr for ToClasses {
    type Err = BadClasses;

    fn from_str(text: &str) -> Result<Self, BadClasses> {
        let mut classes = Self::default();
        for part in text.split(',') {
            let (name, class) = match part.split_once('=') {
                Some((name, class)) => (Some(name), class),
                None => (None, part),
            };
            if !is_name(class) || name.is_some_and(|name| !is_name(name)) {
                return Err(BadClasses::Name(part.to_owned()));
            }
            let before = match name {
                Some(name) => classes.named.insert(name.to_owned(), class.to_owned()),
                None => classes.every.replace(class.to_owned()),
            };
            if before.is_some() {
                return Err(BadClasses::Twice(name.unwrap_or("every claim").to_owned()));
            }
        }
        Ok(classes)
    }
}

/// Whether `name` can be an object's name, so that it is safe in a path of the API.
fn is_name(name: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    (1..=253).contains(&bytes.len())
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_are_named_as_kubectl_names_them() {
        for text in [
            "sts/db",
            "statefulset/db",
            "StatefulSet/db",
            "statefulsets.apps/db",
        ] {
            let name: WorkloadName = text.parse().unwrap();
            assert_eq!(
                (name.kind, name.name.as_str()),
                (WorkloadKind::StatefulSet, "db")
            );
        }
        for text in [
            "deploy/web",
            "deployment.apps/web",
            "deployments.v1.apps/web",
        ] {
            let name: WorkloadName = text.parse().unwrap();
            assert_eq!(name.kind, WorkloadKind::Deployment, "{text}");
        }
        assert_eq!("db".parse::<WorkloadName>(), Err(BadWorkload::Form));
        assert!(matches!(
            "job/db".parse::<WorkloadName>(),
            Err(BadWorkload::Kind(_))
        ));
        for text in ["sts/", "sts/a/b", "sts/../x", "sts/A", "sts/-a"] {
            assert!(
                matches!(text.parse::<WorkloadName>(), Err(BadWorkload::Name(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn a_claim_s_own_class_wins_over_its_template_s_and_that_over_the_default() {
        let classes: ToClasses = "slow,data=fast,data-db-1=nvme".parse().unwrap();
        assert_eq!(classes.of("data-db-0", Some("data")), Some("fast"));
        assert_eq!(classes.of("data-db-1", Some("data")), Some("nvme"));
        assert_eq!(classes.of("wal-db-0", Some("wal")), Some("slow"));
        let classes: ToClasses = "data=fast".parse().unwrap();
        assert_eq!(classes.of("wal-db-0", Some("wal")), None);
    }

    #[test]
    fn classes_are_parsed_or_refused() {
        for text in ["", "data=", "=fast", "a,,b", "A", "data=a=b"] {
            assert!(
                matches!(text.parse::<ToClasses>(), Err(BadClasses::Name(_))),
                "{text}"
            );
        }
        for text in ["a,b", "x=a,x=b"] {
            assert!(
                matches!(text.parse::<ToClasses>(), Err(BadClasses::Twice(_))),
                "{text}"
            );
        }
    }
}

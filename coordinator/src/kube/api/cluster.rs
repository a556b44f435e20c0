//! The connection to a cluster, and what its refusals mean.

use std::{path::PathBuf, time::Duration};

use ::kube::{
    Api, Client, Config,
    api::Resource,
    config::{KubeConfigOptions, Kubeconfig},
};
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use livmig_engine::result::StepFailure;

use crate::movers::failure::chain;

/// How long connecting to the API server may take.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// How long one call may take, from the request to the end of the answer.
const CALL_MAX: Duration = Duration::from_secs(20);

/// Which cluster, as whom, and which namespace, in kubectl's words.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// The kubeconfig file; else `KUBECONFIG`, else the default one, else the pod's own account.
    pub kubeconfig: Option<PathBuf>,
    /// The context of the file.
    pub context: Option<String>,
    /// The namespace; else the context's.
    pub namespace: Option<String>,
    /// The user to act as.
    pub user: Option<String>,
}

/// A namespace of a cluster.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    namespace: String,
    context: String,
}

/// Why a cluster could not be asked, or refused.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// There is no usable configuration.
    #[error("Could not find out which cluster is meant")]
    Config(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The API server refused, with its reason.
    #[error("Could not {what}: the API server says {message:?}")]
    Refused {
        /// What was attempted, on which object.
        what: String,
        /// The HTTP status code.
        code: u16,
        /// Its words.
        message: String,
    },
    /// There was no usable answer.
    #[error("Could not {what}")]
    Unreachable {
        /// What was attempted, on which object.
        what: String,
        /// Why.
        #[source]
        source: Box<::kube::Error>,
    },
    /// There was no answer in time.
    #[error("Could not {what}: the API server has not answered for {} s", .limit.as_secs())]
    Silent {
        /// What was attempted, on which object.
        what: String,
        /// How long it was waited for.
        limit: Duration,
    },
}

impl Cluster {
    /// Connects as `choice` says. Nothing is sent yet.
    ///
    /// # Errors
    /// When there is no configuration, or not the context that was named.
    pub async fn connect(choice: &Choice) -> Result<Self, ClusterError> {
        fn config<E: std::error::Error + Send + Sync + 'static>(error: E) -> ClusterError {
            ClusterError::Config(Box::new(error))
        }
        let options = KubeConfigOptions {
            context: choice.context.clone(),
            ..KubeConfigOptions::default()
        };
        let (mut config, context) = if let Some(path) = &choice.kubeconfig {
            let file = Kubeconfig::read_from(path).map_err(config)?;
            let context = choice.context.clone().or(file.current_context.clone());
            let loaded = Config::from_custom_kubeconfig(file, &options)
                .await
                .map_err(config)?;
            (loaded, context)
        } else if choice.context.is_some() {
            let loaded = Config::from_kubeconfig(&options).await.map_err(config)?;
            (loaded, choice.context.clone())
        } else {
            let loaded = Config::infer().await.map_err(config)?;
            let context = Kubeconfig::read()
                .ok()
                .and_then(|file| file.current_context);
            (loaded, context)
        };
        config.connect_timeout = Some(CONNECT_MAX);
        if choice.user.is_some() {
            config.auth_info.impersonate.clone_from(&choice.user);
        }
        let namespace = choice
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        Ok(Self {
            client: Client::try_from(config).map_err(config_error)?,
            namespace,
            context: context.unwrap_or_else(|| "in this cluster".to_owned()),
        })
    }

    /// The same cluster's namespace `namespace`.
    pub fn in_namespace(&self, namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            ..self.clone()
        }
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The context's name, for people.
    pub fn context(&self) -> &str {
        &self.context
    }

    /// The connection.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Objects of the namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Objects of the whole cluster.
    pub fn cluster_api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = ClusterResourceScope, DynamicType = ()>,
    {
        Api::all(self.client.clone())
    }
}

fn config_error(error: ::kube::Error) -> ClusterError {
    ClusterError::Config(Box::new(error))
}

/// Waits for the answer to one call; `what` says what it is for, with the object.
///
/// # Errors
/// When the API server refuses, does not answer or cannot be reached.
pub async fn call<T>(
    what: impl Into<String>,
    answer: impl Future<Output = Result<T, ::kube::Error>>,
) -> Result<T, ClusterError> {
    let what = what.into();
    match tokio::time::timeout(CALL_MAX, answer).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(ClusterError::of(what, error)),
        Err(_) => Err(ClusterError::Silent {
            what,
            limit: CALL_MAX,
        }),
    }
}

impl ClusterError {
    /// The error of a call for `what`.
    pub fn of(what: String, error: ::kube::Error) -> Self {
        match error {
            ::kube::Error::Api(status) => Self::Refused {
                what,
                code: status.code,
                message: status.message.clone(),
            },
            error => Self::Unreachable {
                what,
                source: Box::new(error),
            },
        }
    }

    /// The HTTP status code of a refusal.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether there is no such object.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// Whether the object has changed since it was read, or exists already.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// Whether the user lacks the right. An admission plugin that refuses an object has the same
    /// code; only the words differ.
    pub fn is_lack_of_rights(&self) -> bool {
        matches!(self, Self::Refused { code: 403, message, .. } if message.contains("\" cannot "))
    }

    /// Whether a quota refuses an object. It counts what is deleted until some time after it is gone.
    pub fn is_over_quota(&self) -> bool {
        matches!(self, Self::Refused { code: 403, message, .. } if message.contains("exceeded quota"))
    }

    /// Whether the same call may succeed later without anybody doing anything: the server is
    /// away, busy, or the object has just been changed by somebody else.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Config(_) => false,
            Self::Refused { code, .. } => matches!(code, 408 | 409 | 429 | 500..=599),
            Self::Unreachable { .. } | Self::Silent { .. } => true,
        }
    }
}

impl From<ClusterError> for StepFailure {
    fn from(error: ClusterError) -> Self {
        let message = chain(&error);
        if error.is_transient() {
            Self::transient(message)
        } else if error.is_lack_of_rights() {
            Self::permanent(message).with_hint(
                "look at deploy/rbac.yaml for the rights that are needed, each with its reason",
            )
        } else {
            Self::permanent(message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_by_admission_carries_its_reason_and_no_word_of_rights() {
        let failure = |message: &str| {
            StepFailure::from(ClusterError::Refused {
                what: "create the pod livmig-db-0-src".to_owned(),
                code: 403,
                message: message.to_owned(),
            })
        };
        let rights = failure(
            "pods is forbidden: User \"u\" cannot create resource \"pods\" in API group \"\" in \
             the namespace \"shop\"",
        );
        assert!(rights.hint.is_some_and(|hint| hint.contains("rbac.yaml")));
        let policy = failure(
            "pods \"livmig-db-0-src\" is forbidden: violates PodSecurity \"restricted:latest\"",
        );
        assert_eq!(policy.hint, None);
        assert!(
            policy.message.contains("livmig-db-0-src") && policy.message.contains("PodSecurity"),
            "{policy}"
        );
    }

    #[test]
    fn a_quota_is_told_from_other_refusals() {
        let refused = |code: u16, message: &str| ClusterError::Refused {
            what: "create the claim data".to_owned(),
            code,
            message: message.to_owned(),
        };
        let quota = "persistentvolumeclaims \"data\" is forbidden: exceeded quota: claims, \
                     requested: persistentvolumeclaims=1, used: persistentvolumeclaims=3, \
                     limited: persistentvolumeclaims=3";
        assert!(refused(403, quota).is_over_quota());
        assert!(!refused(403, "violates PodSecurity").is_over_quota());
        assert!(!refused(422, quota).is_over_quota());
    }
}

//! The flags that say which cluster is meant, as kubectl has them, and what its errors mean here.

use std::path::PathBuf;

use livmig_engine::outcome::ExitCode;

use crate::cli::text::trouble::Trouble;
use crate::{
    kube::api::cluster::{Choice, Cluster, ClusterError},
    movers::failure::chain,
};

/// Which cluster, as whom, and which namespace.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct ClusterFlags {
    /// The context of the kubeconfig file
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The kubeconfig file [default: KUBECONFIG, else the one below the home directory]
    #[arg(long, value_name = "PATH")]
    kubeconfig: Option<PathBuf>,
    /// The namespace [default: the context's]
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// The user to act as
    #[arg(long = "as", value_name = "USER")]
    user: Option<String>,
}

impl ClusterFlags {
    /// Whether a cluster is named, so that not to reach it is an error.
    pub(crate) fn names_one(&self) -> bool {
        self.context.is_some() || self.kubeconfig.is_some() || self.namespace.is_some()
    }

    /// Connects to that cluster; nothing is sent yet.
    pub(crate) async fn connect(self) -> Result<Cluster, Trouble> {
        let choice = Choice {
            kubeconfig: self.kubeconfig,
            context: self.context,
            namespace: self.namespace,
            user: self.user,
        };
        Cluster::connect(&choice)
            .await
            .map_err(|error| of_cluster(&error))
    }
}

/// A cluster that could not be asked, before anything was changed in it.
pub(crate) fn of_cluster(error: &ClusterError) -> Trouble {
    let (exit, next) = match error {
        ClusterError::Config(_) => (
            ExitCode::Usage,
            "name a cluster with --kubeconfig and --context; kubectl config get-contexts lists them",
        ),
        ClusterError::Refused {
            code: 401 | 403, ..
        } => (
            ExitCode::Failed,
            "ask for that right, or act as somebody who has it (--as, --context)",
        ),
        ClusterError::Refused { .. } => (ExitCode::Failed, "try again"),
        ClusterError::Unreachable { .. } | ClusterError::Silent { .. } => (
            ExitCode::Failed,
            "see whether `kubectl version` reaches the same cluster; then try again",
        ),
    };
    Trouble::new(exit, chain(error))
        .with_state("nothing was changed by this command")
        .with_next(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_kubeconfig_that_is_not_there_is_a_usage_error_with_a_way_on() {
        let flags = ClusterFlags {
            context: None,
            kubeconfig: Some("/nonexistent/kubeconfig".into()),
            namespace: None,
            user: None,
        };
        let trouble = flags.connect().await.err().unwrap();
        assert_eq!(trouble.exit, ExitCode::Usage);
        assert!(
            trouble.error.contains("/nonexistent/kubeconfig"),
            "{trouble}"
        );
        assert!(trouble.next.unwrap().contains("--kubeconfig"));
    }

    #[test]
    fn a_refusal_says_how_to_get_the_right() {
        let trouble = of_cluster(&ClusterError::Refused {
            what: "list pods".to_owned(),
            code: 403,
            message: "no".to_owned(),
        });
        assert_eq!(trouble.exit, ExitCode::Failed);
        assert!(trouble.next.unwrap().contains("right"));
    }
}

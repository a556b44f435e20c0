//! The flags that say what is to move where in a cluster, and how: of `plan` and of `migrate`.

use livmig_engine::{
    outcome::ExitCode,
    spec::{MoverCapability, OnOverrun},
};
use livmig_proto::ids::MigrationUid;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::options::OptionArgs;
use crate::cli::text::trouble::Trouble;
use crate::{
    images::DEFAULT_MOVER_IMAGE,
    kube::preflight::request::{MigrationRequest, ToClasses, WorkloadName},
};

/// What is to move where, and how.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RequestArgs {
    /// The workload, as statefulset/NAME or deployment/NAME
    #[arg(value_name = "KIND/NAME")]
    workload: WorkloadName,
    /// The class to move to; or one for each claim or claim template, as in data=fast,wal=nvme
    #[arg(long, value_name = "CLASS")]
    to_class: ToClasses,
    /// Move only claims of this class [default: all that are not of the wanted one]
    #[arg(long, value_name = "CLASS")]
    from_class: Option<String>,
    /// Move only this claim; may be repeated
    #[arg(long, value_name = "NAME")]
    claim: Vec<String>,
    /// Give a statefulset's claim templates the new class too, so that later pods get it
    #[arg(long)]
    update_template: bool,
    /// Keep the class name in the claims as it is, for claims that a repository describes
    #[arg(long)]
    keep_claim_spec: bool,
    /// Run by `sh -c` in the first container of every pod just before the stop
    #[arg(long, value_name = "CMD")]
    pre_stop_exec: Option<String>,
    /// The image of the movers' pods
    #[arg(long, value_name = "REF", default_value = DEFAULT_MOVER_IMAGE)]
    mover_image: String,
    /// The Secret of the namespace with which that image is pulled
    #[arg(long, value_name = "NAME")]
    image_pull_secret: Option<String>,
    /// What the movers may do beyond the ordinary, where the namespace enforces no Pod Security level:
    /// `SYS_ADMIN` carries trusted.* and most security.* attributes, LEASE finds who still writes
    /// to files of other owners
    #[arg(long, value_name = "CAP,…", value_delimiter = ',')]
    mover_capabilities: Vec<MoverCapability>,
    #[command(flatten)]
    options: OptionArgs,
}

impl RequestArgs {
    /// The request, under a new identity. Without `--on-overrun` it is `otherwise`.
    pub(crate) fn request(self, otherwise: OnOverrun) -> Result<MigrationRequest, Trouble> {
        let mut uid = [0; 16];
        SystemRandom::new().fill(&mut uid).map_err(|_| {
            Trouble::new(
                ExitCode::Failed,
                "Could not make an identity for the migration",
            )
        })?;
        Ok(MigrationRequest {
            uid: MigrationUid(uid),
            workload: self.workload,
            to: self.to_class,
            from_class: self.from_class,
            claims: self.claim,
            update_template: self.update_template,
            keep_claim_spec: self.keep_claim_spec,
            pre_stop: self.pre_stop_exec,
            mover_image: self.mover_image,
            pull_secret: self.image_pull_secret,
            capabilities: self.mover_capabilities.into_iter().collect(),
            options: self.options.options(otherwise),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use clap::Parser;
    use livmig_proto::control::Reason;

    use super::*;

    #[derive(Debug, Parser)]
    struct Only {
        #[command(flatten)]
        request: RequestArgs,
    }

    #[test]
    fn a_wish_is_what_the_flags_say() {
        let line = "x sts/db --to-class data=fast --claim a --claim b --max-downtime 5s --adopt";
        let parsed = Only::try_parse_from(line.split(' ')).unwrap();
        let request = parsed.request.clone().request(OnOverrun::Abort).unwrap();
        assert_eq!(request.workload.name, "db");
        assert_eq!(request.to.of("data-db-0", Some("data")), Some("fast"));
        assert_eq!(request.claims, ["a", "b"]);
        assert_eq!(request.options.max_downtime, Duration::from_secs(5));
        assert_eq!(request.options.on_overrun, OnOverrun::Abort);
        assert!(request.options.adopt);
        let another = parsed.request.request(OnOverrun::Ask).unwrap();
        assert_eq!(another.options.on_overrun, OnOverrun::Ask);
        assert_ne!(another.uid, request.uid);
    }

    #[test]
    fn reasons_and_capabilities_are_lists_of_known_names() {
        let line = "x sts/db --to-class fast --leave-out mount,lost-found --leave-out encrypted \
                    --mover-capabilities CAP_SYS_ADMIN,lease";
        let words: Vec<&str> = line.split_whitespace().collect();
        let request = Only::try_parse_from(&words)
            .unwrap()
            .request
            .request(OnOverrun::Abort)
            .unwrap();
        let reasons = [Reason::Mount, Reason::LostFound, Reason::Encrypted];
        assert_eq!(request.options.leave_out, BTreeSet::from(reasons));
        assert_eq!(request.capabilities, BTreeSet::from(MoverCapability::ALL));
        for (flag, known) in [
            ("--leave-out", "lost-found"),
            ("--mover-capabilities", "LEASE"),
        ] {
            let words = ["x", "sts/db", "--to-class", "fast", flag, "socket"];
            let error = Only::try_parse_from(words).unwrap_err().to_string();
            assert!(error.contains(known), "{error}");
        }
    }

    #[test]
    fn a_mistyped_workload_is_told_before_a_cluster_is_asked() {
        let line = "x job/db --to-class fast";
        let error = Only::try_parse_from(line.split(' ')).unwrap_err();
        assert!(error.to_string().contains("statefulset"), "{error}");
    }
}

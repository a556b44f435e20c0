//! The flags that say what is to move where in a cluster, and how: of `plan` and of `migrate`.

use std::time::Duration;

use livmig_engine::{
    outcome::ExitCode,
    spec::{MoverCapability, OnOverrun, Options},
};
use livmig_proto::{control::Reason, ids::MigrationUid};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::{
    limits::LimitArgs,
    values::{Overrun, Verify, duration},
};
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
    /// Reasons, such as mount, lost-found or attributes-unsupported, for which something grave may be
    /// left out; what is left out for another one refuses the migration before the workload is
    /// stopped, and is named
    #[arg(long, value_name = "REASON,…", value_delimiter = ',')]
    leave_out: Vec<Reason>,
    /// The longest downtime to accept
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    max_downtime: Duration,
    /// What to do when that cannot be met; without it, a terminal is asked and anything else aborts
    #[arg(long, value_enum)]
    on_overrun: Option<Overrun>,
    /// How the destination is proven
    #[arg(long, value_enum, default_value_t)]
    verify: Verify,
    #[command(flatten)]
    load: LimitArgs,
    /// Take over a destination that already holds something; what the source lacks is deleted there
    #[arg(long)]
    adopt: bool,
}

impl RequestArgs {
    /// The wish, under a new identity. Without `--on-overrun` it is `otherwise`.
    pub(crate) fn wish(self, otherwise: OnOverrun) -> Result<MigrationRequest, Trouble> {
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
            options: Options {
                max_downtime: self.max_downtime,
                on_overrun: self.on_overrun.map_or(otherwise, OnOverrun::from),
                verify: self.verify.into(),
                adopt: self.adopt,
                load: self.load.load(),
                leave_out: self.leave_out.into_iter().collect(),
                ..Options::default()
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Only {
        #[command(flatten)]
        wish: RequestArgs,
    }

    #[test]
    fn a_wish_is_what_the_flags_say() {
        let line = "x sts/db --to-class data=fast --claim a --claim b --max-downtime 5s --adopt";
        let parsed = Only::try_parse_from(line.split(' ')).unwrap();
        let wish = parsed.wish.clone().wish(OnOverrun::Abort).unwrap();
        assert_eq!(wish.workload.name, "db");
        assert_eq!(wish.to.of("data-db-0", Some("data")), Some("fast"));
        assert_eq!(wish.claims, ["a", "b"]);
        assert_eq!(wish.options.max_downtime, Duration::from_secs(5));
        assert_eq!(wish.options.on_overrun, OnOverrun::Abort);
        assert!(wish.options.adopt);
        let another = parsed.wish.wish(OnOverrun::Ask).unwrap();
        assert_eq!(another.options.on_overrun, OnOverrun::Ask);
        assert_ne!(another.uid, wish.uid);
    }

    #[test]
    fn reasons_and_capabilities_are_lists_of_known_names() {
        let line = "x sts/db --to-class fast --leave-out mount,lost-found --leave-out encrypted \
                    --mover-capabilities CAP_SYS_ADMIN,lease";
        let words: Vec<&str> = line.split_whitespace().collect();
        let wish = Only::try_parse_from(&words)
            .unwrap()
            .wish
            .wish(OnOverrun::Abort)
            .unwrap();
        let reasons = [Reason::Mount, Reason::LostFound, Reason::Encrypted];
        assert_eq!(wish.options.leave_out, BTreeSet::from(reasons));
        assert_eq!(wish.capabilities, BTreeSet::from(MoverCapability::ALL));
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

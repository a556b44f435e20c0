//! The flags that say how a migration is to be done, on a cluster and on a host.

use std::time::Duration;

use livmig_engine::spec::{OnOverrun, Options};
use livmig_proto::control::Reason;

use super::{
    limits::LimitArgs,
    values::{Overrun, Verify, duration},
};

/// How it is to be done.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct OptionArgs {
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
    limits: LimitArgs,
    /// Take over a destination that already holds something; what the source lacks is deleted there
    #[arg(long)]
    adopt: bool,
    /// Reasons, such as mount, lost-found or attributes-unsupported, for which something grave may be
    /// left out; what is left out for another one refuses the migration before the workload is
    /// stopped, and is named
    #[arg(long, value_name = "REASON,…", value_delimiter = ',')]
    leave_out: Vec<Reason>,
}

impl OptionArgs {
    /// What they say. Without `--on-overrun` it is `otherwise`.
    pub(crate) fn options(self, otherwise: OnOverrun) -> Options {
        Options {
            max_downtime: self.max_downtime,
            on_overrun: self.on_overrun.map_or(otherwise, OnOverrun::from),
            verify: self.verify.into(),
            adopt: self.adopt,
            load: self.limits.limits(),
            leave_out: self.leave_out.into_iter().collect(),
            ..Options::default()
        }
    }
}

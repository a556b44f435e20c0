//! Forgetting a migration of a cluster.

use std::fmt::Write as _;

use livmig_engine::outcome::{ExitCode, Standing};
use livmig_proto::ids::Epoch;

use super::{Args, refuse_unfinished};
use crate::cli::{
    home::{InCluster, MigrationHome as _},
    text::{output, trouble::Trouble},
};
use crate::kube::{
    cleanup::{
        forget::{self, Leftover},
        release,
    },
    migration::Migration,
    store::lease,
};

/// Forgets the migration; on request, lets the volumes go that the workload has left.
pub(crate) async fn run(found: &InCluster, args: &Args) -> Result<ExitCode, Trouble> {
    let delete = args.delete_old_volumes;
    let history = found.history().await?;
    let document = history.document();
    refuse_unfinished(&history, &document)?;
    let migration = Migration::of(&document.spec)
        .map_err(|error| Trouble::because(ExitCode::Failed, &error))?;
    let completed = document.status.outcome == Standing::Completed;
    if delete && !completed {
        return Err(Trouble::new(
            ExitCode::Refused,
            format!(
                "The migration {} did not complete: the workload still needs its volumes",
                found.name
            ),
        )
        .with_state("nothing was removed")
        .with_next(format!("livmig-coord cleanup {}", found.name)));
    }
    let leftover = match (completed, delete) {
        (true, true) => Leftover::OldVolumes,
        (true, false) => Leftover::Keep,
        (false, _) => Leftover::Copies,
    };
    let lease = lease::acquire(
        &found.cluster,
        &migration.names.lease(),
        "livmig-coord cleanup",
    )
    .await
    .map_err(|error| {
        Trouble::because(ExitCode::Failed, &error).with_state("nothing was removed")
    })?;
    let again = |trouble: Trouble, hint: Option<String>| {
        trouble.with_next(hint.unwrap_or_else(|| format!("livmig-coord cleanup {}", found.name)))
    };
    let cluster = &found.cluster;
    if leftover == Leftover::OldVolumes
        && let Err(failure) = release::ensure_unused(cluster, &migration).await
    {
        lease.release().await;
        let trouble = Trouble::new(ExitCode::Refused, failure.to_string());
        return Err(again(
            trouble.with_state("nothing was removed"),
            failure.hint,
        ));
    }
    let epoch = Epoch(document.status.epoch);
    let removed = forget::forget(cluster, &migration, epoch, leftover).await;
    lease.release().await;
    let removed = removed.map_err(|failure| {
        let trouble = Trouble::new(ExitCode::Failed, failure.to_string())
            .with_state("removed in part; the same command may be repeated");
        again(trouble, failure.hint)
    })?;
    let mut text = String::new();
    for volume in &removed.volumes {
        let _ = writeln!(text, "let the volume {volume} go");
    }
    for volume in &removed.kept {
        let _ = writeln!(text, "the old data is still on the volume {volume}");
    }
    for used in &removed.used {
        let _ = writeln!(text, "left as it is: the volume {used}");
    }
    let _ = writeln!(text, "forgot the migration {}", found.name);
    output::text(&text)?;
    Ok(ExitCode::Done)
}

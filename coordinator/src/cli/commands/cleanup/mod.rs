//! `cleanup`: forgets a finished migration. The old volume is removed only when that is asked for
//! in so many words.

mod in_cluster;

use std::{collections::BTreeSet, io, path::Path};

use livmig_engine::{
    document::Document,
    outcome::{ExitCode, Standing},
    spec::HostTarget,
};

use crate::cli::{
    flags::cluster::ClusterFlags,
    home::{History, Home, MigrationHome as _, find::host_target},
    text::{output, trouble::Trouble},
};
use crate::host::{
    old_volume::{self, DirectoryIdentity, NotRemoved, RemovalError},
    settings::Settings,
    store::{
        folder::{MigrationFolder, StateRoot},
        journal,
    },
    symlink, writers,
};

/// Forget a finished migration; on request, remove the old volume
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The migration's name, the PATH it migrates, or the workload's KIND/NAME
    migration: String,
    /// Remove the directory that the workload has left, with all it holds
    #[arg(long, requires = "confirm")]
    delete_old_volumes: bool,
    /// The migration's name once more
    #[arg(long, value_name = "MIGRATION", requires = "delete_old_volumes")]
    confirm: Option<String>,
    #[command(flatten)]
    cluster: ClusterFlags,
}

/// Runs the command.
pub(crate) async fn run(args: &Args) -> Result<ExitCode, Trouble> {
    let root = StateRoot::from_environment()?;
    let home = Home::find(&root, &args.migration, &args.cluster).await?;
    let name = match &home {
        Home::Folder(home) => home.name().to_string(),
        Home::Cluster(home) => home.name().to_string(),
    };
    if args.delete_old_volumes && args.confirm.as_ref() != Some(&name) {
        return Err(Trouble::new(
            ExitCode::Usage,
            format!("--confirm must repeat the migration's name, {name}"),
        )
        .with_state("nothing was removed"));
    }
    match home {
        Home::Folder(folder) => on_host(folder, args.delete_old_volumes),
        Home::Cluster(found) => in_cluster::run(&found, args).await,
    }
}

fn on_host(folder: MigrationFolder, delete: bool) -> Result<ExitCode, Trouble> {
    let lock = folder.lock()?;
    let loaded = journal::read(&folder.journal())?;
    let history = History::of(folder.name(), loaded.records)?;
    let document = history.document();
    refuse_unfinished(&history, &document)?;
    let name = folder.name().clone();
    let target = host_target(&document.spec)?;
    let told = if delete {
        // One that an older program has begun says nothing of it.
        let settings = Settings::load(folder.path()).ok();
        let identity = settings.and_then(|settings| settings.source);
        remove_source(&document, target, identity)?;
        format!("removed {}\n", target.source.display())
    } else if document.status.outcome == Standing::Completed {
        format!("the old data still lies in {}\n", target.source.display())
    } else {
        format!(
            "what was copied still lies in {}\n",
            target.destination.display()
        )
    };
    folder.remove(lock)?;
    output::text(&format!("{told}forgot the migration {name}\n"))?;
    Ok(ExitCode::Done)
}

/// Fails while the migration has not ended.
fn refuse_unfinished(history: &History, document: &Document) -> Result<(), Trouble> {
    if !document.status.outcome.is_final() {
        return Err(Trouble::new(
            ExitCode::Refused,
            format!("The migration {} has not ended", document.metadata.name),
        )
        .with_state(format!("nothing was removed; {}", document.status.workload))
        .with_next(history.ways_on()));
    }
    Ok(())
}

/// Removes the old volume once it is certain that nobody needs it.
fn remove_source(
    document: &Document,
    target: &HostTarget,
    identity: Option<DirectoryIdentity>,
) -> Result<(), Trouble> {
    let name = &document.metadata.name;
    let refused =
        |why: String| Trouble::new(ExitCode::Refused, why).with_state("nothing was removed");
    if document.status.outcome != Standing::Completed {
        return Err(refused(format!(
            "The migration {name} did not complete: the workload still needs {}",
            target.source.display()
        ))
        .with_next(format!("livmig-coord cleanup {name}")));
    }
    let source = &target.source;
    match symlink::same_directory(&target.path, source) {
        Ok(false) => {}
        Ok(true) => {
            return Err(refused(format!(
                "PATH {} leads to the old volume {} again",
                target.path.display(),
                source.display()
            )));
        }
        // It was removed by an earlier try, or by hand.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !source.exists() => return Ok(()),
        Err(error) => {
            return Err(refused(format!(
                "Could not compare PATH {} with the old volume: {error}",
                target.path.display()
            )));
        }
    }
    let own = BTreeSet::from([std::process::id()]);
    let survey = writers::survey(source, &own)
        .map_err(|error| refused(format!("Could not look for users of the volume: {error}")))?;
    if let Some(holder) = survey.holders.first() {
        return Err(refused(format!(
            "The old volume {} is still in use: {holder}",
            source.display()
        )));
    }
    old_volume::remove(source, identity).map_err(|error| not_removed(name, source, &error))
}

/// What a person is told of an old volume that stays, or of which something stays.
fn not_removed(name: &str, source: &Path, NotRemoved { why, removed }: &NotRemoved) -> Trouble {
    let again = format!("livmig-coord cleanup {name} --delete-old-volumes --confirm {name}");
    let (code, next) = match why {
        RemovalError::Mounted(points) => {
            let next = match points.first() {
                Some(point) => {
                    format!("umount {}, then {again}", symlink::quote(point.as_os_str()))
                }
                None => again,
            };
            (ExitCode::Refused, next)
        }
        RemovalError::Another(_) => (ExitCode::Refused, format!("livmig-coord cleanup {name}")),
        RemovalError::Look { .. } => (ExitCode::Refused, again),
        RemovalError::Remove { .. } => (ExitCode::Failed, again),
    };
    let state = match removed {
        0 => "nothing was removed".to_owned(),
        names => format!(
            "{names} names of the old volume {} were removed; the workload does not use it",
            source.display()
        ),
    };
    // What is gone stays gone: a refusal is of something that was not begun.
    let code = if *removed == 0 {
        code
    } else {
        ExitCode::Failed
    };
    Trouble::because(code, why)
        .with_state(state)
        .with_next(next)
}

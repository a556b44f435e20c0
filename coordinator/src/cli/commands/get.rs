//! `get`: every migration of this user on this machine, or one.

use livmig_engine::{
    document::{Document, List},
    outcome::ExitCode,
};

use crate::cli::{
    flags::{cluster::ClusterFlags, values::ListFormat},
    home::{History, Home, MigrationHome as _},
    text::{output, summary, table::aligned, trouble::Trouble},
};
use crate::{host::store::folder::StateRoot, kube::store::migrations};

/// List migrations, or show one
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The migration's name, the PATH it migrates, or the workload's KIND/NAME
    migration: Option<String>,
    /// What to print
    #[arg(short, long, value_enum, default_value_t)]
    output: ListFormat,
    #[command(flatten)]
    cluster: ClusterFlags,
}

/// Runs the command.
pub(crate) async fn run(args: &Args) -> Result<ExitCode, Trouble> {
    let root = StateRoot::from_environment()?;
    if let Some(name) = &args.migration {
        let history = match Home::find(&root, name, &args.cluster).await? {
            Home::Folder(home) => home.history().await?,
            Home::Cluster(home) => home.history().await?,
        };
        let document = history.document();
        match args.output {
            ListFormat::Json => output::json(&document)?,
            ListFormat::Wide => output::text(&summary::text(&document))?,
            ListFormat::Text => output::text(&table(&[document], false))?,
        }
        return Ok(ExitCode::Done);
    }
    let mut documents = Vec::new();
    let mut unreadable = None;
    for folder in root.migrations()? {
        match folder.history().await {
            Ok(history) => documents.push(history.document()),
            // The others are shown all the same.
            Err(trouble) => unreadable = Some(trouble),
        }
    }
    match of_cluster(&args.cluster).await {
        Ok(found) => documents.extend(found),
        // A machine that knows no cluster has no migrations there.
        Err(trouble) if args.cluster.names_one() => unreadable = Some(trouble),
        Err(_) => {}
    }
    match args.output {
        ListFormat::Json => output::json(&List::new(documents))?,
        ListFormat::Text => output::text(&table(&documents, false))?,
        ListFormat::Wide => output::text(&table(&documents, true))?,
    }
    unreadable.map_or(Ok(ExitCode::Done), Err)
}

/// The migrations of the namespace.
async fn of_cluster(flags: &ClusterFlags) -> Result<Vec<Document>, Trouble> {
    let cluster = flags.clone().connect().await?;
    let stored = migrations::all(&cluster)
        .await
        .map_err(|error| Trouble::because(ExitCode::Failed, &error))?;
    stored
        .into_iter()
        .map(|stored| Ok(History::of(&stored.name, stored.records)?.document()))
        .collect()
}

/// A line for each migration.
fn table(documents: &[Document], wide: bool) -> String {
    if documents.is_empty() {
        return "no migrations\n".to_owned();
    }
    let mut rows = vec![if wide {
        vec![
            "NAME",
            "PHASE",
            "OUTCOME",
            "PASSES",
            "DOWNTIME",
            "PATH",
            "SOURCE",
            "DESTINATION",
            "UPDATED",
        ]
        .into_iter()
        .map(str::to_owned)
        .collect()
    } else {
        ["NAME", "PHASE", "OUTCOME", "PATH", "UPDATED"]
            .map(str::to_owned)
            .to_vec()
    }];
    rows.extend(documents.iter().map(|document| row(document, wide)));
    aligned(&rows)
}

fn row(document: &Document, wide: bool) -> Vec<String> {
    let status = &document.status;
    let joined = |each: fn(&livmig_engine::document::VolumeDocument) -> &String| {
        let texts: Vec<&str> = status
            .volumes
            .iter()
            .map(|volume| each(volume).as_str())
            .collect();
        texts.join(",")
    };
    let mut row = vec![
        document.metadata.name.clone(),
        status.phase.to_owned(),
        status.outcome.to_string(),
    ];
    if wide {
        row.push(status.passes.len().to_string());
        row.push(
            status
                .downtime_seconds
                .map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.2}s")),
        );
    }
    row.push(joined(|volume| &volume.claim));
    if wide {
        row.push(joined(|volume| &volume.source));
        row.push(joined(|volume| &volume.destination));
    }
    row.push(status.updated_at.clone());
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_migrations_are_no_empty_table() {
        assert_eq!(table(&[], true), "no migrations\n");
    }
}

//! `migrate`: moves a workload of a cluster.

use std::io::{self, Write as _};

use livmig_engine::{outcome::ExitCode, request::Request, spec::MigrationSpec};

use super::plan;
use crate::cli::{
    flags::{
        cluster::{ClusterFlags, of_cluster},
        request::RequestArgs,
        values::Output,
    },
    terminal::{
        confirm::{self, confirmed},
        drive::{Driven, TerminalRun, conclude, drive},
    },
    text::{advice::MadeBy, findings, output, trouble::Trouble},
};
use crate::{
    driver::Start,
    host::store::{file::create_folder, folder::StateRoot},
    kube::{
        api::{cluster::Cluster, names::Names},
        migration::Migration,
        platform::KubePlatform,
        preflight::{check, finding::Report, read::survey},
        store::{journal::ConfigMapJournal, lease},
    },
};

/// Migrate a workload's claims to another storage class
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    request: RequestArgs,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
    /// What to print at the end
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    cluster: ClusterFlags,
}

/// Runs the command.
pub(crate) async fn run(args: Args) -> Result<ExitCode, Trouble> {
    if !args.yes {
        confirm::expect_terminal()?;
    }
    let request = args.request.request(confirm::on_overrun())?;
    let cluster = args.cluster.connect().await?;
    let view = survey(&cluster, &request)
        .await
        .map_err(|error| of_cluster(&error))?;
    let report = check(&view, &request);
    let Some(spec) = report.spec.clone() else {
        if args.output == Output::Json {
            // The refusal says more than that its document is lost.
            let _ = output::json(&refused(&report));
        }
        // What was found is for people, whatever the output at the end is.
        let _ = write!(io::stderr(), "{}", findings::text(&report.findings));
        return Err(plan::refused(&report));
    };
    if !args.yes && !confirmed(&plan::text(&report, &cluster))? {
        return Err(Trouble::new(ExitCode::Interrupted, "Not confirmed")
            .with_state("nothing was changed; the workload runs as before"));
    }
    let driven = start(&cluster, &spec, Start::New(Box::new(spec.clone()))).await?;
    conclude(&driven, args.output)
}

/// Takes a migration of a cluster over.
pub(crate) async fn take_over(
    cluster: &Cluster,
    spec: &MigrationSpec,
    request: Option<Request>,
) -> Result<Driven, Trouble> {
    start(cluster, spec, Start::Resume { request }).await
}

/// Takes the lease and drives.
async fn start(cluster: &Cluster, spec: &MigrationSpec, start: Start) -> Result<Driven, Trouble> {
    let migration = Migration::of(spec).map_err(|error| {
        Trouble::because(ExitCode::Failed, &error).with_state("nothing was changed by this command")
    })?;
    let cluster = cluster.in_namespace(&migration.target.namespace);
    // Only what is told of this run lies here; what decides lies in the cluster.
    let root = StateRoot::from_environment()?;
    let folder = root.path().join("clusters").join(spec.name.as_str());
    create_folder(&folder).map_err(|error| {
        Trouble::new(
            ExitCode::Failed,
            format!("Could not create {}: {error}", folder.display()),
        )
        .with_state("nothing was changed by this command")
    })?;
    let names = Names::new(&spec.name);
    let lease = lease::acquire(&cluster, &names.lease(), &holder())
        .await
        .map_err(|error| {
            Trouble::because(ExitCode::Failed, &error)
                .with_state("nothing was changed by this command")
                .with_next(format!("livmig-coord status {} --watch", spec.name))
        })?;
    let driven = drive(TerminalRun {
        name: spec.name.clone(),
        folder,
        journal: ConfigMapJournal::new(cluster.clone(), names),
        registration: None,
        platform: KubePlatform::new(&cluster, migration),
        start,
        made_by: MadeBy::Migrate,
    })
    .await;
    lease.release().await;
    driven
}

/// Who holds the lease: this process of this host.
fn holder() -> String {
    let host = rustix::system::uname();
    format!(
        "{}/{}",
        host.nodename().to_string_lossy(),
        std::process::id()
    )
}

/// The document of a request that the checks refused: nothing is stored of it.
fn refused(report: &Report) -> serde_json::Value {
    serde_json::json!({
        "apiVersion": livmig_engine::document::API_VERSION,
        "kind": "Migration",
        "metadata": {},
        "status": {
            "phase": "Planned",
            "outcome": "refused",
            "reason": report.errors().next().map(|finding| &finding.message),
            "hint": report.errors().next().map(|finding| &finding.hint),
            "findings": report.findings,
            "passes": [],
            "volumes": [],
        },
    })
}

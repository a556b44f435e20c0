//! `plan`: whether a migration of a cluster's workload can work, and what it would do.

use std::collections::BTreeSet;

use clap::ValueEnum;
use livmig_engine::{
    document::API_VERSION,
    outcome::ExitCode,
    plan::{PlannedStep, plan},
    spec::{MigrationSpec, MoverCapability},
};
use serde::Serialize;

use crate::cli::{
    flags::{
        cluster::{ClusterFlags, of_cluster},
        request::RequestArgs,
    },
    terminal::confirm,
    text::{findings, output, summary::consent, table::aligned, trouble::Trouble},
};
use crate::kube::{
    api::cluster::Cluster,
    preflight::{
        check,
        finding::{Finding, Report},
        read::survey,
    },
};

/// Check whether a workload's claims can move to another class, and show how
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    request: RequestArgs,
    /// What to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    cluster: ClusterFlags,
}

/// What to print.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Text,
    /// One document for programs.
    Json,
    /// The same document, easier to read.
    Yaml,
}

/// A plan as a document.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PlanDocument<'a> {
    api_version: &'static str,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    spec: Option<&'a MigrationSpec>,
    findings: &'a [Finding],
    steps: Vec<PlannedStep>,
}

/// Runs the command.
pub(crate) async fn run(args: Args) -> Result<ExitCode, Trouble> {
    let request = args.request.request(confirm::on_overrun())?;
    let cluster = args.cluster.connect().await?;
    let view = survey(&cluster, &request)
        .await
        .map_err(|error| of_cluster(&error))?;
    let report = check(&view, &request);
    let document = PlanDocument {
        api_version: API_VERSION,
        kind: "Plan",
        spec: report.spec.as_ref(),
        findings: &report.findings,
        steps: plan().steps,
    };
    match args.output {
        Format::Text => output::text(&text(&report, &cluster))?,
        Format::Json => output::json(&document)?,
        Format::Yaml => output::whole(&yaml(&document)?)?,
    }
    if report.spec.is_some() {
        return Ok(ExitCode::Done);
    }
    Err(refused(&report))
}

/// The checks found obstacles, which have been printed.
pub(crate) fn refused(report: &Report) -> Trouble {
    Trouble::new(
        ExitCode::Refused,
        format!(
            "The checks refuse the migration: {}",
            findings::count(&report.findings)
        ),
    )
    .with_state("nothing was changed; the workload runs as before")
    .with_next("do what the lines after -> say, then plan again")
}

fn yaml(document: &PlanDocument<'_>) -> Result<String, Trouble> {
    serde_saphyr::to_string(document).map_err(|error| {
        Trouble::new(
            ExitCode::Failed,
            format!("Could not encode the document: {error}"),
        )
    })
}

/// What would be done and what was found, for people.
pub(crate) fn text(report: &Report, cluster: &Cluster) -> String {
    let found = findings::text(&report.findings);
    let Some(spec) = &report.spec else {
        return found;
    };
    let gap = if found.is_empty() { "" } else { "\n" };
    format!(
        "{}\n{}\n{found}{gap}The migration is possible: {}. Nothing was changed.\n",
        what(spec, cluster.context()),
        plan(),
        findings::count(&report.findings)
    )
}

/// What moves where, in a table.
fn what(spec: &MigrationSpec, context: &str) -> String {
    let Some(target) = spec.target.kubernetes() else {
        return String::new();
    };
    let mut rows = vec![
        ["CLAIM", "VOLUME", "FROM", "TO"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(target.claims.iter().map(|claim| {
        vec![
            claim.claim.clone(),
            claim.volume.clone(),
            claim.from_class.clone(),
            claim.to_class.clone(),
        ]
    }));
    format!(
        "workload  {} in namespace {} of {context}\nbudget    {:.0} s of downtime, otherwise {}\n\
         image     {}{}\n{}\n{}",
        target.workload,
        target.namespace,
        spec.options.max_downtime.as_secs_f64(),
        spec.options.on_overrun,
        target.mover.image,
        capabilities(&target.mover.capabilities),
        consent(&spec.options.leave_out),
        aligned(&rows),
    )
}

fn capabilities(given: &BTreeSet<MoverCapability>) -> String {
    if given.is_empty() {
        return String::new();
    }
    let names: Vec<&str> = given.iter().map(|capability| capability.name()).collect();
    format!(", with {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_plan_is_one_document_without_a_spec() {
        let findings = [Finding::error("storageclass/x", "There is no such class").hint("name y")];
        let document = PlanDocument {
            api_version: API_VERSION,
            kind: "Plan",
            spec: None,
            findings: &findings,
            steps: plan().steps,
        };
        let value = serde_json::to_value(&document).unwrap();
        assert_eq!(value["kind"], "Plan");
        assert!(value.get("spec").is_none());
        assert_eq!(
            value["findings"],
            serde_json::json!([{"severity": "error", "object": "storageclass/x",
                "message": "There is no such class", "hint": "name y"}])
        );
        assert_eq!(value["steps"][0]["step"], "check");
        let yaml = yaml(&document).unwrap();
        let start =
            format!("apiVersion: {API_VERSION}\nkind: Plan\nfindings:\n- severity: error\n");
        assert!(yaml.starts_with(&start), "{yaml}");
    }

    #[test]
    fn a_refusal_counts_what_was_printed() {
        let report = Report {
            findings: vec![Finding::error("a", "b"), Finding::warning("c", "d")],
            spec: None,
        };
        let trouble = refused(&report);
        assert_eq!(trouble.exit, ExitCode::Refused);
        assert!(trouble.error.ends_with("1 error, 1 warning"), "{trouble}");
    }
}

//! The status of a migration of a cluster.

use std::future::pending;

use k8s_openapi::api::core::v1::ConfigMap;
use livmig_engine::{
    outcome::{ExitCode, Standing},
    record::Record,
};

use super::Args;
use crate::cli::{
    flags::values::Output,
    home::InCluster,
    terminal::drive::{told, ways_on},
    text::{output, summary, trouble::Trouble},
};
use crate::kube::{
    api::{names::Names, watch::await_change},
    store::migrations,
};

/// Prints the status; on request, every change until the migration ends.
pub(crate) async fn run(found: &InCluster, args: &Args) -> Result<ExitCode, Trouble> {
    let output = args.output;
    let failed = |error: &dyn std::error::Error| Trouble::because(ExitCode::Failed, error);
    let mut records = found.records.clone();
    if !args.watch {
        let document = told(&found.name, &records)?;
        match output {
            Output::Json => output::json(&document)?,
            Output::Text => output::text(&format!(
                "{}\nnext: {}\n",
                summary::text(&document),
                next(found, document.status.outcome, &records)
            ))?,
        }
        return Ok(ExitCode::Done);
    }
    let api = found.cluster.api::<ConfigMap>();
    let names = Names::new(&found.name);
    let mut shown = None;
    loop {
        let document = told(&found.name, &records)?;
        let now = match output {
            Output::Json => serde_json::to_string(&document.status).unwrap_or_default(),
            Output::Text => super::line(&document),
        };
        if shown.as_ref() != Some(&now) {
            match output {
                Output::Json => output::json(&document)?,
                Output::Text => output::text(&format!("{}  {now}\n", document.status.updated_at))?,
            }
            shown = Some(now);
        }
        if document.status.outcome != Standing::Running {
            if output == Output::Text {
                let next = next(found, document.status.outcome, &records);
                output::text(&format!("\nnext: {next}\n"))?;
            }
            return Ok(ExitCode::Done);
        }
        // The last part of the journal grows, or another one follows it.
        let before = records.len();
        while records.len() == before {
            let parts = migrations::versions(&found.cluster, &names)
                .await
                .map_err(|error| failed(&error))?;
            records = migrations::records(&found.cluster, &found.name)
                .await
                .map_err(|error| failed(&error))?;
            if records.len() == before {
                let last = parts.len().saturating_sub(1);
                let grown = async {
                    match parts.last() {
                        Some(version) => {
                            let name = names.journal(last);
                            await_change(&api, "journal", &name, Some(version)).await
                        }
                        None => pending().await,
                    }
                };
                let follower = names.journal(last + 1);
                let followed = await_change(&api, "journal", &follower, None);
                tokio::select! {
                    grown = grown => grown,
                    followed = followed => followed,
                }
                .map_err(|error| failed(&error))?;
            }
        }
    }
}

fn next(found: &InCluster, standing: Standing, records: &[Record]) -> String {
    if standing.is_final() {
        format!("livmig-coord cleanup {}", found.name)
    } else {
        let ways_on = ways_on(&found.name, records);
        format!("if no coordinator works on it: {ways_on}")
    }
}

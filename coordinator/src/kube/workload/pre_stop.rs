//! The user's command before the stop: a database's checkpoint belongs before the downtime.

use ::kube::api::AttachParams;
use k8s_openapi::api::core::v1::Pod;
use livmig_engine::result::StepFailure;
use tokio::io::AsyncReadExt as _;

use crate::kube::api::cluster::{Cluster, call};

/// Bytes of a command's output that an error quotes.
const QUOTED_MAX: u64 = 2048;

/// Runs `command` by `/bin/sh -c` in the first container of the pod `name`.
///
/// # Errors
/// When it cannot be run, or ends with another exit code than 0.
pub async fn run(cluster: &Cluster, name: &str, command: &str) -> Result<(), StepFailure> {
    let pods = cluster.api::<Pod>();
    let parameters = AttachParams::default()
        .stdin(false)
        .stdout(false)
        .stderr(true);
    let what = format!("run the command before the stop in the pod {name}");
    let mut process = call(
        what.clone(),
        pods.exec(name, ["/bin/sh", "-c", command], &parameters),
    )
    .await?;
    let mut said = Vec::new();
    if let Some(stderr) = process.stderr() {
        // Read to its end, so that the command never waits for a reader; quoted in part.
        let mut stderr = stderr;
        let _ = (&mut stderr).take(QUOTED_MAX).read_to_end(&mut said).await;
        let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    }
    let status = match process.take_status() {
        Some(status) => status.await,
        None => None,
    };
    match status {
        Some(status) if status.status.as_deref() == Some("Success") => Ok(()),
        Some(status) => Err(StepFailure::permanent(format!(
            "Could not {what}: {} {}",
            status.message.unwrap_or_default(),
            String::from_utf8_lossy(&said).trim()
        ))
        .with_hint("mend --pre-stop-exec, or leave it out; then migrate again")),
        None => Err(StepFailure::permanent(format!(
            "Could not {what}: its end was not told"
        ))),
    }
}

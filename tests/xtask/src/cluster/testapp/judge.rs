//! What must be true after the migration, asked of the API server and of the app, not of livmig.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{
    super::{kubectl, process::await_value},
    app::{App, CLAIM, DESTINATION, NAME, POD, VERIFY_CLAIM},
    migration::Finished,
};

/// How long things may take that nothing but the cluster is to do.
const LIMIT: Duration = Duration::from_mins(1);

/// What was there before the migration.
pub(in crate::cluster) struct Before {
    /// The volume of the claim that is migrated.
    volume: String,
    /// Identity of the claim that is not, which holds its volume too.
    verify_claim: String,
    /// How far the app had counted.
    count: u64,
}

impl Before {
    /// Looks at it.
    pub(in crate::cluster) fn look(app: &App<'_>) -> Result<Self> {
        let claim = app.get(&["pvc", CLAIM])?;
        Ok(Self {
            volume: text(&claim, "/spec/volumeName").to_owned(),
            verify_claim: identity(&app.get(&["pvc", VERIFY_CLAIM])?),
            count: app.count()?,
        })
    }

    /// What is wrong after a migration that says it has completed.
    pub(in crate::cluster) fn judge(&self, app: &App<'_>) -> Result<Vec<String>> {
        let claim = app.get(&["pvc", CLAIM])?;
        let volume = text(&claim, "/spec/volumeName");
        let mut problems = of_claim(&claim, &self.volume);
        let volumes = app.get(&["pv", volume, &self.volume])?;
        if let [new, old] = items(&volumes) {
            problems.extend(of_volumes(new, old, text(&claim, "/metadata/uid")));
        }
        if identity(&app.get(&["pvc", VERIFY_CLAIM])?) != self.verify_claim {
            problems.push(format!("{VERIFY_CLAIM} is not the claim it was"));
        }
        problems.extend(of_workload(&app.get(&["statefulset", NAME])?));
        problems.extend(of_names("pods", &app.get(&["pods"])?, &[POD]));
        problems.extend(of_names(
            "claims",
            &app.get(&["pvc"])?,
            &[CLAIM, VERIFY_CLAIM],
        ));
        problems.extend(self.of_app(app)?);
        Ok(problems)
    }

    /// The app's own judgement, and whether it has gone on counting and does so now.
    fn of_app(&self, app: &App<'_>) -> Result<Option<String>> {
        let count = match app.check() {
            Ok(count) => count,
            Err(error) => return Ok(Some(format!("{error:#}"))),
        };
        if count <= self.count {
            return Ok(Some(format!(
                "the app has counted to {count}, and to {} before the migration",
                self.count
            )));
        }
        await_value("Another commit of the app", LIMIT, || {
            Ok((app.count()? > count).then_some(()))
        })?;
        Ok(None)
    }

    /// What is wrong after the clean-up: the old volume must be gone, and the app must not care.
    pub(in crate::cluster) fn judge_cleaned_up(&self, app: &App<'_>) -> Result<Vec<String>> {
        let volume = format!("pv/{}", self.volume);
        kubectl::run(
            app.layout,
            &["wait", "--for=delete", &volume, "--timeout=60s"],
        )
        .context("the old volume is still there after the clean-up")?;
        let marked = app.get(&[
            "pods,pvc,configmaps,secrets,leases",
            "-l",
            "livmig.io/migration",
        ])?;
        let left = of_names("objects of the migration", &marked, &[]);
        Ok(left.into_iter().chain(self.of_app(app)?).collect())
    }
}

/// What is wrong with how the migration ended and with what it says of itself.
pub(in crate::cluster) fn of_document(finished: &Finished) -> Vec<String> {
    let document = &finished.document;
    let mut problems = Vec::new();
    if !finished.status.success() {
        problems.push(format!(
            "livmig-coord migrate ended with {}",
            finished.status
        ));
    }
    expect(
        &mut problems,
        document,
        "the document",
        "/kind",
        "Migration",
    );
    expect(
        &mut problems,
        document,
        "the document",
        "/status/outcome",
        "completed",
    );
    for number in [
        "/status/downtimeSeconds",
        "/status/predictedDowntimeSeconds/expected",
    ] {
        if document.pointer(number).and_then(Value::as_f64).is_none() {
            problems.push(format!("the document has no number at {number}"));
        }
    }
    let list = |path: &str| document.pointer(path).and_then(Value::as_array).cloned();
    let passes = list("/status/passes").unwrap_or_default();
    let kinds: Vec<&str> = passes.iter().map(|pass| text(pass, "/kind")).collect();
    if !kinds.contains(&"live") || kinds.last() != Some(&"final") {
        problems.push(format!(
            "the passes were {kinds:?}, not live ones and a final one"
        ));
    }
    let volumes = list("/status/volumes").unwrap_or_default();
    let claims: Vec<&str> = volumes
        .iter()
        .map(|volume| text(volume, "/claim"))
        .collect();
    if claims != [CLAIM] {
        problems.push(format!(
            "the claims {claims:?} were migrated, not {CLAIM} alone"
        ));
    }
    for volume in &volumes {
        let [source, destination] =
            ["/verify/digestSource", "/verify/digestDestination"].map(|path| text(volume, path));
        if source.is_empty() || source != destination {
            problems.push(format!("the digests are {source:?} and {destination:?}"));
        }
        // Both file systems can be read past the page cache.
        if volume.pointer("/verify/onDevice") != Some(&true.into()) {
            problems.push("what was written was not read back from the device".to_owned());
        }
    }
    problems
}

fn of_claim(claim: &Value, old: &str) -> Vec<String> {
    let mut problems = Vec::new();
    expect(
        &mut problems,
        claim,
        CLAIM,
        "/spec/storageClassName",
        DESTINATION,
    );
    expect(&mut problems, claim, CLAIM, "/status/phase", "Bound");
    if text(claim, "/spec/volumeName") == old {
        problems.push(format!("{CLAIM} still has the old volume {old}"));
    }
    problems
}

fn of_volumes(new: &Value, old: &Value, claim: &str) -> Vec<String> {
    let mut problems = Vec::new();
    expect(
        &mut problems,
        new,
        "the new volume",
        "/status/phase",
        "Bound",
    );
    expect(
        &mut problems,
        new,
        "the new volume",
        "/spec/claimRef/uid",
        claim,
    );
    expect(
        &mut problems,
        old,
        "the old volume",
        "/status/phase",
        "Released",
    );
    let policy = "/spec/persistentVolumeReclaimPolicy";
    expect(&mut problems, old, "the old volume", policy, "Retain");
    problems
}

fn of_workload(stateful_set: &Value) -> Option<String> {
    let number = |path: &str| stateful_set.pointer(path).and_then(Value::as_u64);
    let (wanted, ready) = (number("/spec/replicas"), number("/status/readyReplicas"));
    (wanted != Some(1) || ready != Some(1))
        .then(|| format!("{NAME} wants {wanted:?} replicas and has {ready:?} that are ready"))
}

/// Whether `list` has exactly the `names`.
fn of_names(what: &str, list: &Value, names: &[&str]) -> Option<String> {
    let found: BTreeSet<&str> = items(list)
        .iter()
        .map(|item| text(item, "/metadata/name"))
        .collect();
    let expected = names.iter().copied().collect::<BTreeSet<_>>();
    (found != expected).then(|| format!("the {what} are {found:?}, expected were {expected:?}"))
}

fn expect(problems: &mut Vec<String>, object: &Value, what: &str, path: &str, wanted: &str) {
    let found = text(object, path);
    if found != wanted {
        problems.push(format!("{what} has {found:?} at {path}, not {wanted:?}"));
    }
}

fn identity(claim: &Value) -> String {
    format!(
        "{} {}",
        text(claim, "/metadata/uid"),
        text(claim, "/spec/volumeName")
    )
}

fn items(list: &Value) -> &[Value] {
    list.get("items")
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The text at `path`, empty when there is none.
pub(in crate::cluster) fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object
        .pointer(path)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

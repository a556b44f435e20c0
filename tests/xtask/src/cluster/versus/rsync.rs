//! What people would do without livmig: rsync in a pod that mounts both volumes, once while the
//! workload runs and once more after it has stopped.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::super::{
    images::GIT_IMAGE,
    kubectl,
    testapp::{
        app::{App, CLAIM, DESTINATION, NAME, number},
        judge::text,
    },
};

/// The pod and the claim that it copies to.
const POD: &str = "rsync";

/// What is run. Both ends being local, rsync sends whole files and trusts sizes and times; it
/// deletes nothing, which an exact copy would need.
pub(super) const COMMAND: &str = "rsync -aHAX --numeric-ids /src/ /dst/";

/// Copies, and says when that began, when rsync ended and when all of it was on the disk.
const COPY: &str = r#"
export LC_ALL=C
code=0
began=$EPOCHREALTIME
$1 || code=$?
copied=$EPOCHREALTIME
sync --file-system /dst
synced=$EPOCHREALTIME
printf '%s: %s\n' code "$code" began "$began" copied "$copied" synced "$synced"
"#;

/// What rsync ends with when a file vanished before it was read, as it may while an app writes.
const VANISHED: f64 = 24.0;

/// One run of rsync, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Copy {
    /// Until rsync ended.
    pub(super) seconds: f64,
    /// From then until everything was on the disk.
    pub(super) sync_seconds: f64,
}

/// Both runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copies {
    /// While the app ran.
    pub(super) first: Copy,
    /// After it had stopped.
    pub(super) second: Copy,
    /// Entries of which a comparison of all bytes afterwards says that they differ.
    pub(super) differing: usize,
}

/// Copies the running app's volume to a fresh one of the destination's class, stops the app, copies
/// again, removes the copy and starts the app.
pub(super) fn measure(app: &App<'_>) -> Result<Copies> {
    kubectl::create(app.layout, &objects(app))?;
    app.kubectl(&["wait", "--for=condition=Ready", "pod", POD, "--timeout=3m"])?;
    eprintln!("Copying with rsync while the app writes.");
    let (first, code) = copy(app)?;
    ensure!(
        code == 0.0 || code == VANISHED,
        "the first rsync ended with {code}"
    );
    app.stop()?;
    eprintln!("Copying again with rsync, now that the app has stopped.");
    let (second, code) = copy(app)?;
    ensure!(code == 0.0, "the second rsync ended with {code}");
    let compare = format!("{COMMAND} --checksum --dry-run --itemize-changes");
    let words = compare.split(' ');
    let differing = app.kubectl(&exec(words))?;
    eprint!("{differing}");
    remove(app)?;
    app.start_again()?;
    Ok(Copies {
        first,
        second,
        differing: differing.lines().count(),
    })
}

fn exec<'a>(words: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    ["exec", POD, "--"].into_iter().chain(words).collect()
}

/// Runs rsync; what it took, and its exit code.
fn copy(app: &App<'_>) -> Result<(Copy, f64)> {
    let said = app.kubectl(&exec(["bash", "-c", COPY, "copy", COMMAND]))?;
    times(&said).with_context(|| format!("the pod of rsync printed {said:?}"))
}

fn times(said: &str) -> Option<(Copy, f64)> {
    let [code, began, copied, synced] =
        ["code", "began", "copied", "synced"].map(|name| number::<f64>(said, name));
    let (copied, code) = (copied?, code?);
    let copy = Copy {
        seconds: copied - began?,
        sync_seconds: synced? - copied,
    };
    Some((copy, code))
}

/// Removes the pod, the claim and its volume: what is written behind would slow what comes next.
fn remove(app: &App<'_>) -> Result<()> {
    let claim = app.get(&["pvc", POD])?;
    let volume = format!("pv/{}", text(&claim, "/spec/volumeName"));
    let pod = format!("pod/{POD}");
    let claim = format!("pvc/{POD}");
    app.kubectl(&["delete", &pod, &claim, "--timeout=3m"])?;
    app.kubectl(&["wait", "--for=delete", &volume, "--timeout=3m"])?;
    Ok(())
}

/// The claim, and the pod on the app's node.
fn objects(app: &App<'_>) -> serde_json::Value {
    let mount = |name: &str, path: &str, read_only: bool| json!({"name": name, "mountPath": path, "readOnly": read_only});
    let volume = |name: &str, claim: &str| json!({"name": name, "persistentVolumeClaim": {"claimName": claim}});
    let beside = json!([{
        "labelSelector": {"matchLabels": {"app": NAME}},
        "topologyKey": "kubernetes.io/hostname",
    }]);
    let metadata = json!({"name": POD, "namespace": app.namespace()});
    let claim = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata,
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": DESTINATION,
            "resources": {"requests": {"storage": app.fill().volume().to_string()}},
        },
    });
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 0,
            "affinity": {"podAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": beside,
            }},
            "containers": [{
                "name": POD,
                "image": GIT_IMAGE,
                "imagePullPolicy": "IfNotPresent",
                "command": ["sleep", "infinity"],
                "volumeMounts": [mount("src", "/src", true), mount("dst", "/dst", false)],
            }],
            "volumes": [volume("src", CLAIM), volume("dst", POD)],
        },
    });
    json!({"apiVersion": "v1", "kind": "List", "items": [claim, pod]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rsync_takes_and_what_the_disk_takes_are_told_apart() {
        let said = "code: 24\nbegan: 100.25\ncopied: 102.5\nsynced: 103.0\n";
        let copy = Copy {
            seconds: 2.25,
            sync_seconds: 0.5,
        };
        assert_eq!(times(said), Some((copy, 24.0)));
        assert_eq!(times("code: 0\nbegan: 1.0\n"), None);
    }
}

//! The app in a namespace of its own: to start it, to ask it what it has, to judge that.

use std::{fs, path::Path, str::FromStr};

use anyhow::{Context as _, Result};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Value, json};

use super::{
    super::{cache::hex, kubectl, layout::Layout},
    fill::Fill,
};

/// The `StatefulSet`, its only pod, and the pod's claims.
pub(in crate::cluster) const NAME: &str = "testapp";
/// See [`NAME`].
pub(in crate::cluster) const POD: &str = "testapp-0";
/// The claim that is migrated.
pub(in crate::cluster) const CLAIM: &str = "data-testapp-0";
/// The class to go to.
pub(in crate::cluster) const DESTINATION: &str = "new";
/// The claim that is not.
pub(in crate::cluster) const VERIFY_CLAIM: &str = "testapp-verify";

/// How the image is told to run a part of the script.
const SCRIPT: [&str; 2] = ["bash", "/app/app.sh"];

/// The app in its namespace.
pub(in crate::cluster) struct App<'a> {
    /// The cluster.
    pub(in crate::cluster) layout: &'a Layout,
    namespace: String,
    fill: Fill,
}

impl<'a> App<'a> {
    /// Makes a namespace for an app that fills its volume with `fill`.
    pub(in crate::cluster) fn create(layout: &'a Layout, fill: Fill) -> Result<Self> {
        let mut random = [0; 4];
        SystemRandom::new()
            .fill(&mut random)
            .ok()
            .context("This machine gives no random numbers")?;
        let namespace = format!("livmig-example-{}", hex(&random));
        let object = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": namespace,
                // Whatever runs here, movers too, keeps to it.
                "labels": {"pod-security.kubernetes.io/enforce": "baseline"},
            },
        });
        kubectl::create(layout, &object)?;
        Ok(Self {
            layout,
            namespace,
            fill,
        })
    }

    /// Its namespace.
    pub(in crate::cluster) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// What it fills its volume with.
    pub(in crate::cluster) fn fill(&self) -> Fill {
        self.fill
    }

    /// Runs kubectl in the namespace; what it prints.
    pub(in crate::cluster) fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        kubectl::run(self.layout, &self.scoped(arguments))
    }

    /// The object or list that kubectl gets in the namespace.
    pub(in crate::cluster) fn get(&self, arguments: &[&str]) -> Result<Value> {
        let mut words = vec!["get"];
        words.extend(arguments);
        kubectl::json(self.layout, &self.scoped(&words))
    }

    fn scoped<'w>(&'w self, arguments: &[&'w str]) -> Vec<&'w str> {
        let mut words = vec!["-n", &self.namespace];
        words.extend(arguments);
        words
    }

    /// Deploys the manifests of `deploy/example` and waits until the app is ready: filled, and with
    /// a commit in both volumes.
    pub(in crate::cluster) fn start(&self) -> Result<()> {
        let example = crate::cargo::root()?.join("deploy/example");
        let folder = tempfile::tempdir()?;
        let at = folder.path().canonicalize()?;
        let overlay = overlay(&relative(&at, &example), &self.namespace, self.fill);
        fs::write(at.join("kustomization.yaml"), overlay.to_string())?;
        eprintln!(
            "Starting the app and filling its volume with {}.",
            self.fill
        );
        kubectl::run(self.layout, &["apply", "-k", &at.to_string_lossy()])?;
        let stateful_set = format!("statefulset/{NAME}");
        self.kubectl(&["rollout", "status", &stateful_set, "--timeout=15m"])?;
        Ok(())
    }

    /// Stops it and waits until its pod is gone.
    pub(in crate::cluster) fn stop(&self) -> Result<()> {
        let stateful_set = format!("statefulset/{NAME}");
        self.kubectl(&["scale", &stateful_set, "--replicas=0"])?;
        self.kubectl(&["wait", "--for=delete", "pod", POD, "--timeout=3m"])?;
        Ok(())
    }

    /// Starts it after a stop, and waits until it is ready.
    pub(in crate::cluster) fn start_again(&self) -> Result<()> {
        let stateful_set = format!("statefulset/{NAME}");
        self.kubectl(&["scale", &stateful_set, "--replicas=1"])?;
        self.kubectl(&["rollout", "status", &stateful_set, "--timeout=3m"])?;
        Ok(())
    }

    /// Reads every file that it filled its volume with, so that all are in the node's memory.
    pub(in crate::cluster) fn read_all(&self) -> Result<()> {
        let read = "find /data/fill -type f -exec cat {} + >/dev/null";
        self.kubectl(&["exec", POD, "--", "bash", "-c", read])?;
        Ok(())
    }

    /// Lets the app judge itself: git fsck of both repositories, both counters, every page and every
    /// small file. What it has counted to.
    pub(in crate::cluster) fn check(&self) -> Result<u64> {
        let said = self
            .script("check")
            .context("the app's own check says that not everything is there")?;
        number(&said, "data").context("the app's own check printed no counter")
    }

    /// What is committed to the migrated volume at this moment.
    pub(in crate::cluster) fn count(&self) -> Result<u64> {
        number(&self.script("counts")?, "data").context("the app printed no counter")
    }

    fn script(&self, part: &str) -> Result<String> {
        let [shell, script] = SCRIPT;
        self.kubectl(&["exec", POD, "--", shell, script, part])
    }
}

/// The kustomization that makes of the example at `example` what this cluster is to run.
fn overlay(example: &str, namespace: &str, fill: Fill) -> Value {
    let volume = fill.volume().to_string();
    let variables: Vec<Value> = fill
        .variables()
        .into_iter()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    let env = json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": NAME},
        "spec": {"template": {"spec": {"containers": [{
            "name": NAME,
            "env": variables,
        }]}}},
    });
    let request = |path: &str| json!([{"op": "replace", "path": path, "value": volume}]);
    let patch = |kind: &str, name: &str, patch: &Value| json!({"target": {"kind": kind, "name": name}, "patch": patch.to_string()});
    let template = request("/spec/volumeClaimTemplates/0/spec/resources/requests/storage");
    let claim = request("/spec/resources/requests/storage");
    json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": namespace,
        "resources": [example],
        "patches": [
            patch("StatefulSet", NAME, &env),
            patch("StatefulSet", NAME, &template),
            patch("PersistentVolumeClaim", VERIFY_CLAIM, &claim),
        ],
    })
}

/// The absolute path `to` as seen from the absolute folder `from`: kustomize takes no other.
fn relative(from: &Path, to: &Path) -> String {
    let up = "../".repeat(from.components().count() - 1);
    format!("{up}{}", to.to_string_lossy().trim_start_matches('/'))
}

/// The number in the line `name: number` of what a script printed.
pub(in crate::cluster) fn number<N: FromStr>(said: &str, name: &str) -> Option<N> {
    said.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_by_its_whole_name() {
        let said = "metadata: 1\ndata: 42\nverify: 41\n";
        assert_eq!(number::<u64>(said, "data"), Some(42));
        assert_eq!(number::<u64>(said, "verify"), Some(41));
        assert_eq!(number::<u64>(said, "veri"), None);
        assert_eq!(number::<u64>("data: \n", "data"), None);
    }

    #[test]
    fn the_example_is_found_from_anywhere() {
        let path = relative(Path::new("/tmp/a"), Path::new("/src/deploy/example"));
        assert_eq!(path, "../../src/deploy/example");
    }
}

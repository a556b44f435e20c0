//! A namespace with a workload that appends numbers to its volume, and says each one aloud once it
//! is on the disk.

use std::{
    env, fs,
    path::PathBuf,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use livmig_tests::{
    bins,
    run::{Finished, Running, run},
    scratch::Scratch,
};
use serde_json::Value;

use crate::place::{IMAGE, mover_image};
pub(crate) use crate::place::{NEW, OLD};

/// The nodes of one machine carry one workload at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// How long something that others do may take.
const PATIENCE: Duration = Duration::from_mins(3);

/// A namespace of the cluster.
pub(crate) struct Namespace {
    /// Its name.
    pub(crate) name: String,
    kubeconfig: PathBuf,
    kubectl: PathBuf,
    scratch: Scratch,
    _alone: MutexGuard<'static, ()>,
}

impl Namespace {
    /// A new one, called after the test.
    pub(crate) fn new(test: &str) -> Result<Self> {
        let variable = |name: &str| {
            env::var_os(name)
                .map(PathBuf::from)
                .with_context(|| format!("{name} does not say where the cluster is"))
        };
        let namespace = Self {
            _alone: ALONE.lock().unwrap_or_else(PoisonError::into_inner),
            name: format!("livmig-test-{test}-{}", std::process::id()),
            kubeconfig: variable("LIVMIG_KUBECONFIG")?,
            kubectl: variable("LIVMIG_KUBECTL")?,
            scratch: Scratch::new()?,
        };
        namespace
            .bare(&["create", "namespace", &namespace.name])?
            .expect(0)?;
        Ok(namespace)
    }

    fn bare(&self, arguments: &[&str]) -> Result<Finished> {
        run(Command::new(&self.kubectl)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(arguments))
    }

    /// Runs kubectl in the namespace.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<Finished> {
        let mut words = vec!["-n", &self.name];
        words.extend(arguments);
        self.bare(&words)
    }

    /// What kubectl gets in the namespace.
    pub(crate) fn get(&self, arguments: &[&str]) -> Result<Value> {
        let mut words = vec!["get", "-o", "json"];
        words.extend(arguments);
        self.kubectl(&words)?.expect(0)?.json()
    }

    /// A command of livmig-coord in the namespace.
    pub(crate) fn coord(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = bins::coord()?;
        command
            .args(arguments)
            .args(mover_image(arguments))
            .args(["-n", &self.name, "--kubeconfig"])
            .arg(&self.kubeconfig)
            .env("XDG_STATE_HOME", self.scratch.path().join("state"));
        Ok(command)
    }

    /// Applies a manifest.
    pub(crate) fn apply(&self, manifest: &str) -> Result<()> {
        let file = self.scratch.path().join("manifest.yaml");
        fs::write(&file, manifest)?;
        self.kubectl(&["apply", "-f", &file.display().to_string()])?
            .expect(0)
            .map(|_| ())
    }

    /// What the API server answers to a manifest that it is not to store.
    pub(crate) fn try_out(&self, manifest: &str) -> Result<Finished> {
        let file = self.scratch.path().join("trial.yaml");
        fs::write(&file, manifest)?;
        let file = file.display().to_string();
        self.kubectl(&["create", "--dry-run=server", "-o", "yaml", "-f", &file])
    }

    /// Starts `replicas` of the workload, each with a claim of [`OLD`], and waits until they run.
    pub(crate) fn start(&self, replicas: u32) -> Result<()> {
        self.apply(&workload(replicas))?;
        self.await_ready(replicas)
    }

    /// Waits until `replicas` pods are ready.
    pub(crate) fn await_ready(&self, replicas: u32) -> Result<()> {
        let wanted = format!("--for=jsonpath={{.status.readyReplicas}}={replicas}");
        self.kubectl(&["wait", &wanted, "statefulset/app", "--timeout=180s"])?
            .expect(0)
            .map(|_| ())
    }

    /// Listens to what the pod says until it ends.
    pub(crate) fn listen(&self, pod: &str) -> Result<Running> {
        Running::start(
            Command::new(&self.kubectl)
                .arg("--kubeconfig")
                .arg(&self.kubeconfig)
                .args(["-n", &self.name, "logs", "-f", pod]),
        )
    }

    /// The numbers on the pod's volume, which must follow each other from 1. The last one.
    pub(crate) fn numbers(&self, pod: &str) -> Result<u64> {
        let said = self
            .kubectl(&["exec", pod, "--", "cat", "/data/numbers"])?
            .expect(0)?;
        let mut last = 0;
        for line in said.stdout.lines() {
            let number: u64 = line.parse().with_context(|| format!("{line:?} in {pod}"))?;
            ensure!(number == last + 1, "{pod}: after {last} comes {number}");
            last = number;
        }
        Ok(last)
    }

    /// The volume's class that the claim is bound to.
    pub(crate) fn class(&self, claim: &str) -> Result<String> {
        let claim = self.get(&["pvc", claim])?;
        ensure!(claim["status"]["phase"] == "Bound", "not bound: {claim}");
        let class = claim["spec"]["storageClassName"].as_str();
        Ok(class.unwrap_or_default().to_owned())
    }

    /// Waits until the journal of the only migration holds `text`.
    pub(crate) fn await_record(&self, text: &str) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let journals = self.get(&["configmap", "-l", "livmig.io/role=journal"])?;
            let said = journals["items"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|part| {
                    part["data"]["records"]
                        .as_str()
                        .is_some_and(|all| all.contains(text))
                });
            if said {
                return Ok(());
            }
        }
        bail!("no migration of {} has recorded {text}", self.name)
    }

    /// Fails unless nothing of a migration is left but what its clean-up is for.
    pub(crate) fn expect_clean(&self) -> Result<()> {
        for kind in ["pod", "secret", "pvc", "networkpolicy"] {
            let left = self.get(&[kind, "-l", "livmig.io/migration"])?;
            let names: Vec<_> = left["items"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|object| object["metadata"]["name"].clone())
                .collect();
            ensure!(names.is_empty(), "left behind: {kind} {names:?}");
        }
        let leases = self.get(&["lease"])?;
        ensure!(leases["items"] == serde_json::json!([]), "{leases}");
        Ok(())
    }

    /// What there is, for whoever has to find out what went wrong.
    fn explain(&self) {
        for arguments in [
            [
                "get",
                "statefulset,pod,pvc,configmap,lease,event",
                "-o",
                "wide",
            ],
            ["get", "configmap", "-o", "yaml"],
        ] {
            if let Ok(said) = self.kubectl(&arguments) {
                eprintln!("--- kubectl {arguments:?}\n{}", said.stdout);
            }
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.explain();
        }
        // A claim that is still fenced would keep the namespace for ever.
        let _ = self.kubectl(&["delete", "statefulset", "--all", "--wait=false"]);
        if let Ok(claims) = self.get(&["pvc"]) {
            for claim in claims["items"].as_array().into_iter().flatten() {
                let name = claim["metadata"]["name"].as_str().unwrap_or_default();
                let none = r#"{"metadata":{"finalizers":null}}"#;
                let _ = self.kubectl(&["patch", "pvc", name, "--type=merge", "-p", none]);
            }
        }
        let _ = self.bare(&["delete", "namespace", &self.name, "--wait=false"]);
        let Ok(volumes) = self
            .bare(&["get", "pv", "-o", "json"])
            .and_then(|said| said.json())
        else {
            return;
        };
        for volume in volumes["items"].as_array().into_iter().flatten() {
            if volume["spec"]["claimRef"]["namespace"] == *self.name {
                let name = volume["metadata"]["name"].as_str().unwrap_or_default();
                let delete = r#"{"spec":{"persistentVolumeReclaimPolicy":"Delete"}}"#;
                let _ = self.bare(&["patch", "pv", name, "--type=merge", "-p", delete]);
            }
        }
    }
}

/// Runs `test` and explains a failure with the state of everything.
pub(crate) fn with_namespace(
    test: &str,
    body: impl FnOnce(&Namespace) -> Result<()>,
) -> Result<()> {
    let namespace = Namespace::new(test)?;
    let ended = body(&namespace);
    if ended.is_err() {
        namespace.explain();
    }
    ended
}

fn workload(replicas: u32) -> String {
    format!(
        r"
apiVersion: v1
kind: Service
metadata: {{name: app}}
spec: {{clusterIP: None, selector: {{app: app}}, ports: [{{port: 80}}]}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: app}}
spec:
  serviceName: app
  replicas: {replicas}
  podManagementPolicy: Parallel
  selector: {{matchLabels: {{app: app}}}}
  template:
    metadata: {{labels: {{app: app}}}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
      - name: app
        image: {IMAGE}
        imagePullPolicy: IfNotPresent
        command: [bash, -c]
        args:
        - |
          trap 'exit 0' TERM
          [ -e /data/other ] || head -c 5000000 /dev/urandom > /data/other
          number=$(tail -n 1 /data/numbers 2>/dev/null || echo 0)
          while true; do
            number=$((number + 1))
            echo $number >> /data/numbers && sync /data/numbers && echo $number
            sleep 0.02 & wait $!
          done
        volumeMounts: [{{name: data, mountPath: /data}}]
  volumeClaimTemplates:
  - metadata: {{name: data, labels: {{team: db}}}}
    spec:
      accessModes: [ReadWriteOnce]
      storageClassName: {OLD}
      resources: {{requests: {{storage: 400Mi}}}}
"
    )
}

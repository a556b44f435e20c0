//! A namespace that allows restricted pods only: the movers are no more than the workload.

use anyhow::{Result, ensure};
use livmig_tests::run::run;

use crate::{
    fixture::{NEW, Namespace, OLD, Workload, with_namespace},
    place::IMAGE,
};

/// Starts the workload as user 1000, with volumes that are given to group 2000.
fn start(namespace: &Namespace) -> Result<()> {
    let enforce = "pod-security.kubernetes.io/enforce=restricted";
    let name = namespace.name();
    namespace
        .kubectl(&["label", "namespace", name, enforce])?
        .expect(0)?;
    namespace.apply(&format!(
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
  selector: {{matchLabels: {{app: app}}}}
  template:
    metadata: {{labels: {{app: app}}}}
    spec:
      terminationGracePeriodSeconds: 10
      securityContext:
        runAsUser: 1000
        runAsGroup: 1000
        runAsNonRoot: true
        fsGroup: 2000
        fsGroupChangePolicy: OnRootMismatch
        seccompProfile: {{type: RuntimeDefault}}
      containers:
      - name: app
        image: {IMAGE}
        imagePullPolicy: IfNotPresent
        securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
        command: [bash, -c]
        args:
        - |
          trap 'exit 0' TERM
          cd /data
          [ -e done ] || {{
            mkdir -p folder/closed && echo one > folder/closed/file && chmod 400 folder/closed/file
            echo two > program && chmod 6750 program && ln program again && ln -s program link
            mkfifo fifo && touch -d 2001-02-03 folder && chmod 500 folder/closed && touch done
          }}
          number=$(tail -n 1 numbers 2>/dev/null || echo 0)
          while true; do
            number=$((number + 1))
            echo $number >> numbers && sync numbers && echo $number
            sleep 0.02 & wait $!
          done
        volumeMounts: [{{name: data, mountPath: /data}}]
  volumeClaimTemplates:
  - metadata: {{name: data}}
    spec:
      accessModes: [ReadWriteOnce]
      storageClassName: {OLD}
      resources: {{requests: {{storage: 400Mi}}}}
"
    ))?;
    namespace.await_ready(&Workload::stateful_set())
}

/// Owner, mode, kind and links of everything on the volume, and the times of what nobody writes;
/// not the root's time, which is its owner's to set.
fn entries(namespace: &Namespace) -> Result<String> {
    let list = "cd /data; stat -c '%n %F %a %u:%g' . numbers; \
                find * -not -path 'lost+found*' -not -name numbers -exec stat -c '%n %F %a %u:%g %h %y' {} + | sort";
    let said = namespace.kubectl(&["exec", "app-0", "--", "bash", "-c", list])?;
    Ok(said.expect(0)?.stdout)
}

#[test]
fn a_restricted_workload_moves_with_every_owner_mode_and_time() -> Result<()> {
    with_namespace("restricted", |namespace| {
        start(namespace)?;
        let before = entries(namespace)?;
        ensure!(
            before.contains("program regular file 6750 1000:2000 2"),
            "{before}"
        );
        let arguments = [
            "migrate",
            "sts/app",
            "--to-class",
            NEW,
            "--yes",
            "--verify",
            "full",
        ];
        run(&mut namespace.coord(&arguments)?)?.expect(0)?;
        namespace.await_ready(&Workload::stateful_set())?;
        ensure!(namespace.class("data-app-0")? == NEW);
        ensure!(namespace.numbers("app-0", "/data")? > 0);
        let after = entries(namespace)?;
        ensure!(after == before, "before:\n{before}\nafter:\n{after}");
        namespace.expect_clean()
    })
}

#[test]
fn what_only_root_may_give_away_is_named_and_never_stops_the_workload() -> Result<()> {
    with_namespace("foreign", |namespace| {
        start(namespace)?;
        let before = namespace.get(&["statefulset", "app"])?["metadata"]["generation"].clone();
        let node = namespace.get(&["pod", "app-0"])?["spec"]["nodeName"].clone();
        // Another user of the same group leaves a file.
        namespace.apply(&format!(
            r"
apiVersion: v1
kind: Pod
metadata: {{name: guest}}
spec:
  restartPolicy: Never
  nodeSelector: {{kubernetes.io/hostname: {node}}}
  securityContext:
    runAsUser: 1001
    runAsGroup: 2000
    runAsNonRoot: true
    fsGroup: 2000
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {{type: RuntimeDefault}}
  containers:
  - name: guest
    image: {IMAGE}
    imagePullPolicy: IfNotPresent
    securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
    command: [bash, -c, 'echo mine > /data/of-another']
    volumeMounts: [{{name: data, mountPath: /data}}]
  volumes: [{{name: data, persistentVolumeClaim: {{claimName: data-app-0}}}}]
"
        ))?;
        let ended = "--for=jsonpath={.status.phase}=Succeeded";
        namespace
            .kubectl(&["wait", ended, "pod/guest", "--timeout=120s"])?
            .expect(0)?;
        namespace.kubectl(&["delete", "pod", "guest"])?.expect(0)?;

        let arguments = ["migrate", "sts/app", "--to-class", NEW, "--yes"];
        run(&mut namespace.coord(&arguments)?)?.expect(1)?.says(&[
            "of-another",
            "1001:2000",
            "never",
        ])?;
        let after = namespace.get(&["statefulset", "app"])?;
        ensure!(after["metadata"]["generation"] == before, "{after}");
        ensure!(namespace.class("data-app-0")? == OLD);
        run(&mut namespace.coord(&["cleanup", "sts/app"])?)?.expect(0)?;
        namespace.expect_clean()
    })
}

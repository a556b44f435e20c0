//! What stands between the two movers of a pair.

use anyhow::{Context as _, Result, ensure};
use livmig_tests::run::{LIMIT, Running, run};
use serde_json::Value;

use crate::{
    admission::Policy,
    fixture::{Intent, NEW, Namespace, OLD, Workload, with_namespace},
};

/// A policy that lets no pod of the namespace talk to anybody.
const NOBODY: &str = r"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: nobody}
spec: {podSelector: {}, policyTypes: [Ingress, Egress]}
";

fn policies(namespace: &Namespace) -> Result<Vec<Value>> {
    let list = namespace.get(&["networkpolicy"])?;
    Ok(list["items"].as_array().context("no list")?.clone())
}

#[test]
fn where_policies_are_the_movers_have_two_as_long_as_they_run() -> Result<()> {
    with_namespace("policies", |namespace| {
        namespace.start(&Workload::stateful_set())?;
        namespace.apply(NOBODY)?;
        // Slow enough to be looked at.
        let arguments = [
            "migrate",
            "sts/app",
            "--to-class",
            NEW,
            "--yes",
            "--bandwidth",
            "512Ki",
        ];
        let coordinator = Running::start(&mut namespace.coord(&arguments)?)?;
        namespace.await_intent(Intent::LivePass)?;
        let made = policies(namespace)?;
        let selected: Vec<_> = made
            .iter()
            .filter_map(|policy| {
                policy["spec"]["podSelector"]["matchLabels"]["livmig.io/role"].as_str()
            })
            .collect();
        ensure!(selected == ["destination", "source"], "{made:#?}");
        // They are about the movers that run, and about no other pod.
        for role in selected {
            let pods = namespace.get(&["pod", "-l", &format!("livmig.io/role={role}")])?;
            ensure!(pods["items"].as_array().map(Vec::len) == Some(1), "{pods}");
        }
        coordinator.wait(LIMIT)?.expect(0)?;
        namespace.await_ready(&Workload::stateful_set())?;
        namespace.expect_clean()?;
        let left = policies(namespace)?;
        ensure!(
            left.len() == 1 && left[0]["metadata"]["name"] == "nobody",
            "{left:#?}"
        );
        Ok(())
    })
}

#[test]
fn a_blocked_way_between_the_movers_is_named_and_never_stops_the_workload() -> Result<()> {
    with_namespace("blocked", |namespace| {
        namespace.start(&Workload::stateful_set())?;
        let before = namespace.get(&["statefulset", "app"])?["metadata"]["generation"].clone();
        // Made to listen elsewhere, the destination never hears what comes to its data port: to
        // the source that is a network that drops it, and its own port still answers.
        let policy = Policy::new(
            namespace,
            "MutatingAdmissionPolicy",
            r#"  reinvocationPolicy: Never
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}
  matchConditions:
  - name: destination
    expression: object.metadata.?labels["livmig.io/role"].orValue("") == "destination"
  mutations:
  - patchType: JSONPatch
    jsonPatch:
      expression: >-
        [JSONPatch{op: "replace", path: "/spec/containers/0/args/" +
          string(object.spec.containers[0].args.map(one, one.startsWith("--data=")).indexOf(true)),
          value: "--data=0.0.0.0:7411"}]"#,
        )?;
        let pod = r"
apiVersion: v1
kind: Pod
metadata: {name: probe, labels: {livmig.io/role: destination}}
spec: {containers: [{name: one, image: elsewhere, args: [one, --data=0.0.0.0:7401]}]}
";
        policy.await_answer(pod, "--data=0.0.0.0:7411")?;
        let arguments = ["migrate", "sts/app", "--to-class", NEW, "--yes"];
        run(&mut namespace.coord(&arguments)?)?.expect(1)?.says(&[
            "-0-src on node node-",
            "-0-dst on node node-",
            ":7401",
            "UDP",
            "network policies",
            "never",
        ])?;
        let after = namespace.get(&["statefulset", "app"])?;
        ensure!(after["metadata"]["generation"] == before, "{after}");
        ensure!(namespace.class("data-app-0")? == OLD);
        drop(policy);
        run(&mut namespace.coord(&["cleanup", "sts/app"])?)?.expect(0)?;
        namespace.expect_clean()
    })
}

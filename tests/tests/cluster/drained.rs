//! The workload's node is drained in the middle of a live pass.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use livmig_tests::{
    require,
    run::{LIMIT, Running},
    skip::own_cluster,
};

use crate::fixture::{Intent, NEW, Namespace, Workload, with_namespace};

/// A node under drain; it takes pods again when this is dropped.
struct Drained<'a> {
    namespace: &'a Namespace,
    node: String,
}

impl<'a> Drained<'a> {
    /// Evicts everything from the node.
    fn drain(namespace: &'a Namespace, node: &str) -> Result<Self> {
        let drained = Self {
            namespace,
            node: node.to_owned(),
        };
        let arguments = [
            "drain",
            node,
            "--ignore-daemonsets",
            "--delete-emptydir-data",
            "--timeout=120s",
        ];
        namespace.kubectl(&arguments)?.expect(0)?;
        Ok(drained)
    }
}

impl Drop for Drained<'_> {
    fn drop(&mut self) {
        let _ = self.namespace.kubectl(&["uncordon", &self.node]);
    }
}

/// The node of the workload's only pod.
fn node(namespace: &Namespace) -> Result<String> {
    let pod = namespace.get(&["pod", "app-0"])?;
    let node = pod["spec"]["nodeName"].as_str();
    Ok(node.context("the pod has no node")?.to_owned())
}

#[test]
fn the_workload_moves_on_at_once_and_the_migration_follows_it() -> Result<()> {
    require!(own_cluster().map(|_| ()));
    with_namespace("drained", |namespace| {
        let workload = Workload::stateful_set();
        namespace.start(&workload)?;
        // Enough that a live pass takes a while.
        let fill = "head -c 250000000 /dev/urandom > /data/large && sync";
        namespace
            .kubectl(&["exec", "app-0", "--", "bash", "-c", fill])?
            .expect(0)?;

        let first = node(namespace)?;
        let began = Instant::now();
        let drained = Drained::drain(namespace, &first)?;
        namespace.await_ready(&workload)?;
        let without = began.elapsed();
        drop(drained);
        let second = node(namespace)?;
        ensure!(second != first, "the pod is on {first} still");

        let coordinator = Running::start(&mut namespace.migration(&workload, NEW)?)?;
        namespace.await_intent(Intent::LivePass)?;
        let began = Instant::now();
        let drained = Drained::drain(namespace, &second)?;
        namespace.await_ready(&workload)?;
        let with = began.elapsed();
        eprintln!(
            "Ready elsewhere after {:.1} s; without a migration after {:.1} s",
            with.as_secs_f64(),
            without.as_secs_f64()
        );

        let told = coordinator.wait(LIMIT)?.expect(0)?.json()?;
        ensure!(told["status"]["outcome"] == "completed", "{told}");
        namespace.expect_writing(&workload, NEW)?;
        ensure!(node(namespace)? == first, "it is on the drained node");
        drop(drained);
        namespace.expect_clean()
    })
}

//! `up`: a whole cluster, from whatever state things are in.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{
    cache::Cache,
    cgroups, control, down, images, kubectl,
    layout::{Layout, Machine},
    namespaces, network, node, packages, pki, process,
    programs::Programs,
    status, storage,
};

/// How long the drivers may take to register on the nodes.
const REGISTERED: Duration = Duration::from_mins(1);

/// Builds what is not built and starts the cluster, unless it already runs.
pub(super) fn run(layout: &Layout, sources: &Path) -> Result<()> {
    packages::ensure()?;
    let cache = Cache::open(&layout.cache)?;
    let built = Instant::now();
    let programs = Programs::build(&cache, sources)?;
    let archives = images::build(&cache, &programs)?;
    if built.elapsed() > Duration::from_secs(5) {
        println!("Built in {:.0?}.", built.elapsed());
    }

    let _alone = layout.lock()?;
    let started = Instant::now();
    let absent = status::absent(layout);
    if absent.is_empty() && layout.complete().exists() {
        println!("The cluster already runs.");
        say_how_to_use(layout);
        return Ok(());
    }
    if down::is_anything_there(layout) {
        if absent.is_empty() {
            println!("A cluster is there that never came up. Removing it first.");
        } else {
            println!(
                "A cluster is there of which these do not run: {}. Removing it first.",
                absent.join(", ")
            );
        }
        down::remove(layout)?;
    }
    let result = start(layout, &programs, &archives);
    result.with_context(|| {
        format!(
            "The cluster did not come up; what runs of it is left for a look at the logs below {}. \
             `cargo xtask cluster down` removes it",
            layout.run.display()
        )
    })?;
    println!("The cluster is up after {:.1?}.", started.elapsed());
    say_how_to_use(layout);
    Ok(())
}

fn start(layout: &Layout, programs: &Programs, archives: &[PathBuf]) -> Result<()> {
    for machine in Machine::ALL {
        fs::create_dir_all(layout.run_of(machine).join("log"))?;
        fs::create_dir_all(layout.data_of(machine))?;
    }
    programs.link(layout)?;
    cgroups::make(&layout.name)?;
    for node in Machine::NODES {
        cgroups::make(&layout.namespace(node))?;
    }
    let link = network::make(layout)?;
    pki::make(layout, link)?;
    let [control, node_a, node_b] = Machine::ALL.map(|machine| namespaces::boot(layout, machine));
    let (control, nodes) = (control?, [node_a?, node_b?]);

    for node in &nodes {
        node::start_runtime(layout, node)?;
    }
    thread::scope(|scope| {
        // Unpacking images takes the nodes about as long as everything else takes.
        let imports: Vec<_> = nodes
            .iter()
            .map(|node| {
                scope.spawn(|| {
                    archives
                        .iter()
                        .try_for_each(|archive| node::import(layout, node, archive))
                })
            })
            .collect();
        control::start_api(layout, &control)?;
        control::start_controllers(layout, &control)?;
        for node in &nodes {
            node::start(layout, node)?;
        }
        storage::declare(layout)?;
        storage::start_control(layout, &control)?;
        for node in &nodes {
            storage::start_node(layout, node)?;
        }
        await_nodes(layout)?;
        for import in imports {
            match import.join() {
                Ok(result) => result?,
                Err(_panic) => bail!("An import of images panicked"),
            }
        }
        Ok(())
    })?;
    let absent = status::absent(layout);
    if !absent.is_empty() {
        bail!("These ended again: {}", absent.join(", "));
    }
    fs::write(layout.complete(), "")?;
    Ok(())
}

/// Waits until both nodes are ready and know their drivers, and pods can be made.
fn await_nodes(layout: &Layout) -> Result<()> {
    let wait = |condition: &str, objects: &[&str]| {
        let mut arguments = vec!["wait", "--timeout=60s", condition];
        arguments.extend(objects);
        kubectl::run(layout, &arguments).map(|_output| ())
    };
    let nodes = ["node/node-a", "node/node-b"];
    let drivers = ["csinode/node-a", "csinode/node-b"];
    // One at a time: of several that are all absent, kubectl says so and gives up.
    for object in nodes.iter().chain(&drivers) {
        wait("--for=create", &[object])?;
    }
    wait("--for=condition=Ready", &nodes)?;
    // Not by `kubectl wait`, which fails where a node has no list of drivers yet.
    process::await_value("The registration of the drivers", REGISTERED, || {
        let nodes = kubectl::json(layout, &["get", "csinode/node-a", "csinode/node-b"])?;
        Ok(knows_drivers(&nodes).then_some(()))
    })?;
    wait("--for=create", &["serviceaccount/default"])
}

/// Whether each of some `CSINode`s has both drivers.
fn knows_drivers(nodes: &Value) -> bool {
    let knows = |node: &Value, wanted: &str| {
        let drivers = node.pointer("/spec/drivers").and_then(Value::as_array);
        let mut names = drivers
            .into_iter()
            .flatten()
            .filter_map(|driver| driver.get("name"));
        names.any(|name| name == wanted)
    };
    let nodes = nodes.get("items").and_then(Value::as_array);
    nodes.is_some_and(|nodes| {
        [storage::OLD, storage::NEW]
            .iter()
            .all(|driver| nodes.iter().all(|node| knows(node, driver)))
    })
}

fn say_how_to_use(layout: &Layout) {
    println!(
        "kubeconfig: {}\nTry `cargo xtask cluster kubectl get nodes,storageclasses`, or \
         `export KUBECONFIG={}`.",
        layout.kubeconfig().display(),
        layout.kubeconfig().display()
    );
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_knows_its_drivers_once_both_are_listed() {
        let node = |drivers: Value| json!({"spec": {"drivers": drivers}});
        let [old, new] = [storage::OLD, storage::NEW].map(|name| json!({"name": name}));
        let both = node(json!([new, old]));
        assert!(knows_drivers(&json!({"items": [both, both]})));
        for other in [
            node(Value::Null),
            node(json!([])),
            node(json!([old])),
            json!({"spec": {}}),
        ] {
            assert!(!knows_drivers(&json!({"items": [both, other]})), "{other}");
        }
    }
}

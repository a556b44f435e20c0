//! `status`: what runs and what does not.

use anyhow::{Result, bail};

use super::{
    control, down, kubectl,
    layout::{Layout, Machine},
    namespaces, node,
    process::Process,
    storage,
};

/// One piece of the cluster, and its process when it runs.
struct Row {
    machine: Machine,
    piece: &'static str,
    process: Option<Process>,
}

/// Prints a line a piece and what the API says of the nodes. Fails when something does not run.
pub(super) fn run(layout: &Layout) -> Result<()> {
    let rows = rows(layout);
    if rows.iter().all(|row| row.process.is_none()) {
        if down::is_anything_there(layout) {
            bail!(
                "No part of the cluster runs, but something of it is there: \
                 `cargo xtask cluster down` removes it, `up` starts a new one"
            );
        }
        bail!("There is no cluster: start one with `cargo xtask cluster up`");
    }
    println!("{:<9}{:<26}{:>8}{:>9}", "MACHINE", "PIECE", "PID", "MEMORY");
    let mut total = 0;
    for row in &rows {
        let machine = row.machine.name();
        match &row.process {
            Some(process) => {
                let resident = process.resident();
                total += resident;
                let memory = format!("{} MiB", resident / 1024);
                println!("{machine:<9}{:<26}{:>8}{memory:>9}", row.piece, process.pid);
            }
            None => println!("{machine:<9}{:<26}{:>8}{:>9}", row.piece, "-", "ended"),
        }
    }
    println!("Together {} MiB.", total / 1024);
    println!("kubeconfig: {}", layout.kubeconfig().display());
    print!("{}", kubectl::run(layout, &["get", "nodes"])?);
    let absent = absent(layout);
    if !absent.is_empty() {
        bail!(
            "These do not run: {}. Their logs lie below {}",
            absent.join(", "),
            layout.run.display()
        );
    }
    Ok(())
}

/// What should run and does not.
pub(super) fn absent(layout: &Layout) -> Vec<String> {
    rows(layout)
        .into_iter()
        .filter(|row| row.process.is_none())
        .map(|row| format!("{} on {}", row.piece, row.machine.name()))
        .collect()
}

fn rows(layout: &Layout) -> Vec<Row> {
    Machine::ALL
        .into_iter()
        .flat_map(|machine| {
            let processes = namespaces::find(layout, machine)
                .map(|running| running.processes())
                .unwrap_or_default();
            pieces(machine).into_iter().map(move |piece| Row {
                machine,
                piece,
                process: processes
                    .iter()
                    .find(|process| process.name == piece)
                    .cloned(),
            })
        })
        .collect()
}

/// What runs on `machine`.
fn pieces(machine: Machine) -> Vec<&'static str> {
    match machine {
        Machine::Control => [&control::PIECES[..], &storage::CONTROL_PIECES[..]].concat(),
        Machine::NodeA | Machine::NodeB => [&node::PIECES[..], &storage::NODE_PIECES[..]].concat(),
    }
}

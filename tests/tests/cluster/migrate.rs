//! Migrations that nothing disturbs.

use anyhow::{Context as _, Result, ensure};
use livmig_tests::{require, run::run, skip::own_cluster};

use crate::fixture::{NEW, OLD, Workload, with_namespace};

/// Moves the workload to the class.
fn moves(test: &str, workload: &Workload, class: &str) -> Result<()> {
    with_namespace(test, |namespace| {
        namespace.start(workload)?;
        run(&mut namespace.migration(workload, class)?)?.expect(0)?;
        namespace.expect_completed(workload, class)
    })
}

#[test]
fn a_stateful_set_moves_with_every_acknowledged_write_and_back() -> Result<()> {
    with_namespace("moves", |namespace| {
        let workload = Workload::stateful_set();
        namespace.start(&workload)?;
        let told = run(&mut namespace.migration(&workload, NEW)?)?;
        let told = told.expect(0)?.json()?;

        let status = &told["status"];
        ensure!(status["outcome"] == "completed", "{status}");
        let volume = &status["volumes"][0];
        let verify = &volume["verify"];
        ensure!(
            volume["claim"] == "data-app-0"
                && verify["digestSource"] == verify["digestDestination"]
                && verify["digestSource"]
                    .as_str()
                    .is_some_and(|digest| digest.len() == 64),
            "{volume}"
        );
        let passes = status["passes"].as_array().context("passes")?;
        ensure!(passes.len() >= 3, "{passes:?}");
        ensure!(
            passes.last().is_some_and(|pass| pass["kind"] == "final"),
            "{passes:?}"
        );
        ensure!(status["downtimeSeconds"].as_f64().is_some(), "{status}");
        let claim = namespace.get(&["pvc", "data-app-0"])?;
        ensure!(claim["metadata"]["labels"]["team"] == "db", "{claim}");
        ensure!(claim["spec"]["storageClassName"] == NEW, "{claim}");
        namespace.expect_completed(&workload, NEW)?;

        // And back, by the same name, to a class whose driver attaches.
        let mut back = namespace.migration(&workload, OLD)?;
        run(back.arg("--update-template"))?.expect(0)?;
        namespace.expect_completed(&workload, OLD)
    })
}

#[test]
fn a_deployment_s_claim_moves() -> Result<()> {
    moves("deployment", &Workload::deployment(), NEW)
}

#[test]
fn all_claims_of_ordered_replicas_move_together() -> Result<()> {
    let workload = Workload::stateful_set()
        .replicas(3)
        .volumes(&["data", "log"])
        .one_by_one();
    moves("together", &workload, NEW)
}

#[test]
fn a_folder_of_a_node_moves_to_a_volume() -> Result<()> {
    require!(own_cluster().map(|_| ()));
    moves("folder", &Workload::stateful_set().class("local-path"), NEW)
}

#[test]
fn a_class_may_bind_at_once() -> Result<()> {
    require!(own_cluster().map(|_| ()));
    moves("at-once", &Workload::stateful_set(), "new-immediate")
}

#[test]
fn a_class_may_bind_at_once_and_attach() -> Result<()> {
    require!(own_cluster().map(|_| ()));
    let workload = Workload::deployment().class("new-immediate");
    moves("attach", &workload, "old-immediate")
}

#[test]
fn a_claim_that_is_kept_to_the_letter_gets_the_new_volume_after_the_last_command() -> Result<()> {
    with_namespace("kept", |namespace| {
        let workload = Workload::stateful_set();
        namespace.start(&workload)?;
        let mut migration = namespace.migration(&workload, NEW)?;
        migration.args(["--keep-claim-spec", "--pre-stop-exec", "touch /data/last"]);
        run(&mut migration)?.expect(0)?;
        let claim = namespace.get(&["pvc", "data-app-0"])?;
        ensure!(claim["spec"]["storageClassName"] == OLD, "{claim}");
        namespace
            .kubectl(&["exec", "app-0", "--", "test", "-e", "/data/last"])?
            .expect(0)?;
        namespace.expect_completed(&workload, NEW)
    })
}

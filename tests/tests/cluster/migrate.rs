//! Migrations that nothing disturbs.

use anyhow::{Context as _, Result, ensure};
use livmig_tests::run::{LIMIT, run};

use crate::fixture::{NEW, OLD, with_namespace};

#[test]
fn a_stateful_set_moves_with_every_acknowledged_write() -> Result<()> {
    with_namespace("moves", |namespace| {
        namespace.start(1)?;
        let heard = namespace.listen("app-0")?;
        let arguments = [
            "migrate",
            "sts/app",
            "--to-class",
            NEW,
            "--yes",
            "-o",
            "json",
        ];
        let told = run(&mut namespace.coord(&arguments)?)?.expect(0)?.json()?;

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

        namespace.await_ready(1)?;
        let acknowledged = heard.wait(LIMIT)?.stdout;
        let acknowledged: u64 = acknowledged.lines().last().context("silent")?.parse()?;
        ensure!(
            namespace.numbers("app-0")? >= acknowledged,
            "lost: {acknowledged} was promised"
        );
        ensure!(namespace.class("data-app-0")? == NEW);
        let claim = namespace.get(&["pvc", "data-app-0"])?;
        ensure!(claim["metadata"]["labels"]["team"] == "db", "{claim}");
        let old = volume["source"].as_str().context("source")?;
        let old = namespace.get(&["pv", old])?;
        ensure!(
            old["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
                && old["status"]["phase"] == "Released",
            "{old}"
        );
        namespace.expect_clean()?;

        // And back, by the same name, to a class whose driver attaches.
        let arguments = [
            "migrate",
            "sts/app",
            "--to-class",
            OLD,
            "--yes",
            "--update-template",
        ];
        run(&mut namespace.coord(&arguments)?)?.expect(0)?;
        namespace.await_ready(1)?;
        ensure!(namespace.numbers("app-0")? >= acknowledged);
        ensure!(namespace.class("data-app-0")? == OLD);

        let name = told["metadata"]["name"].as_str().context("name")?;
        let arguments = ["cleanup", name, "--delete-old-volumes", "--confirm", name];
        run(&mut namespace.coord(&arguments)?)?.expect(0)?;
        let gone = namespace.kubectl(&["get", "configmap", &format!("livmig-{name}")])?;
        gone.says(&["not found"])
    })
}

#[test]
fn the_claims_of_all_replicas_move_together() -> Result<()> {
    with_namespace("together", |namespace| {
        namespace.start(3)?;
        let arguments = ["migrate", "sts/app", "--to-class", NEW, "--yes"];
        run(&mut namespace.coord(&arguments)?)?.expect(0)?;
        namespace.await_ready(3)?;
        for ordinal in 0..3 {
            ensure!(namespace.class(&format!("data-app-{ordinal}"))? == NEW);
            ensure!(namespace.numbers(&format!("app-{ordinal}"))? > 0);
        }
        namespace.expect_clean()
    })
}

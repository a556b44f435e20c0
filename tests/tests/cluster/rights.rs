//! A migration by somebody who has the rights of `deploy/rbac.yaml` and no others.

use anyhow::{Result, ensure};
use livmig_tests::run::run;

use crate::fixture::{NEW, Workload, with_namespace};

#[test]
fn the_rights_of_the_manifest_are_enough() -> Result<()> {
    with_namespace("rights", |namespace| {
        let workload = Workload::stateful_set();
        namespace.start(&workload)?;
        let name = namespace.name();
        namespace.apply(include_str!("../../../deploy/rbac.yaml"))?;
        let account = format!("--serviceaccount={name}:livmig");
        let cluster_wide = format!("livmig-{name}");
        for role in ["livmig", "livmig-update-template"] {
            let role_is = format!("--role={role}");
            namespace
                .kubectl(&["create", "rolebinding", role, &role_is, &account])?
                .expect(0)?;
        }
        let binding = ["clusterrolebinding", &cluster_wide];
        namespace
            .kubectl(&[
                "create",
                binding[0],
                binding[1],
                "--clusterrole=livmig",
                &account,
            ])?
            .expect(0)?;

        let user = format!("system:serviceaccount:{name}:livmig");
        let migrated = (|| {
            let there = [
                "migrate",
                "sts/app",
                "--to-class",
                NEW,
                "--yes",
                "--as",
                &user,
            ];
            let mut there = there.to_vec();
            there.push("--update-template");
            run(&mut namespace.coord(&there)?)?.expect(0)?;
            run(&mut namespace.coord(&["cleanup", "sts/app", "--as", &user])?)?.expect(0)
        })();
        namespace.kubectl(&["delete", binding[0], binding[1]])?;
        migrated?;
        namespace.expect_writing(&workload, NEW)?;
        let set = namespace.get(&["sts", "app"])?;
        let class = &set["spec"]["volumeClaimTemplates"][0]["spec"]["storageClassName"];
        ensure!(class == NEW, "{set}");
        namespace.expect_clean()
    })
}

//! The marks of another migration.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::kube::{
    api::names,
    preflight::{context::CheckContext, finding::Finding},
};

pub(crate) fn check(case: &CheckContext<'_>) -> Vec<Finding> {
    let mut objects = vec![(case.object(), case.workload.metadata())];
    for one in &case.moves {
        objects.push((one.object(), &one.claim.metadata));
        if let Some(volume) = one.volume {
            let name = volume.metadata.name.as_deref().unwrap_or_default();
            objects.push((format!("persistentvolume/{name}"), &volume.metadata));
        }
    }
    let own = case.wish.uid.to_string();
    objects
        .into_iter()
        .filter_map(|(object, metadata)| {
            let uid = mark(metadata, names::MIGRATION);
            let fenced = metadata
                .finalizers
                .iter()
                .flatten()
                .any(|finalizer| finalizer == names::FENCE);
            if uid == Some(&own) || uid.is_none() && !fenced {
                return None;
            }
            let name = mark(metadata, names::NAME).or(uid);
            let (name, hint) = match name {
                Some(name) => (
                    format!(" {name}"),
                    format!(
                        "livmig-coord status {name}, then `livmig-coord resume {name}` or \
                         `livmig-coord rollback {name}`"
                    ),
                ),
                None => (String::new(), "livmig-coord get".to_owned()),
            };
            Some(
                Finding::error(object, format!("Another migration{name} has it in hand"))
                    .hint(hint),
            )
        })
        .collect()
}

fn mark<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a String> {
    let of =
        |marks: &'a Option<std::collections::BTreeMap<String, String>>| marks.as_ref()?.get(key);
    of(&metadata.annotations).or_else(|| of(&metadata.labels))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::preflight::{finding::Severity, fixture};

    #[test]
    fn marks_of_another_migration_are_refused_wherever_they_are() {
        assert_eq!(
            fixture::found(check, &fixture::view(), &fixture::wish()),
            []
        );
        let mark = json!({"metadata": {"annotations":
            {"livmig.io/migration": "other", "livmig.io/name": "db-1234"}}});
        let label = json!({"metadata": {"labels": {"livmig.io/migration": "other"}}});
        let mut view = fixture::view();
        fixture::patch_workload(&mut view, mark.clone());
        let finding = fixture::finds(check, &view, Severity::Error, "migration db-1234");
        assert!(finding.hint.contains("resume db-1234"), "{finding:?}");
        let mut view = fixture::view();
        fixture::patch_claim(&mut view, mark);
        fixture::finds(check, &view, Severity::Error, "migration db-1234");
        let mut view = fixture::view();
        fixture::patch_volume(&mut view, label);
        fixture::finds(check, &view, Severity::Error, "migration other");
        let mut view = fixture::view();
        fixture::patch_claim(
            &mut view,
            json!({"metadata": {"finalizers": [names::FENCE]}}),
        );
        fixture::finds(check, &view, Severity::Error, "Another migration has it");
    }

    #[test]
    fn its_own_marks_are_no_obstacle() {
        let wish = fixture::wish();
        let mut view = fixture::view();
        let own =
            json!({"metadata": {"annotations": {"livmig.io/migration": wish.uid.to_string()}}});
        fixture::patch_claim(&mut view, own);
        assert_eq!(fixture::found(check, &view, &wish), []);
    }
}

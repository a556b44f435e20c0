//! The end: what is there when something failed, and the removal of everything.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use super::{
    super::{kubectl, process::await_value},
    app::App,
};

/// How long removal may take: pods end gracefully, and each volume has to be unmounted.
const LIMIT: Duration = Duration::from_mins(3);

/// Prints the state of all objects, the events and the ends of the logs.
pub(in crate::cluster) fn say_what_is_there(app: &App<'_>) {
    let kinds = "statefulsets,pods,pvc,configmaps,leases,networkpolicies";
    for words in [
        vec!["get", kinds, "-o", "wide"],
        vec!["get", "pv,volumeattachments", "-o", "wide"],
        vec!["describe", "pods,pvc"],
        vec!["get", "events", "--sort-by=.metadata.creationTimestamp"],
    ] {
        say(app, &words);
    }
    let pods = app.kubectl(&["get", "pods", "-o", "name"]);
    for pod in pods.unwrap_or_default().lines() {
        say(app, &["logs", pod, "--all-containers", "--tail=100"]);
        say(
            app,
            &["logs", pod, "--all-containers", "--previous", "--tail=100"],
        );
    }
}

fn say(app: &App<'_>, words: &[&str]) {
    eprintln!("--- kubectl -n {} {}", app.namespace(), words.join(" "));
    match app.kubectl(words) {
        Ok(said) => eprint!("{said}"),
        Err(error) => eprintln!("{error:#}"),
    }
}

/// Says how to end what is kept.
pub(in crate::cluster) fn say_how_to_remove(app: &App<'_>) {
    eprintln!(
        "Kept. `cargo xtask cluster kubectl delete namespace {}` removes it, but for volumes whose \
         policy is Retain.",
        app.namespace()
    );
}

/// Removes the namespace and every volume that was made for it, and waits until they are gone.
pub(in crate::cluster) fn remove(app: &App<'_>) -> Result<()> {
    let namespace = app.namespace();
    let mine = |layout| -> Result<Vec<String>> {
        let volumes = kubectl::json(layout, &["get", "pv"])?;
        Ok(volumes_of(&volumes, namespace))
    };
    // First whatever uses the volumes: nothing below is to take one away from under it.
    app.kubectl(&["delete", "statefulsets,pods", "--all", "--timeout=180s"])?;
    // A migration that did not end may have fenced a claim, and has volumes kept.
    for claim in fenced(&app.get(&["pvc"])?) {
        app.kubectl(&[
            "patch",
            "pvc",
            &claim,
            "-p",
            r#"{"metadata":{"finalizers":null}}"#,
        ])?;
    }
    let policy = r#"{"spec":{"persistentVolumeReclaimPolicy":"Delete"}}"#;
    for volume in mine(app.layout)? {
        kubectl::run(app.layout, &["patch", "pv", &volume, "-p", policy])?;
    }
    kubectl::run(
        app.layout,
        &["delete", "namespace", namespace, "--timeout=180s"],
    )?;
    await_value("The removal of the example's volumes", LIMIT, || {
        Ok(mine(app.layout)?.is_empty().then_some(()))
    })
}

/// The claims of the list `claims` that livmig keeps from being removed.
fn fenced(claims: &Value) -> Vec<String> {
    let is_fenced = |claim: &Value| {
        let finalizers = claim.pointer("/metadata/finalizers");
        let finalizers = finalizers.and_then(Value::as_array).into_iter().flatten();
        finalizers
            .filter_map(Value::as_str)
            .any(|name| name.starts_with("livmig.io/"))
    };
    names_of(claims, is_fenced)
}

/// The volumes of the list `volumes` whose claim is or was in `namespace`.
fn volumes_of(volumes: &Value, namespace: &str) -> Vec<String> {
    let is_mine = |volume: &Value| {
        volume
            .pointer("/spec/claimRef/namespace")
            .and_then(Value::as_str)
            == Some(namespace)
    };
    names_of(volumes, is_mine)
}

/// The names of those of `list` that are `wanted`.
fn names_of(list: &Value, wanted: impl Fn(&Value) -> bool) -> Vec<String> {
    let items = list.get("items").and_then(Value::as_array);
    let name = |item: &Value| item.pointer("/metadata/name")?.as_str().map(str::to_owned);
    items
        .into_iter()
        .flatten()
        .filter(|item| wanted(item))
        .filter_map(name)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_ours_is_touched() {
        let claim = |name: &str, finalizers: &[&str]| json!({"metadata": {"name": name, "finalizers": finalizers}});
        let claims = json!({"items": [
            claim("a", &["kubernetes.io/pvc-protection"]),
            claim("b", &["kubernetes.io/pvc-protection", "livmig.io/fence"]),
            {"metadata": {"name": "c"}},
        ]});
        assert_eq!(fenced(&claims), ["b"]);
        let volume = |name: &str, namespace: &str| {
            json!({
                "metadata": {"name": name},
                "spec": {"claimRef": {"namespace": namespace}},
            })
        };
        let volumes = json!({"items": [
            volume("x", "mine"),
            volume("y", "mine-too"),
            {"metadata": {"name": "z"}, "spec": {}},
        ]});
        assert_eq!(volumes_of(&volumes, "mine"), ["x"]);
    }
}

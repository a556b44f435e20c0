//! Waiting for an object to become what is needed: read once, then watched, never polled.

use std::{fmt::Debug, time::Duration};

use ::kube::{
    Api,
    api::{ListParams, Resource, WatchEvent, WatchParams},
};
use futures::{StreamExt as _, pin_mut};
use serde::de::DeserializeOwned;

use super::cluster::{ClusterError, call};

/// How long one watch lasts before it is asked for anew, in seconds.
pub(crate) const WATCH_SECONDS: u32 = 240;

/// The pause before a broken watch is asked for anew: a server that is being restarted is not
/// helped by haste.
pub(crate) const PAUSE: Duration = Duration::from_millis(100);

/// Waits until `seen` finds what it looks for in the object `name`, of which it gets each state
/// that can be had, and none while there is no such object.
///
/// # Errors
/// When the object cannot be read or watched.
pub async fn await_object<K, T>(
    api: &Api<K>,
    kind: &str,
    name: &str,
    seen: impl FnMut(Option<&K>) -> Option<T>,
) -> Result<T, ClusterError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    await_object_since(api, kind, name, None, seen).await
}

/// The same, but only in what the object has become after the version `since`, which somebody has
/// looked at: nothing is read for it.
async fn await_object_since<K, T>(
    api: &Api<K>,
    kind: &str,
    name: &str,
    mut since: Option<String>,
    mut seen: impl FnMut(Option<&K>) -> Option<T>,
) -> Result<T, ClusterError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let selector = format!("metadata.name={name}");
    loop {
        let given = since.take();
        let was_given = given.is_some();
        let version = if let Some(version) = given {
            version
        } else {
            // A list and not a get: it says from which version on to watch, also when there is none.
            let list = call(
                format!("read the {kind} {name}"),
                api.list(&ListParams::default().fields(&selector)),
            )
            .await?;
            if let Some(found) = seen(list.items.first()) {
                return Ok(found);
            }
            list.metadata.resource_version.unwrap_or_default()
        };
        let parameters = WatchParams::default()
            .fields(&selector)
            .timeout(WATCH_SECONDS);
        let events = call(
            format!("watch the {kind} {name}"),
            api.watch(&parameters, &version),
        )
        .await;
        let events = match events {
            // The server knows that version no longer, or not yet: read again.
            Err(error) if was_given && matches!(error.code(), Some(410 | 504)) => continue,
            events => events?,
        };
        pin_mut!(events);
        while let Some(event) = events.next().await {
            let found = match event {
                Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => seen(Some(&object)),
                Ok(WatchEvent::Deleted(_)) => seen(None),
                Ok(WatchEvent::Bookmark(_)) => None,
                // Too old, or broken: read again.
                Ok(WatchEvent::Error(_)) | Err(_) => break,
            };
            if let Some(found) = found {
                return Ok(found);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits until the object `name` is no longer as it was at `version` (none: not there).
///
/// # Errors
/// When the object cannot be read or watched.
pub async fn await_change<K>(
    api: &Api<K>,
    kind: &str,
    name: &str,
    version: Option<&str>,
) -> Result<(), ClusterError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let since = version.map(str::to_owned);
    await_object_since(api, kind, name, since, |object| {
        let now = object.and_then(|object| object.meta().resource_version.as_deref());
        (now != version).then_some(())
    })
    .await
}

/// Waits until `telling` says something else of the object `name` than of what was `read` (none:
/// it was not there), and gives it as it is then. What else changes of it is not told.
///
/// # Errors
/// When the object cannot be read or watched.
pub async fn await_telling_change<K, T: PartialEq>(
    api: &Api<K>,
    kind: &str,
    name: &str,
    read: Option<&K>,
    telling: impl Fn(&K) -> T,
) -> Result<Option<K>, ClusterError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let since = read.and_then(|object| object.meta().resource_version.clone());
    let before = read.map(&telling);
    await_object_since(api, kind, name, since, |object| {
        (object.map(&telling) != before).then(|| object.cloned())
    })
    .await
}

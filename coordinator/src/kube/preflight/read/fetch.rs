//! Reading objects: those that must be there, and those that may be out of reach.

use std::fmt::Debug;

use ::kube::{Api, api::ListParams};
use serde::de::DeserializeOwned;

use crate::kube::{
    api::cluster::{ClusterError, call},
    preflight::snapshot::Unread,
};

/// An object; none when there is no such.
pub(crate) async fn get<K>(api: Api<K>, name: &str, what: String) -> Result<Option<K>, ClusterError>
where
    K: Clone + Debug + DeserializeOwned,
{
    call(what, api.get_opt(name)).await
}

/// All objects.
pub(crate) async fn all<K>(api: Api<K>, what: &str) -> Result<Vec<K>, ClusterError>
where
    K: Clone + Debug + DeserializeOwned,
{
    let answer = call(format!("list {what}"), async {
        api.list(&ListParams::default()).await
    });
    Ok(answer.await?.items)
}

/// All objects; or why they are out of reach.
pub(crate) async fn list<K>(api: Api<K>, what: &str) -> Result<Result<Vec<K>, Unread>, ClusterError>
where
    K: Clone + Debug + DeserializeOwned,
{
    reachable(all(api, what).await, what.to_owned())
}

/// An object; or why it is out of reach.
pub(crate) async fn maybe_get<K>(
    api: Api<K>,
    name: &str,
    kind: &str,
) -> Result<Result<K, Unread>, ClusterError>
where
    K: Clone + Debug + DeserializeOwned,
{
    let object = format!("{kind}/{name}");
    let answer = call(format!("read {object}"), async { api.get(name).await });
    reachable(answer.await, object)
}

/// A refusal, or the lack of such a thing, is no failure of the survey; silence is.
pub(crate) fn reachable<T>(
    answer: Result<T, ClusterError>,
    what: String,
) -> Result<Result<T, Unread>, ClusterError> {
    match answer {
        Ok(value) => Ok(Ok(value)),
        Err(ClusterError::Refused {
            code: 403..=405 | 410 | 501,
            message,
            ..
        }) => Ok(Err(Unread { what, why: message })),
        Err(error) => Err(error),
    }
}

/// What was read; what was not is noted.
pub(crate) fn either<T>(answer: Result<T, Unread>, unread: &mut Vec<Unread>) -> Option<T> {
    match answer {
        Ok(value) => Some(value),
        Err(why) => {
            unread.push(why);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_noted_and_a_broken_server_is_an_error() {
        let refused = |code| -> Result<(), ClusterError> {
            Err(ClusterError::Refused {
                what: "list nodes".to_owned(),
                code,
                message: "no".to_owned(),
            })
        };
        for code in [403, 404] {
            let mut unread = Vec::new();
            let answer = reachable(refused(code), "nodes".to_owned()).unwrap();
            assert_eq!(either(answer, &mut unread), None);
            assert_eq!(unread[0].what, "nodes");
        }
        for code in [401, 409, 429, 500, 503] {
            assert!(
                reachable(refused(code), "nodes".to_owned()).is_err(),
                "{code}"
            );
        }
    }
}

//! How long a plain restart takes: what the same workload costs without any migration.

use std::{
    io::BufReader,
    process::{Child, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{
    super::kubectl,
    app::{App, NAME, POD},
};

/// When a restart counts as failed. A kubelet may take ten seconds to mount a volume again that
/// its driver attaches.
const LIMIT: Duration = Duration::from_mins(2);

/// How many plain restarts are timed on each class.
const RESTARTS: usize = 3;

/// The seconds of some plain restarts, each followed by a look at what the app has.
pub(in crate::cluster) fn several(app: &App<'_>) -> Result<Vec<f64>> {
    let mut seconds = Vec::new();
    for _ in 0..RESTARTS {
        let Took { stop, whole } = time(app)?;
        let (stop, whole) = (stop.as_secs_f64(), whole.as_secs_f64());
        eprintln!("A plain restart took {whole:.3} s, {stop:.3} s of it until the pod was gone.");
        seconds.push(whole);
        app.check()?;
    }
    Ok(seconds)
}

/// Deletes the pod and waits until its successor is ready.
///
/// From the moment when the deletion is seen to that when the new pod is seen to be ready: the time
/// that kubectl needs to start and to ask is no part of it.
fn time(app: &App<'_>) -> Result<Took> {
    let watch = Watch::start(app)?;
    let deadline = Instant::now() + LIMIT;
    let mut restart = Restart::default();
    loop {
        let (at, event) = watch.next(deadline)?;
        match restart.see(at, &event) {
            Seen::Nothing => {}
            Seen::ReadyToBegin => {
                app.kubectl(&["delete", "pod", POD, "--wait=false"])?;
            }
            Seen::Done(took) => return Ok(took),
        }
    }
}

/// What has been seen of a restart.
#[derive(Default)]
struct Restart {
    /// The pod that is to be replaced.
    old: Option<String>,
    /// When its deletion was seen.
    began: Option<Instant>,
    /// When it was seen to be gone.
    gone: Option<Instant>,
}

/// How long a restart took.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Took {
    /// Until the old pod was gone.
    stop: Duration,
    /// Until the new one was ready.
    whole: Duration,
}

/// What an event means for a restart.
#[derive(Debug, Eq, PartialEq)]
enum Seen {
    Nothing,
    ReadyToBegin,
    Done(Took),
}

impl Restart {
    fn see(&mut self, at: Instant, event: &Value) -> Seen {
        let text = |path: &str| event.pointer(path).and_then(Value::as_str);
        let Some(uid) = text("/object/metadata/uid") else {
            return Seen::Nothing;
        };
        let deleted = text("/object/metadata/deletionTimestamp").is_some();
        if self.began.is_some() && self.gone.is_none() && text("/type") == Some("DELETED") {
            self.gone = Some(at);
        }
        match (&self.old, self.began) {
            (None, _) if is_ready(event) && !deleted => {
                self.old = Some(uid.to_owned());
                return Seen::ReadyToBegin;
            }
            // Also by its last event, should the others have been missed.
            (Some(old), None) if old == uid && (deleted || text("/type") == Some("DELETED")) => {
                self.began = Some(at);
            }
            (Some(old), Some(began)) if old != uid && is_ready(event) => {
                return Seen::Done(Took {
                    stop: self.gone.unwrap_or(at).duration_since(began),
                    whole: at.duration_since(began),
                });
            }
            _ => {}
        }
        Seen::Nothing
    }
}

fn is_ready(event: &Value) -> bool {
    let conditions = event.pointer("/object/status/conditions");
    conditions
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .any(|condition| {
            condition.get("type") == Some(&"Ready".into())
                && condition.get("status") == Some(&"True".into())
        })
}

/// The events of the app's pods, from now on, each with when it came. Ends when it is dropped.
struct Watch {
    kubectl: Child,
    events: Receiver<(Instant, Value)>,
}

impl Watch {
    fn start(app: &App<'_>) -> Result<Self> {
        let mut kubectl = kubectl::command(app.layout)
            .args(["get", "pods", "-n", app.namespace(), "-l"])
            .arg(format!("app={NAME}"))
            .args(["--watch", "--output-watch-events", "-o", "json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("kubectl could not be started")?;
        let (send, events) = channel();
        if let Some(stdout) = kubectl.stdout.take() {
            thread::spawn(move || {
                let values = serde_json::Deserializer::from_reader(BufReader::new(stdout));
                for event in values.into_iter().map_while(Result::ok) {
                    if send.send((Instant::now(), event)).is_err() {
                        break;
                    }
                }
            });
        }
        Ok(Self { kubectl, events })
    }

    /// The next event, which must come before `deadline`.
    fn next(&self, deadline: Instant) -> Result<(Instant, Value)> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.events.recv_timeout(left) {
            Ok(event) => Ok(event),
            Err(_) if left.is_zero() || Instant::now() >= deadline => {
                bail!("the pod was not replaced by a ready one within {LIMIT:?}")
            }
            Err(_) => bail!("kubectl stopped watching the pods"),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _already_ended = self.kubectl.kill();
        let _reaped = self.kubectl.wait();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(kind: &str, uid: &str, ready: &str, deleted: bool) -> Value {
        let mut event = json!({"type": kind, "object": {
            "metadata": {"uid": uid},
            "status": {"conditions": [
                {"type": "PodScheduled", "status": "True"},
                {"type": "Ready", "status": ready},
            ]},
        }});
        if deleted {
            event["object"]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        event
    }

    #[test]
    fn a_restart_is_from_the_deletion_to_the_next_pod_that_is_ready() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut restart = Restart::default();
        for (second, event, seen) in [
            // One that is on its way out is not the one to replace.
            (0, event("ADDED", "z", "True", true), Seen::Nothing),
            (1, event("ADDED", "a", "False", false), Seen::Nothing),
            (2, event("MODIFIED", "a", "True", false), Seen::ReadyToBegin),
            (3, event("MODIFIED", "a", "True", false), Seen::Nothing),
            (4, event("MODIFIED", "a", "True", true), Seen::Nothing),
            (5, event("DELETED", "a", "False", true), Seen::Nothing),
            (6, event("ADDED", "b", "False", false), Seen::Nothing),
            (
                7,
                event("MODIFIED", "b", "True", false),
                Seen::Done(Took {
                    stop: Duration::from_secs(1),
                    whole: Duration::from_secs(3),
                }),
            ),
        ] {
            assert_eq!(restart.see(at(second), &event), seen, "second {second}");
        }
    }
}

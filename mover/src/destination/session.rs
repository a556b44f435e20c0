//! Serves data sessions: one at a time, each the source's for one pass.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use livmig_proto::{
    control::{Fault, FaultCode, Side, VerifyLevel},
    frame::{decode_frame, frame_length},
    hex,
    name::RelPath,
    session::{Begin, ToDestination, ToSource},
};
use tokio::{io::AsyncReadExt as _, sync::mpsc, task::JoinSet};

use super::{
    admission::{Admission, LeftBehind, may_leave_read_back},
    answers::Answering,
    early::When,
    flush::Flusher,
    idle::Idle,
    read_back::threads::BackgroundReading,
    state::Destination,
    write::apply::{Applier, Failure},
};
use crate::{
    fault,
    transport::{
        accept::Incoming,
        messages,
        stream::{RecvStream, SendStream},
    },
};

/// Frames that wait in one lane's queue before its thread applies them.
const LANE_QUEUE: usize = 2;

/// Lanes of one session.
const LANES_MAX: usize = 32;

/// How long a connected peer may take to say what it wants.
const BEGIN: Duration = Duration::from_secs(10);

/// Bytes that a source may ask to have taken in before a pass, in all.
const PROBE_MAX: u64 = 64 << 20;

/// Serves the sessions that sources begin until no more can come.
pub async fn serve(destination: Arc<Destination>, mut incoming: mpsc::Receiver<Incoming>) {
    let sessions = Arc::new(Admission::default());
    while let Some(connection) = incoming.recv().await {
        let (destination, sessions) = (Arc::clone(&destination), Arc::clone(&sessions));
        tokio::spawn(async move {
            if let Err(fault) = accept(destination, sessions, connection).await {
                tracing::warn!("data connection: {fault}");
            }
        });
    }
}

/// The control stream and what the source begins with; nothing when it only measured, or said what
/// makes no sense.
async fn begin(connection: &Incoming) -> Option<(SendStream, RecvStream, Begin)> {
    let (mut send, mut receive) = connection.accept_bi().await?;
    let mut probed: u64 = 0;
    loop {
        match messages::read_json(&mut receive).await.ok()??.0 {
            ToDestination::Begin(begin) => return Some((send, receive, begin)),
            ToDestination::Probe { bytes } => {
                probed = bytes.saturating_add(probed);
                if probed > PROBE_MAX {
                    return None;
                }
                let mut meaningless = (&mut receive).take(bytes);
                let read = tokio::io::copy(&mut meaningless, &mut tokio::io::sink()).await;
                if read.ok()? < bytes {
                    return None;
                }
                messages::write_json(&mut send, &ToSource::Probed)
                    .await
                    .ok()?;
            }
            ToDestination::Settle => return None,
        }
    }
}

async fn accept(
    destination: Arc<Destination>,
    sessions: Arc<Admission>,
    connection: Incoming,
) -> Result<(), Fault> {
    let Ok(Some((mut send, receive, begin))) =
        tokio::time::timeout(BEGIN, begin(&connection)).await
    else {
        connection.close(2, "no begin");
        tracing::debug!("a source connected and began nothing");
        return Ok(());
    };
    // The peer holds the pinned key: a session that is still there is its own older one. What
    // that has received is applied to the end before anything else is.
    let admitted = destination
        .admit(&begin)
        .and_then(|()| sessions.replace(&begin, &connection));
    if let Err(fault) = admitted {
        refuse(fault.clone(), send, receive).await;
        return Err(fault);
    }
    let mut before = sessions.turn.lock().await;
    let accepted = destination.lock().and_then(|()| destination.accept(&begin));
    match accepted {
        Ok(ready) => {
            let leaves = may_leave_read_back(&begin, &ready, &before);
            let session = DestinationSession {
                destination: Arc::clone(&destination),
                connection,
                level: begin.verify,
                tag_key: begin.tag_key,
                leaves,
            };
            let _ = messages::write_json(&mut send, &ToSource::Ready(ready)).await;
            let reading = session.run(send, receive, before.reading.take()).await;
            destination.unlock();
            *before = LeftBehind { leaves, reading };
            Ok(())
        }
        Err(fault) => {
            destination.unlock();
            refuse(fault.clone(), send, receive).await;
            Err(fault)
        }
    }
}

/// Tells a source why it is not served.
async fn refuse(fault: Fault, mut send: SendStream, mut receive: RecvStream) {
    let told = ToSource::Fault {
        fault,
        directory: None,
        fatal: true,
    };
    let _ = messages::write_json(&mut send, &told).await;
    send.finish().await;
    // The peer closes once it has read why.
    let _ = tokio::time::timeout(BEGIN, receive.read_u8()).await;
}

/// One session.
#[derive(Clone)]
struct DestinationSession {
    destination: Arc<Destination>,
    connection: Incoming,
    level: VerifyLevel,
    tag_key: [u8; 32],
    /// Whether the read-back may be left to the next.
    leaves: bool,
}

type Answers = mpsc::UnboundedSender<ToSource>;

impl DestinationSession {
    /// Serves the source until it is gone; `left` reads back what the session before has left. What
    /// goes on reading for this one.
    async fn run(
        &self,
        send: SendStream,
        control: RecvStream,
        left: Option<BackgroundReading>,
    ) -> Option<BackgroundReading> {
        let (answers, outgoing) = mpsc::unbounded_channel();
        // Reading a message must not be cut off half-way by the other events below.
        let (heard, mut orders) = mpsc::channel(1);
        let listener = tokio::spawn(hear(control, heard));
        let speaker = tokio::spawn(speak(send, outgoing));
        let flusher = Flusher::new();
        let background = {
            let (flusher, session, answers) = (flusher.watch(), self.clone(), answers.clone());
            tokio::task::spawn_blocking(move || {
                if let Err(fault) = flusher.run(&session.destination) {
                    let _ = answers.send(ToSource::Fault {
                        fault,
                        directory: None,
                        fatal: true,
                    });
                }
            })
        };
        let reading = self.reading(left).await;
        let mut work = JoinSet::new();
        loop {
            tokio::select! {
                lane = self.connection.accept_uni() => match lane {
                    Some(stream) if work.len() < LANES_MAX * 2 => {
                        work.spawn(self.clone().lane(stream, answers.clone()));
                    }
                    _ => break,
                },
                query = self.connection.accept_bi() => match query {
                    Some((send, receive)) => {
                        work.spawn(self.clone().queries(send, receive, answers.clone()));
                    }
                    None => break,
                },
                order = orders.recv() => match order {
                    Some(ToDestination::Settle) => {
                        work.spawn(self.clone().settle(answers.clone()));
                    }
                    _ => break,
                },
                Some(_) = work.join_next(), if !work.is_empty() => {}
            }
        }
        // Everything that was received is applied before another session may begin.
        while work.join_next().await.is_some() {}
        listener.abort();
        drop(flusher);
        let reading = if self.leaves {
            Some(reading)
        } else {
            reading.end().await;
            None
        };
        let _ = background.await;
        drop(answers);
        self.connection.close(0, "done");
        let _ = speaker.await;
        reading
    }

    /// Reads back early, going on with what reads already.
    async fn reading(&self, left: Option<BackgroundReading>) -> BackgroundReading {
        let when = if self.leaves {
            When::Idle(Idle::new())
        } else {
            When::AtOnce
        };
        match left {
            Some(reading) if reading.level() == self.level => {
                // A first copy that was cut off has left it waiting for an idle processor.
                self.destination.early.open(when);
                return reading;
            }
            Some(reading) => reading.end().await,
            None => {}
        }
        BackgroundReading::begin(&self.destination, self.level, when)
    }

    /// Reads the frames of one lane for a thread that applies them.
    async fn lane(self, mut stream: RecvStream, answers: Answers) {
        let mut number = [0; 4];
        if stream.read_exact(&mut number).await.is_err() {
            return self.lane_lost();
        }
        let lane = u32::from_le_bytes(number);
        let (queue, frames) = mpsc::channel(LANE_QUEUE);
        let destination = Arc::clone(&self.destination);
        let thread = {
            let answers = answers.clone();
            tokio::task::spawn_blocking(move || {
                let _lane = tracing::info_span!("lane", lane).entered();
                apply(&destination, lane, frames, &answers);
            })
        };
        loop {
            match messages::read_frame(&mut stream, frame_length).await {
                Ok(Some(frame)) => {
                    if queue.send(frame).await.is_err() {
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::debug!("lane {lane}: {error}");
                    self.lane_lost();
                    break;
                }
            }
        }
        drop(queue);
        if thread.await.is_err() {
            let fault = fault::plain(
                Side::Destination,
                FaultCode::Internal,
                "destination: a thread that applies changes ended unexpectedly",
            );
            let _ = answers.send(ToSource::Fault {
                fault,
                directory: None,
                fatal: true,
            });
        }
    }

    /// Over TCP it may be the only one that is lost, and the source waits for what it has sent down
    /// it.
    fn lane_lost(&self) {
        self.connection.close(3, "a lane was lost");
    }

    async fn queries(self, send: SendStream, receive: RecvStream, answers: Answers) {
        let answering = Answering {
            destination: self.destination,
            level: self.level,
            tag_key: self.tag_key,
        };
        let tell = |fault| {
            let _ = answers.send(ToSource::Fault {
                fault,
                directory: None,
                fatal: true,
            });
        };
        answering.serve(send, receive, tell).await;
    }

    async fn settle(self, answers: Answers) {
        let destination = Arc::clone(&self.destination);
        let (level, leaves) = (self.level, self.leaves);
        let settled = tokio::task::spawn_blocking(move || {
            if leaves {
                destination.settle_unread()
            } else {
                destination.settle(level)
            }
        })
        .await;
        match settled {
            Ok(Ok(outcome)) => {
                for fault in outcome.mismatches {
                    let _ = answers.send(ToSource::Fault {
                        fault,
                        directory: None,
                        fatal: false,
                    });
                }
                // Nothing more is written, and what follows may be the workload's start.
                self.destination.unlock();
                let _ = answers.send(ToSource::Settled(outcome.settled));
            }
            Ok(Err(fault)) => {
                let _ = answers.send(ToSource::Fault {
                    fault,
                    directory: None,
                    fatal: true,
                });
            }
            Err(_) => {
                let fault = fault::plain(
                    Side::Destination,
                    FaultCode::Internal,
                    "destination: the verification ended unexpectedly",
                );
                let _ = answers.send(ToSource::Fault {
                    fault,
                    directory: None,
                    fatal: true,
                });
            }
        }
    }
}

/// Applies the frames of one lane until there are no more.
fn apply(
    destination: &Destination,
    lane: u32,
    mut frames: mpsc::Receiver<Bytes>,
    answers: &Answers,
) {
    let mut applier = Applier::new(destination);
    // Whoever gives a lane up must say that the pass is over: the source waits for its frames.
    let tell = |failure: Failure, given_up: bool| {
        let fatal = given_up || ends_the_pass(&failure.fault);
        let directory = Some(hex::encode(failure.directory.as_bytes()));
        for fault in failure.also {
            let _ = answers.send(ToSource::Fault {
                fault,
                directory: directory.clone(),
                fatal: false,
            });
        }
        let _ = answers.send(ToSource::Fault {
            fault: failure.fault,
            directory,
            fatal,
        });
        fatal
    };
    while let Some(frame) = frames.blocking_recv() {
        let no_frame = |error| Failure {
            fault: fault::plain(
                Side::Destination,
                FaultCode::Protocol,
                format!("destination: got a frame that is none ({error})"),
            ),
            also: Box::default(),
            directory: RelPath::ROOT,
        };
        let (sequence, mut ops) = match decode_frame(frame) {
            Ok(decoded) => decoded,
            Err(error) => {
                tell(no_frame(error), true);
                break;
            }
        };
        let fatal = ops.any(|op| {
            let applied = op.map_err(no_frame).and_then(|op| applier.apply(op));
            applied.is_err_and(|failure| tell(failure, false))
        });
        if let Err(failure) = applier.note() {
            tell(failure, true);
            break;
        }
        if fatal {
            break;
        }
        let _ = answers.send(ToSource::Applied {
            lane,
            up_to: sequence,
        });
    }
    // A lane that was cut off inside a frame has touched something all the same.
    if applier.note().is_ok() {
        applier.leave();
    }
}

/// Whether nothing that follows an op that failed with `fault` can be applied. What one entry met is
/// that entry's, whatever it was: a volume that fails says so when it is flushed. The state directory
/// and the session are no entry's.
fn ends_the_pass(fault: &Fault) -> bool {
    fault.path.is_none() || matches!(fault.code, FaultCode::Protocol | FaultCode::Internal)
}

async fn hear(mut control: RecvStream, heard: mpsc::Sender<ToDestination>) {
    while let Ok(Some((message, _))) = messages::read_json(&mut control).await {
        if heard.send(message).await.is_err() {
            return;
        }
    }
}

async fn speak(mut send: SendStream, mut outgoing: mpsc::UnboundedReceiver<ToSource>) {
    while let Some(message) = outgoing.recv().await {
        if messages::write_json(&mut send, &message).await.is_err() {
            break;
        }
    }
    send.finish().await;
}

#[cfg(test)]
mod tests {
    use livmig_proto::name::RelPath;
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn what_one_entry_meets_ends_no_pass() {
        let path = RelPath::new(b"a/b").unwrap();
        let of_one = [
            Errno::PERM,
            Errno::TXTBSY,
            Errno::BUSY,
            Errno::XDEV,
            Errno::MLINK,
            Errno::MFILE,
            Errno::NAMETOOLONG,
            Errno::DQUOT,
            Errno::NOTDIR,
            Errno::ISDIR,
            Errno::STALE,
            Errno::IO,
            Errno::NOSPC,
        ];
        for errno in of_one {
            let fault = fault::at(Side::Destination, &path, "do it", errno);
            assert!(!ends_the_pass(&fault), "{fault}");
        }
        assert!(ends_the_pass(&Destination::state_fault(Errno::NOSPC)));
        assert!(ends_the_pass(&Destination::state_fault(Errno::ACCESS)));
        let protocol = fault::named(Side::Destination, FaultCode::Protocol, &path, "nonsense");
        assert!(ends_the_pass(&protocol));
    }
}

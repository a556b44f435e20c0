//! A lane: one worker's ordered line to the destination, and what becomes known once the
//! destination has applied what went down it.

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;
use livmig_proto::{
    control::{Fault, Side},
    frame::{FrameBuilder, Op},
    lately::{Lately, Relative},
    name::RelPath,
};
use tokio::sync::mpsc;

use super::shared::{Counts, Shared};
use crate::{
    catalog::{segment::Segment, store::Change},
    fault,
};

/// One worker's line to the destination.
pub struct Lane<'a> {
    shared: &'a Shared<'a>,
    number: u32,
    queue: mpsc::Sender<Bytes>,
    frame: FrameBuilder,
    /// The number of the frame that is being built.
    sequence: u64,
    /// The directory that the destination is in, as far as this lane told it.
    entered: Option<RelPath>,
    /// What it spoke of lately.
    lately: Lately,
    /// What becomes known when the frame of that number is applied.
    pending: VecDeque<(u64, Segment, Sent)>,
    /// Ops so far.
    pushed: u64,
}

/// How much of a directory was sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sent {
    All,
    /// Of some entry only a part: what the destination holds is to be asked.
    InPart,
}

impl<'a> Lane<'a> {
    /// Opens a lane.
    pub fn open(shared: &'a Shared<'a>) -> Result<Self, Fault> {
        let (number, queue) = shared.link.lane()?;
        Ok(Self {
            shared,
            number,
            queue,
            frame: FrameBuilder::new(),
            sequence: 1,
            entered: None,
            lately: Lately::new(),
            pending: VecDeque::new(),
            pushed: 0,
        })
    }

    /// Says that the directory at `path` is about to change, to the catalog and to the
    /// destination. Before the first op in it, once a visit.
    pub fn begin(&mut self, path: &RelPath) -> Result<(), Fault> {
        self.shared.store.begin(path).map_err(Shared::state_fault)?;
        self.enter(path)
    }

    /// Speaks of the directory at `path` from here on.
    pub fn enter(&mut self, path: &RelPath) -> Result<(), Fault> {
        if self.entered.as_ref() != Some(path) {
            let path_now = self.refer(path);
            let len = path_now.len();
            self.push(&Op::Enter { path: path_now }, len)?;
            self.entered = Some(path.clone());
        }
        Ok(())
    }

    /// `path`, as the destination will understand it from the next op on this lane.
    pub fn refer(&mut self, path: &RelPath) -> Relative {
        self.lately.refer(path)
    }

    /// Sends an op that carries about `size` bytes.
    pub fn push(&mut self, op: &Op, size: usize) -> Result<(), Fault> {
        self.push_with(size, |frame| frame.push(op))
    }

    /// Sends the op that `push` appends and that carries about `size` bytes.
    pub fn push_with(
        &mut self,
        size: usize,
        push: impl FnOnce(&mut FrameBuilder),
    ) -> Result<(), Fault> {
        if self.frame.is_full_for(size) {
            self.send()?;
        }
        push(&mut self.frame);
        self.pushed += 1;
        Ok(())
    }

    /// How many ops were pushed so far.
    pub fn pushed(&self) -> u64 {
        self.pushed
    }

    /// The directory of `segment` will be as the segment says once everything pushed so far is
    /// applied.
    pub fn commit_later(&mut self, segment: Segment) -> Result<(), Fault> {
        self.settle_later(segment, Sent::All)
    }

    /// As [`Self::commit_later`], but for entries of which only a part was sent. The others are as
    /// the segment says, for what is left of the round.
    pub fn doubt_later(&mut self, segment: Segment) -> Result<(), Fault> {
        self.settle_later(segment, Sent::InPart)
    }

    fn settle_later(&mut self, segment: Segment, sent: Sent) -> Result<(), Fault> {
        let last = if self.frame.is_empty() {
            self.sequence - 1
        } else {
            self.sequence
        };
        self.pending.push_back((last, segment, sent));
        self.commit()
    }

    /// Sends what is left and waits until all of it is applied and known.
    pub fn drain(&mut self) -> Result<(), Fault> {
        if !self.frame.is_empty() {
            self.send()?;
        }
        let begun = Instant::now();
        let result = self
            .shared
            .link
            .acks()
            .wait_applied(self.number, self.sequence - 1);
        Counts::add_time(&self.shared.counts.send_nanos, begun.elapsed());
        // Also after a loss: what was applied before it is known.
        self.commit()?;
        result
    }

    fn send(&mut self) -> Result<(), Fault> {
        if let Some(over) = self.shared.link.acks().over() {
            return Err(over);
        }
        // What is said to be in flight must survive this process before it is.
        self.shared.store.flush().map_err(Shared::state_fault)?;
        let frame = self.frame.take(self.sequence);
        self.sequence += 1;
        let begun = Instant::now();
        let sent = self.offer(frame);
        Counts::add_time(&self.shared.counts.send_nanos, begun.elapsed());
        if sent.is_err() {
            let over = self.shared.link.acks().over();
            return Err(over.unwrap_or_else(|| fault::disconnected(Side::Source, "lane closed")));
        }
        self.commit()
    }

    /// Queues a frame in as many parts as the limits want: a lane is a stream of bytes, and what
    /// reads it cares for lengths alone.
    fn offer(&self, mut frame: Bytes) -> Result<(), mpsc::error::SendError<Bytes>> {
        let Shared {
            counts,
            limiter,
            link,
            ..
        } = self.shared;
        // Whoever ends a pass waits for its end: what is left of it is not held back.
        let exempt =
            || self.shared.is_final() || counts.stop.is_asked() || link.acks().over().is_some();
        while !frame.is_empty() {
            let part = frame.split_to(limiter.admit(frame.len(), exempt));
            let bytes = u64::try_from(part.len()).unwrap_or(0);
            self.queue.blocking_send(part)?;
            Counts::add(&counts.bytes_sent, bytes);
        }
        Ok(())
    }

    /// Stores what has become known.
    fn commit(&mut self) -> Result<(), Fault> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let acks = self.shared.link.acks();
        let applied = acks.applied(self.number);
        while let Some((sequence, segment, sent)) = self.pending.front() {
            if *sequence > applied {
                break;
            }
            // Where an op failed nobody knows what is there: the directory stays in flight.
            let store = self.shared.store;
            let stored = if *sent == Sent::All && !acks.has_failed(&segment.path) {
                store.put(segment, Change::Made)
            } else if acks.is_short() {
                // Another round comes, or the pass is over.
                Ok(())
            } else {
                store.doubt(segment)
            };
            stored.map_err(Shared::state_fault)?;
            self.pending.pop_front();
        }
        Ok(())
    }
}

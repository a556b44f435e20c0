//! Answers what the source asks on the streams that it opens for that.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use livmig_proto::{
    control::{Fault, FaultCode, Side, VerifyLevel},
    lately::Lately,
    name::Name,
    session::Query,
};
use tokio::sync::mpsc;

use super::{query::Records, state::Destination};
use crate::{
    fault,
    fs::way::Way,
    transport::{
        messages,
        stream::{RecvStream, SendStream},
    },
};

/// Bytes of an answer that are sent together.
const TOGETHER: usize = 32 << 10;

/// Answers the queries of one session.
#[derive(Clone)]
pub struct Answering {
    /// What is asked about.
    pub destination: Arc<Destination>,
    /// How hard it looks.
    pub level: VerifyLevel,
    /// What tags are made with.
    pub tag_key: [u8; 32],
}

/// What one stream was asked about.
#[derive(Default)]
struct AnswerJob {
    lately: Lately,
    way: Way,
}

/// Why a query has no answer.
enum QueryError {
    /// Nobody listens any more.
    Gone,
    /// The directory or file could not be read.
    Failed(Fault),
}

impl Answering {
    /// Answers queries, one after the other, until the source has no more. A fault ends that, and is
    /// told before the stream breaks: the source would not know why.
    pub async fn serve(
        self,
        mut send: SendStream,
        mut receive: RecvStream,
        tell: impl Fn(Fault) + Send,
    ) {
        let mut asked = AnswerJob::default();
        while let Ok(Some((query, _))) = messages::read_json::<Query>(&mut receive).await {
            match self.query(query, &mut asked, &mut send).await {
                Ok(()) => {}
                Err(QueryError::Gone) => return,
                Err(QueryError::Failed(fault)) => {
                    tell(fault);
                    return send.break_off();
                }
            }
        }
        send.finish().await;
    }

    async fn query(
        &self,
        query: Query,
        asked: &mut AnswerJob,
        send: &mut SendStream,
    ) -> Result<(), QueryError> {
        let (records, mut outgoing) = mpsc::channel::<Bytes>(2);
        let (own, mut before) = (self.clone(), std::mem::take(asked));
        let thread = tokio::task::spawn_blocking(move || {
            let answered = own.answer(&query, &mut before, records);
            (answered, before)
        });
        let mut gone = false;
        while let Some(record) = outgoing.recv().await {
            if send.write_bytes(record).await.is_err() {
                gone = true;
                break;
            }
        }
        drop(outgoing);
        match thread.await {
            _ if gone => Err(QueryError::Gone),
            Ok((answered, after)) => {
                *asked = after;
                answered.map_err(QueryError::Failed)
            }
            Err(_) => Err(QueryError::Failed(fault::plain(
                Side::Destination,
                FaultCode::Internal,
                "destination: a thread that answers the source ended unexpectedly",
            ))),
        }
    }

    fn answer(
        &self,
        query: &Query,
        asked: &mut AnswerJob,
        records: mpsc::Sender<Bytes>,
    ) -> Result<(), Fault> {
        let bad = || {
            fault::plain(
                Side::Destination,
                FaultCode::Protocol,
                "destination: was asked about something that is no path",
            )
        };
        let mut records = AnswerQueue::new(records);
        match query {
            Query::List { path } => {
                let path = asked.lately.resolve(path).map_err(|_| bad())?;
                let way = &mut asked.way;
                self.destination
                    .list(&path, way, (&self.tag_key, self.level), &mut records)?;
            }
            Query::Sums {
                path,
                name,
                block,
                every,
            } => {
                let path = asked.lately.resolve(path).map_err(|_| bad())?;
                let name = Name::new(name).map_err(|_| bad())?;
                records.push(self.destination.sums(&path, &name, *block, *every)?)?;
            }
        }
        records.flush()
    }
}

/// Records of an answer, on their way to the task that sends them, several at once: an entry's is
/// small, and waking that task costs more than all else about it.
struct AnswerQueue {
    outgoing: mpsc::Sender<Bytes>,
    waiting: BytesMut,
}

impl AnswerQueue {
    fn new(outgoing: mpsc::Sender<Bytes>) -> Self {
        Self {
            outgoing,
            waiting: BytesMut::new(),
        }
    }

    fn flush(&mut self) -> Result<(), Fault> {
        self.outgoing
            .blocking_send(self.waiting.split().freeze())
            .map_err(|_| fault::disconnected(Side::Destination, "the source no longer listens"))
    }
}

impl Records for AnswerQueue {
    fn push(&mut self, record: Bytes) -> Result<(), Fault> {
        self.waiting.extend_from_slice(&record);
        if self.waiting.len() >= TOGETHER {
            self.flush()?;
        }
        Ok(())
    }
}

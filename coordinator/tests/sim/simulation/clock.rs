//! Virtual time, and the executor that moves it: when nothing else can go on, the clock jumps to
//! the next moment somebody waits for.

use std::{
    collections::BTreeMap,
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use livmig_engine::time::Timestamp;

use livmig_coord::driver::Clock;

/// A clock that stands still until nothing else moves.
#[derive(Clone, Debug)]
pub(crate) struct SimClock {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    now: Timestamp,
    /// Who waits, by moment and by a number that tells equal moments apart.
    waiting: BTreeMap<(Timestamp, u64), Waker>,
    next: u64,
}

/// Some moment in 2025; nothing depends on which.
const START: Timestamp = Timestamp(1_750_000_000_000);

impl SimClock {
    pub(super) fn new() -> Self {
        Self {
            inner: Arc::new(Mutex::new(Inner {
                now: START,
                waiting: BTreeMap::new(),
                next: 0,
            })),
        }
    }

    /// Lets `duration` pass with nobody there, as between two coordinators.
    pub(crate) fn skip(&self, duration: Duration) {
        let mut inner = self.lock();
        inner.now = inner.now.after(duration);
    }

    /// Wakes everybody who waits, to look again.
    pub(super) fn nudge(&self) {
        for waker in self.lock().waiting.values() {
            waker.wake_by_ref();
        }
    }

    /// Ends when `done` says so, asked now and whenever something may have changed, `until` at
    /// the latest.
    pub(super) async fn until(&self, until: Timestamp, mut done: impl FnMut() -> bool) {
        let mut waiting = Waiting {
            clock: self,
            key: None,
        };
        poll_fn(|context| {
            waiting.leave();
            if self.now() >= until || done() {
                return Poll::Ready(());
            }
            waiting.enter(until, context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Jumps to the next moment somebody waits for; false when nobody waits.
    fn jump(&self) -> bool {
        let mut inner = self.lock();
        let Some((at, _)) = inner.waiting.keys().next().copied() else {
            return false;
        };
        inner.now = inner.now.max(at);
        let now = inner.now;
        for (_, waker) in inner.waiting.range(..=(now, u64::MAX)) {
            waker.wake_by_ref();
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        self.lock().now
    }

    async fn sleep(&self, duration: Duration) {
        let until = self.now().after(duration);
        self.until(until, || false).await;
    }
}

/// A place in the clock's list, given back when the waiting is cut off.
struct Waiting<'a> {
    clock: &'a SimClock,
    key: Option<(Timestamp, u64)>,
}

impl Waiting<'_> {
    fn enter(&mut self, until: Timestamp, waker: Waker) {
        let mut inner = self.clock.lock();
        let key = (until, inner.next);
        inner.next += 1;
        inner.waiting.insert(key, waker);
        self.key = Some(key);
    }

    fn leave(&mut self) {
        if let Some(key) = self.key.take() {
            self.clock.lock().waiting.remove(&key);
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// How an execution ended.
#[derive(Debug)]
pub(super) enum Ended<T> {
    Ready(T),
    Stopped,
    Stalled,
}

/// Runs `future` in virtual time until it is ready, `stop` says so after a poll, or nothing can
/// ever wake it again. The future is dropped at that moment.
pub(super) fn run<F: Future>(
    clock: &SimClock,
    future: F,
    mut stop: impl FnMut() -> bool,
) -> Ended<F::Output> {
    let mut future = pin!(future);
    let woken = Arc::new(Woken(AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Ended::Ready(output);
        }
        if stop() {
            return Ended::Stopped;
        }
        while !woken.0.swap(false, Ordering::Relaxed) {
            if !clock.jump() {
                return Ended::Stalled;
            }
        }
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Lets the executor look around once, as any real input or output does.
pub(super) async fn yield_once() {
    let mut yielded = false;
    poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

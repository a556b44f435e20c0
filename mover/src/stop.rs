//! The wish that a pass ends early: asked for at every entry, and awaited where nothing else goes on.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Whether a pass was asked to end.
#[derive(Debug, Default)]
pub struct Stop {
    asked: AtomicBool,
    told: Notify,
}

impl Stop {
    /// Asks for it.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::SeqCst);
        self.told.notify_waiters();
    }

    /// Whether it was asked for.
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Waits until it is asked for.
    pub async fn asked(&self) {
        let told = self.told.notified();
        // Whoever asks after this is heard by what waits already.
        if !self.asked.load(Ordering::SeqCst) {
            told.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn it_is_heard_before_and_while_it_is_waited_for() {
        let stop = Arc::new(Stop::default());
        assert!(!stop.is_asked());
        let waits = tokio::spawn({
            let stop = Arc::clone(&stop);
            async move { stop.asked().await }
        });
        tokio::task::yield_now().await;
        stop.ask();
        waits.await.unwrap();
        stop.asked().await;
        assert!(stop.is_asked());
    }
}

//! The QUIC connections of one session, at either end: they share its window and end together.
//!
//! A connection has one task, and an endpoint another, that every byte passes. Several of them keep
//! several cores busy.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use quinn::{Connection, VarInt};

use super::quic::{self, CONNECTIONS_MAX};

/// Some connections, of which the first carries the control stream.
#[derive(Debug, Default)]
pub(super) struct Bundle(Mutex<BundleState>);

#[derive(Debug, Default)]
struct BundleState {
    open: Vec<Connection>,
    /// No more are taken in.
    complete: bool,
    /// How it was closed.
    closed: Option<(VarInt, &'static str)>,
}

impl Bundle {
    /// Takes a connection in. Until all are known each has the part of the window that it would
    /// have among as many as may be: what was granted cannot be taken back.
    ///
    /// # Errors
    /// When there are as many as may be, or as there will be, or the session is over.
    pub(super) fn add(&self, connection: &Connection) -> io::Result<()> {
        let mut state = self.lock();
        if let Some((code, reason)) = state.closed {
            connection.close(code, reason.as_bytes());
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        // A source that stopped waiting for this one, and has begun without it.
        if state.complete {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if state.open.len() >= CONNECTIONS_MAX {
            return Err(io::Error::other("too many connections of one session"));
        }
        quic::share_window(connection, CONNECTIONS_MAX);
        state.open.push(connection.clone());
        Ok(())
    }

    /// All are there: they share the whole window from now on.
    pub(super) fn complete(&self) {
        let mut state = self.lock();
        if !state.complete {
            state.complete = true;
            for connection in &state.open {
                quic::share_window(connection, state.open.len());
            }
        }
    }

    /// Forgets a connection that was never used.
    pub(super) fn remove(&self, connection: &Connection) {
        let mut state = self.lock();
        state
            .open
            .retain(|open| open.stable_id() != connection.stable_id());
    }

    /// The connection whose turn it is when `turns` were taken.
    pub(super) fn turn(&self, turns: usize) -> io::Result<Connection> {
        let state = self.lock();
        let at = turns.checked_rem(state.open.len());
        let connection = at.and_then(|at| state.open.get(at)).cloned();
        connection.ok_or_else(|| io::ErrorKind::ConnectionAborted.into())
    }

    /// Ends every connection, for both sides.
    pub(super) fn close(&self, code: u32, reason: &'static str) {
        let mut state = self.lock();
        let (code, reason) = *state.closed.get_or_insert((VarInt::from_u32(code), reason));
        for connection in state.open.drain(..) {
            connection.close(code, reason.as_bytes());
        }
    }

    fn lock(&self) -> MutexGuard<'_, BundleState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

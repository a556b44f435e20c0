//! A workload that knows what it was promised.
//!
//! It writes to a volume as a database does, and after each write is durable it acknowledges it
//! to a ledger outside the volume. [`check`] then says whether a volume holds everything that was
//! ever acknowledged, and nothing that was removed. [`service`] starts and stops it the way an
//! init script would.
//!
//! Each record, number `n` counted from 1:
//! 1. a line is appended to `log`: `n`, random text, and the digest of the line before, so that
//!    a lost or changed line breaks the chain;
//! 2. a page of `table` is overwritten with `n` and its digest;
//! 3. `files/new n` is made, `files/new n-3` becomes `files/kept n-3`, `files/kept n-9` goes;
//! 4. all of that is made durable, then `n` is appended to the ledger and made durable there.

pub mod check;
pub mod layout;
pub mod record;
pub mod service;

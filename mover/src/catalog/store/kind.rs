//! The kinds of the log's records. The numbers are on disk.

pub(super) const HEAD: u8 = 1;
pub(super) const BEGIN: u8 = 2;
pub(super) const PUT: u8 = 3;
pub(super) const FORGET: u8 = 4;
pub(super) const FINISHED: u8 = 5;
pub(super) const GROUP_BEGIN: u8 = 6;
pub(super) const GROUP_PUT: u8 = 7;
pub(super) const GROUP_FORGET: u8 = 8;
pub(super) const DOUBT: u8 = 9;

//! Every bound that a decoder enforces, in one place.
//!
//! Sources: Linux's `NAME_MAX`, `PATH_MAX` and xattr(7) for what a file system can hold; the rest
//! are this protocol's own, chosen so that the largest legal frame stays far below the byte
//! budget of one side.

/// Bytes of one path component (Linux `NAME_MAX`).
pub const NAME_MAX: usize = 255;

/// Bytes of a symbolic link's target (Linux `PATH_MAX` without the terminating NUL).
pub const SYMLINK_MAX: usize = 4095;

/// Bytes of a path relative to the root, slashes included. Beyond `PATH_MAX`, because directory
/// handles reach deeper than a path string does.
pub const PATH_BYTES_MAX: usize = 65_536;

/// Components of a path. A deeper tree is refused by name, not walked for ever.
pub const DEPTH_MAX: usize = 4096;

/// Paths that a stream refers back to. More than there are lanes, so that as many ways down a deep
/// tree may alternate in one of them.
pub const LATELY_MAX: usize = 16;

/// Bytes of an extended attribute's name (Linux `XATTR_NAME_MAX`).
pub const XATTR_NAME_MAX: usize = 255;

/// Bytes of an extended attribute's value (Linux `XATTR_SIZE_MAX`).
pub const XATTR_VALUE_MAX: usize = 65_536;

/// Bytes of all attributes of one entry, names and values. The kernel lists up to 64 KiB of names, so
/// xfs could hold hundreds of megabytes. They travel and are remembered with the entry as a whole: as
/// much as a frame ([`FRAME_MAX`]) takes beside content, and their lengths.
pub const XATTR_TOTAL_MAX: usize = 3 << 20;

/// Attributes of one entry: the shortest names that a list of 64 KiB takes.
pub const XATTR_COUNT_MAX: usize = 65_536 / 4;

const _: () = assert!(
    XATTR_TOTAL_MAX + 8 * XATTR_COUNT_MAX + 2 * FRAME_CONTENT_MAX + 2 * PATH_BYTES_MAX < FRAME_MAX
);

/// Bytes of one control message.
pub const CONTROL_MESSAGE_MAX: usize = 4 << 20;

/// Bytes of one data frame's body.
pub const FRAME_MAX: usize = 4 << 20;

/// Bytes of content that one data frame carries at most; the rest of [`FRAME_MAX`] is room for
/// names and attributes. A frame is copied half a dozen times between the two page caches, so it should
/// stay in a core's own cache: with frames four times as large a first copy takes an eighth longer, with
/// those a quarter as large no less (measured on cores with 1 MiB each).
pub const FRAME_CONTENT_MAX: usize = 1 << 18;

/// Rolling checksums that are asked for at once. In a larger file they are of blocks further apart.
pub const SUMS_MAX: usize = 1 << 11;

/// Bytes of a block with a rolling checksum at most.
pub const SUMMED_BLOCK_MAX: usize = 1 << 22;

/// Entries of one directory. It is listed, remembered and compared as a whole, at some 300 bytes
/// an entry; a larger one is refused by name.
pub const DIRECTORY_ENTRIES_MAX: usize = 4 << 20;

/// Bytes of a file, the largest value of a signed 64-bit offset (Linux `off_t`).
pub const FILE_SIZE_MAX: u64 = i64::MAX as u64;

/// Faults and skipped entries that one report lists by name; more are only counted.
pub const LISTED_MAX: usize = 100;

/// Bytes of text that the list of one reason, or of faults, takes at most: a report is one control
/// message ([`CONTROL_MESSAGE_MAX`]), and paths may be long.
pub const LISTED_BYTES_MAX: usize = 128 << 10;

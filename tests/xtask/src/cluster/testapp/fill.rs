//! What the migrated volume holds beside the repository.

use std::fmt;

use super::size::Mebibytes;

/// What is there beside the data: the repositories, and what a file system needs for itself.
const BESIDE: u32 = 1024;

/// How many of eleven parts the large file has of a mixed volume: 800 MB of 1100.
const LARGE_OF_ELEVEN: u32 = 8;

/// Bytes for each file that ext4 makes one inode for.
const BYTES_PER_INODE: u64 = 16 * 1024;

const MEBIBYTE: u64 = 1 << 20;

/// Random data, which the app rewrites here and there all the time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::cluster) struct Fill {
    /// All large files together; the app rewrites pages of them.
    pub(in crate::cluster) large: Mebibytes,
    /// Each large file.
    file: Mebibytes,
    /// Small files, which the app rewrites whole.
    pub(in crate::cluster) small_files: u32,
    /// Bytes of each small file.
    pub(in crate::cluster) small_bytes: u64,
}

impl Fill {
    /// `data` in files of 16 MiB.
    pub(in crate::cluster) fn of_large_files(data: Mebibytes) -> Self {
        Self {
            large: data,
            file: Mebibytes(16),
            small_files: 0,
            small_bytes: 0,
        }
    }

    /// `data` as servers have it: most of it in one file, the rest in `small_files` small ones.
    pub(in crate::cluster) fn mixed(data: Mebibytes, small_files: u32) -> Self {
        let large = Mebibytes((data.0 / 11 * LARGE_OF_ELEVEN).max(1));
        let rest = u64::from(data.0.saturating_sub(large.0)) * MEBIBYTE;
        Self {
            large,
            file: large,
            small_files,
            small_bytes: rest
                .checked_div(u64::from(small_files))
                .unwrap_or_default()
                .max(1),
        }
    }

    /// Bytes of all files.
    pub(in crate::cluster) fn bytes(self) -> u64 {
        u64::from(self.large.0) * MEBIBYTE + u64::from(self.small_files) * self.small_bytes
    }

    /// The size of a volume that holds it.
    pub(in crate::cluster) fn volume(self) -> Mebibytes {
        let each = (self.small_bytes + 4096).max(BYTES_PER_INODE);
        let small = (u64::from(self.small_files) * each).div_ceil(MEBIBYTE);
        let small = u32::try_from(small).unwrap_or(u32::MAX);
        Mebibytes(self.large.0.saturating_add(small).saturating_add(BESIDE))
    }

    /// What the app is told, by the variables of `app.sh`.
    pub(in crate::cluster) fn variables(self) -> [(&'static str, String); 4] {
        [
            ("APP_FILL_MB", self.large.0.to_string()),
            ("APP_FILE_MB", self.file.0.to_string()),
            ("APP_SMALL_FILES", self.small_files.to_string()),
            ("APP_SMALL_BYTES", self.small_bytes.to_string()),
        ]
    }
}

impl fmt::Display for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.large)?;
        if self.small_files > 0 {
            let (files, bytes) = (self.small_files, self.small_bytes);
            write!(f, " and {files} files of {bytes} bytes")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_beside_the_data() {
        let large = Fill::of_large_files(Mebibytes(1024));
        assert_eq!(large.volume(), Mebibytes(2048));
        // As many inodes as files, however small these are.
        let many = Fill::mixed(Mebibytes(11), 64 * 1024);
        assert_eq!(many.volume(), Mebibytes(8 + 1024 + 1024));
    }

    #[test]
    fn a_mixed_volume_has_a_large_file_and_the_rest_in_small_ones() {
        let fill = Fill::mixed(Mebibytes(1056), 40_000);
        assert_eq!(fill.large, Mebibytes(768));
        assert_eq!(fill.small_bytes, 7549);
        assert!(1056 * MEBIBYTE - fill.bytes() < 40_000);
        assert_eq!(fill.to_string(), "768Mi and 40000 files of 7549 bytes");
        assert_eq!(Fill::mixed(Mebibytes(0), 0).bytes(), MEBIBYTE);
    }
}

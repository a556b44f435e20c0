//! What the migrated volume holds beside the repository.

use super::size::Mebibytes;

/// What is there beside the data: the repositories, and what a file system needs for itself.
const BESIDE: u32 = 1024;

/// Random data, which the app rewrites here and there all the time.
#[derive(Clone, Copy, Debug)]
pub(in crate::cluster) struct Fill {
    /// All of it.
    pub(in crate::cluster) data: Mebibytes,
}

impl Fill {
    /// The size of a volume that holds it.
    pub(in crate::cluster) fn volume(self) -> Mebibytes {
        Mebibytes(self.data.0 + BESIDE)
    }

    /// What the app is told, by the variables of `app.sh`.
    pub(in crate::cluster) fn variables(self) -> Vec<(&'static str, String)> {
        vec![("APP_FILL_MB", self.data.0.to_string())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_beside_the_data() {
        let data = Mebibytes(1024);
        assert_eq!(Fill { data }.volume().to_string(), "2048Mi");
    }
}

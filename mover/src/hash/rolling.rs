//! A checksum of a window that moves over content byte by byte.
//!
//! The two sums of Tridgell and Mackerras (The rsync algorithm, 1996, section 3): of the bytes, and
//! of the bytes times their distance from the window's end, 16 bits of each. It only suggests;
//! content that matches must be hashed.

/// The checksum of a window.
#[derive(Clone, Copy, Debug)]
pub struct Rolling {
    plain: u32,
    weighted: u32,
    length: u32,
}

impl Rolling {
    /// That of `window`, up to 4 GiB long.
    pub fn of(window: &[u8]) -> Self {
        let (mut plain, mut weighted) = (0_u32, 0_u32);
        for byte in window {
            plain = plain.wrapping_add(u32::from(*byte));
            weighted = weighted.wrapping_add(plain);
        }
        Self {
            plain,
            weighted,
            length: u32::try_from(window.len()).unwrap_or(u32::MAX),
        }
    }

    /// Moves the window on by a byte: `out` was its first, `next` becomes its last.
    #[inline]
    pub fn roll(&mut self, out: u8, next: u8) {
        let out = u32::from(out);
        self.plain = self.plain.wrapping_sub(out).wrapping_add(u32::from(next));
        self.weighted = self
            .weighted
            .wrapping_sub(self.length.wrapping_mul(out))
            .wrapping_add(self.plain);
    }

    /// The checksum.
    #[inline]
    pub fn value(&self) -> u32 {
        (self.plain & 0xffff) | self.weighted << 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_that_rolled_is_as_one_that_began_there() {
        let content: Vec<u8> = (0..9000_u32)
            .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        for length in [1, 2, 4096, 8192] {
            let mut rolling = Rolling::of(&content[..length]);
            for at in 1..content.len() - length {
                rolling.roll(content[at - 1], content[at + length - 1]);
                let anew = Rolling::of(&content[at..at + length]);
                assert_eq!(rolling.value(), anew.value(), "{length} at {at}");
            }
        }
    }
}

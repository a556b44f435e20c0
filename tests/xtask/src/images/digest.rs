//! SHA-256, the digest that image formats and `sha256sum` speak.

use ring::digest::{SHA256, digest};

use super::archive::Entry;

/// The digest of `bytes`, hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    let digest = digest(&SHA256, bytes);
    let digits = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
    digits.collect()
}

/// What `sha256sum --check` reads: a line for each file.
pub(super) fn sums<'a>(files: impl IntoIterator<Item = &'a Entry>) -> String {
    let lines = files
        .into_iter()
        .map(|file| format!("{}  {}\n", sha256(file.bytes()), file.path));
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_everybody_else() {
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b"abc"), abc);
        let files = [Entry::file("a", "abc"), Entry::file("b/c", "abc")];
        assert_eq!(sums(&files), format!("{abc}  a\n{abc}  b/c\n"));
    }
}

//! What the writer's volume looks like, as pure functions of a record's number.

use crate::rng::Rng;

/// Bytes of a page of the table.
pub const PAGE: usize = 8192;

/// Pages of the table.
pub const PAGES: u64 = 512;

/// Records after which a new file gets its lasting name.
pub const RENAMED_AFTER: u64 = 3;

/// Records after which a file is removed.
pub const REMOVED_AFTER: u64 = 9;

/// The digest that the first line of the log refers to.
pub const GENESIS: &str = "genesis";

/// The line of record `number`, after a line whose digest is `before`; without line feed.
pub fn line(number: u64, before: &str) -> String {
    let filler = Rng::new(number).bytes(64);
    format!("{number} {} {before}", filler.escape_ascii()).replace('\n', "")
}

/// The digest of a line.
pub fn digest(line: &str) -> String {
    blake3::hash(line.as_bytes()).to_hex().as_str()[..32].to_owned()
}

/// The page that record `number` overwrites, counted from 0.
pub fn page_of(number: u64) -> u64 {
    Rng::new(number).draw() % PAGES
}

/// The content of the page that record `number` wrote.
pub fn page(number: u64) -> Vec<u8> {
    let mut page = number.to_le_bytes().to_vec();
    page.extend(Rng::new(!number).bytes(PAGE - 8));
    page
}

/// The record that wrote this page; nothing for a page that no record has written like this.
pub fn writer_of(content: &[u8]) -> Option<u64> {
    let number = u64::from_le_bytes(content.get(..8)?.try_into().ok()?);
    (number == 0 || page(number) == content).then_some(number)
}

/// The name of the file of record `number` while it is new.
pub fn new_file(number: u64) -> String {
    format!("files/new {number}")
}

/// The lasting name of the file of record `number`.
pub fn kept_file(number: u64) -> String {
    format!("files/kept {number}")
}

/// What the file of record `number` holds.
pub fn file_content(number: u64) -> Vec<u8> {
    let length = Rng::new(number ^ 0xf11e).below(20_000);
    Rng::new(number).bytes(usize::try_from(length).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_names_its_record_and_a_torn_one_does_not() {
        let mut content = page(7);
        assert_eq!(writer_of(&content), Some(7));
        content[5000] ^= 1;
        assert_eq!(writer_of(&content), None);
    }

    #[test]
    fn a_line_is_one_line() {
        for number in 1..500 {
            assert!(!line(number, GENESIS).contains('\n'));
        }
    }
}

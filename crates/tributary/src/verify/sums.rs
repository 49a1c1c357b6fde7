//! What both sides compute of rows: the text that is hashed, the bucket of a key, and the sums of a bucket.
//!
//! Owns: that arithmetic as we do it; `source_sums` has the same in SQL.
//! Does not: know where a row comes from, or how a value prints.
//! Holds: two rows have the same text only if they have the same cells: each has its length in front, and a NULL has none. What is long stands for
//! itself by its MD5, so that a cell takes little memory whatever its value.
//! Fails: never.

use md5::{Digest as _, Md5};

/// An MD5.
pub type Hash = [u8; 16];

/// The sums over the rows of one bucket, which do not depend on their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Rows.
    pub rows: i64,
    /// Of the first halves of their hashes, as signed numbers.
    pub first: i128,
    /// Of the second halves.
    pub second: i128,
}

impl Sums {
    /// Adds a row, or takes one away with a sign of -1.
    pub fn add(&mut self, row: &Hash, sign: i64) {
        let halves = u128::from_be_bytes(*row);
        let [first, second] = [halves >> 64, halves & u128::from(u64::MAX)].map(|half| {
            // Half of 128 bits are 64.
            i128::from(u64::try_from(half).unwrap_or(u64::MAX).cast_signed())
        });
        self.rows += sign;
        self.first += first * i128::from(sign);
        self.second += second * i128::from(sign);
    }

    /// Adds other sums.
    pub fn join(&mut self, other: Sums) {
        self.rows += other.rows;
        self.first += other.first;
        self.second += other.second;
    }
}

/// What the length of a text counts: what the server's `length` counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lengths {
    /// Bytes, where the server's encoding is UTF-8, or none.
    Bytes,
    /// Characters, whose bytes are others on the server.
    Characters,
}

/// Appends a cell to the text of a row: its length, then its text or, if that is long, the MD5 of it; `-` for NULL.
pub fn append_cell(cell: Option<&[u8]>, lengths: Lengths, row: &mut Vec<u8>) {
    let Some(text) = cell else { return row.push(b'-') };
    let length = match lengths {
        Lengths::Bytes => text.len(),
        // Those that do not continue a character.
        Lengths::Characters => text.iter().filter(|byte| **byte & 0xC0 != 0x80).count(),
    };
    row.extend_from_slice(length.to_string().as_bytes());
    row.push(b':');
    match length > LONG {
        true => row.extend_from_slice(hex(&hash(text)).as_bytes()),
        false => row.extend_from_slice(text),
    }
}

/// The MD5 of a text.
pub fn hash(text: &[u8]) -> Hash {
    Md5::digest(text).into()
}

/// A hash as Postgres prints it.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    push_hex(bytes, &mut text);
    text
}

fn push_hex(bytes: &[u8], text: &mut String) {
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).unwrap_or('?'));
        }
    }
}

/// The bucket of a row, of this many: by the hash of its key, or of the whole row where there is no key.
pub fn bucket(key: &Hash, buckets: u32) -> u32 {
    let [a, b, c, d, ..] = *key;
    u32::from_be_bytes([a, b, c, d]).checked_rem(buckets).unwrap_or(0)
}

/// A text of more characters or bytes than this stands for itself by its MD5.
pub const LONG: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn text(cells: &[Option<&str>], lengths: Lengths) -> String {
        let mut row = Vec::new();
        cells.iter().for_each(|cell| append_cell(cell.map(str::as_bytes), lengths, &mut row));
        String::from_utf8(row).unwrap()
    }

    #[test]
    fn cells_do_not_run_into_each_other() {
        assert_eq!(text(&[Some("a"), None, Some(""), Some("1:b")], Lengths::Bytes), "1:a-0:3:1:b");
        assert_eq!(text(&[Some("héé")], Lengths::Bytes), "5:héé");
        assert_eq!(text(&[Some("héé")], Lengths::Characters), "3:héé");
        let long = "x".repeat(65);
        assert_eq!(text(&[Some(&long)], Lengths::Bytes), format!("65:{}", hex(&hash(long.as_bytes()))));
        assert_eq!(text(&[Some(&long[..64])], Lengths::Bytes), format!("64:{}", &long[..64]));
    }

    #[test]
    fn sums_do_not_depend_on_the_order_and_can_be_taken_back() {
        let rows: Vec<Hash> = (0_u8..50).map(|row| hash(&[row])).collect();
        let (mut forth, mut back) = (Sums::default(), Sums::default());
        rows.iter().for_each(|row| forth.add(row, 1));
        rows.iter().rev().for_each(|row| back.add(row, 1));
        assert_eq!(forth, back);
        rows.iter().for_each(|row| back.add(row, -1));
        assert_eq!(back, Sums::default());
        let mut extremes = Sums::default();
        extremes.add(&[0xFF; 16], 1);
        extremes.add(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], 1);
        assert_eq!(extremes.first, -1 + i128::from(i64::MIN));
        assert_eq!(extremes.second, -1 + i128::from(i64::MAX));
    }

    #[test]
    fn a_bucket_is_the_first_32_bits() {
        let mut key = [0; 16];
        key[3] = 17;
        assert_eq!((bucket(&key, 10), bucket(&key, 1), bucket(&key, 64)), (7, 0, 17));
        assert_eq!(bucket(&[0xFF; 16], 1 << 16), 0xFFFF);
    }
}

//! Positions in the write-ahead log.
//!
//! Owns: [`Lsn`] and the one interval form of the project, [`LsnRange`] `(from, through]`.
//! Does not: say what a position means; callers qualify it (`commit_lsn`, `end_lsn`, `resume_lsn`).
//! Holds: an `Lsn` prints as Postgres prints it, and parses only what Postgres accepts.
//! Fails: [`ParseLsnError`] on any other text.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A byte position in the write-ahead log.
///
/// Displayed as Postgres displays `pg_lsn`: two hexadecimal halves, `16/B374D848`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The invalid position, which Postgres uses for "none".
    pub const ZERO: Lsn = Lsn(0);

    /// The position as the signed integer that lake columns hold.
    ///
    /// Positions above `i64::MAX` would need 8 EiB of log, so none is ever out of range in practice;
    /// such a value keeps its bit pattern.
    pub fn as_i64(self) -> i64 {
        i64::from_ne_bytes(self.0.to_ne_bytes())
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// A text that is not an LSN.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an LSN, which looks like 16/B374D848")]
pub struct ParseLsnError {
    text: String,
}

impl FromStr for Lsn {
    type Err = ParseLsnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let half = |digits: &str| -> Option<u64> {
            let fits = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
            fits.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
        };
        text.split_once('/')
            .and_then(|(high, low)| Some(Lsn((half(high)? << 32) | half(low)?)))
            .ok_or_else(|| ParseLsnError { text: text.chars().take(40).collect() })
    }
}

impl Serialize for Lsn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Lsn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The interval `(from, through]`: `from` is done, `through` is included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LsnRange {
    /// Exclusive start: everything up to here belongs to somebody before.
    pub from: Lsn,
    /// Inclusive end.
    pub through: Lsn,
}

impl fmt::Display for LsnRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}, {}]", self.from, self.through)
    }
}

#[cfg(test)]
mod tests;

//! Made-up values, as SQL literals.
//!
//! Owns: the generator and the literals of every column kind.
//! Does not: know tables or statements.
//! Holds: literals are quoted; the same seed gives the same values.
//! Fails: never.

use std::fmt::Write as _;

use super::shop::{Kind, calendar};

/// A small fast generator (SplitMix64); nothing here needs more.
#[derive(Clone, Debug)]
pub(super) struct Random {
    state: u64,
}

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// The next 64 bits.
    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`; 0 if that is 0.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % limit).unwrap_or(0)
    }

    /// True once in `times` draws.
    pub(super) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of the choices.
    pub(super) fn pick<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        choices.get(self.below(choices.len()))
    }

    /// An index below `limit` that prefers low ones: half of the draws fall on the first sixteenth.
    pub(super) fn skewed(&mut self, limit: usize) -> usize {
        if self.once_in(2) {
            self.below((limit / 16).max(1)).min(limit.saturating_sub(1))
        } else {
            self.below(limit)
        }
    }

    /// A literal of this kind for a column that may be NULL.
    pub(super) fn literal(&mut self, kind: Kind) -> String {
        if self.once_in(12) {
            return "null".to_owned();
        }
        match kind {
            Kind::Int => low_u32(self.next()).cast_signed().to_string(),
            Kind::BigInt => self.next().cast_signed().saturating_add(1).to_string(),
            Kind::Numeric => self.numeric(),
            Kind::Text => quoted(&self.words()),
            Kind::LongText => self.long_text(),
            Kind::Timestamp => {
                let month = self.below(12 * 80);
                self.timestamp_in(month)
            }
            Kind::Date => {
                let month = self.below(12 * 80);
                self.date_in(month)
            }
            Kind::Bool => if self.once_in(2) { "true" } else { "false" }.to_owned(),
            Kind::Json => self.json(),
            Kind::Uuid => {
                let digits = format!("{:016x}{:016x}", self.next(), self.next());
                format!("'{digits}'")
            }
            Kind::Status => quoted(self.pick(&STATUSES).copied().unwrap_or("new")),
            Kind::IntArray => self.int_array(),
            Kind::Bytes => {
                let length = self.below(40);
                let digits = self.hex(length);
                format!("'\\x{digits}'")
            }
        }
    }

    /// An instant in a month of [`calendar`].
    pub(super) fn timestamp_in(&mut self, month: usize) -> String {
        let (year, month) = calendar(month);
        let (day, hour, minute) = (self.below(28) + 1, self.below(24), self.below(60));
        let (second, micros) = (self.below(60), self.below(1_000_000));
        format!("'{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{micros:06}+00'")
    }

    /// A day in a month of [`calendar`].
    pub(super) fn date_in(&mut self, month: usize) -> String {
        let (year, month) = calendar(month);
        let day = self.below(28) + 1;
        format!("'{year:04}-{month:02}-{day:02}'")
    }

    /// Two hexadecimal digits a byte.
    pub(super) fn hex(&mut self, length: usize) -> String {
        let mut digits = String::with_capacity(length * 2);
        for _ in 0..length {
            let _ = write!(digits, "{:02x}", self.next() & 0xFF);
        }
        digits
    }

    fn numeric(&mut self) -> String {
        let sign = if self.once_in(3) { "-" } else { "" };
        let size = self.pick(&[1, 100, 10_000, 10_000_000_000]).copied().unwrap_or(1);
        let (whole, cents) = (self.below(size), self.below(100));
        format!("{sign}{whole}.{cents:02}")
    }

    fn words(&mut self) -> String {
        let count = self.below(6);
        let words: Vec<&str> = (0..count).filter_map(|_| self.pick(&WORDS).copied()).collect();
        words.join(" ")
    }

    fn long_text(&mut self) -> String {
        let pieces = match self.below(20) {
            0..=7 => return quoted(&self.words()),
            8..=18 => 75 + self.below(50),
            _ => 400,
        };
        format!("shop.prose({}, {pieces})", self.next() >> 2)
    }

    fn json(&mut self) -> String {
        let (count, word, text) = (self.below(1000), self.words(), self.words());
        let price = self.numeric();
        let document =
            serde_json::json!({ "count": count, word: [1, null, text], "nested": { "price": "p" } });
        quoted(&document.to_string().replace("\"p\"", &price))
    }

    fn int_array(&mut self) -> String {
        let count = self.below(5);
        let elements: Vec<String> = (0..count)
            .map(|_| if self.once_in(6) { "NULL".to_owned() } else { (self.next() % 100_000).to_string() })
            .collect();
        format!("'{{{}}}'", elements.join(","))
    }
}

/// A string literal.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn low_u32(bits: u64) -> u32 {
    u32::try_from(bits & 0xFFFF_FFFF).unwrap_or(0)
}

const STATUSES: [&str; 4] = ["new", "paid", "on hold", "it's gone"];

/// Words that naive quoting, splitting or decoding gets wrong.
const WORDS: [&str; 12] = [
    "river",
    "delta",
    "it's",
    "\"quoted\"",
    "naïve",
    "☃",
    "日本語",
    "back\\slash",
    "tab\there",
    "line\nbreak",
    "{a,b}",
    "NULL",
];

#[cfg(test)]
mod tests;

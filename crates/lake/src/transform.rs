//! What of a column's value becomes a partition: Iceberg's transforms, over whole columns.
//!
//! Owns: the transforms, how they are written (`bucket(16, id)`), and the text of their results.
//! Does not: name folders (`layout`), or know a table.
//! Holds: results are those of <https://iceberg.apache.org/spec/#partition-transforms>; NULL becomes NULL, whatever the transform.
//! Fails: with what is allowed, for a text that is no transform; types that a transform does not take are told beforehand.

use std::fmt;
use std::str::FromStr;

use arrow::array::{Array, ArrowPrimitiveType, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, DecimalType, Int32Type, Int64Type, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType,
};

use crate::time;

/// A function of one column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transform {
    /// Years since 1970.
    Year,
    /// Months since January 1970.
    Month,
    /// The date.
    Day,
    /// Hours since 1970.
    Hour,
    /// A hash, in so many buckets.
    Bucket(u32),
    /// Numbers down to a multiple of this; texts to so many characters.
    Truncate(u32),
    /// The value itself.
    Identity,
}

/// A transform and its column, as people write it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PartitionBy {
    /// The transform.
    pub transform: Transform,
    /// The column, by its Postgres name.
    pub column: String,
}

/// What a transform made of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key<'a> {
    /// Of NULL.
    Null,
    /// A number, a date, an unscaled decimal.
    Number(i128),
    /// A text, or its beginning.
    Text(&'a str),
}

impl Transform {
    /// The word that names its results: of `created_at` by day, `created_at_day`.
    pub fn suffix(self) -> &'static str {
        match self {
            Transform::Year => "year",
            Transform::Month => "month",
            Transform::Day => "day",
            Transform::Hour => "hour",
            Transform::Bucket(_) => "bucket",
            Transform::Truncate(_) => "trunc",
            Transform::Identity => "identity",
        }
    }

    /// Whether it takes columns of this type.
    pub fn takes(self, data_type: &DataType) -> bool {
        let is_instant = matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond, _));
        let is_date = *data_type == DataType::Date32;
        let is_number = matches!(data_type, DataType::Int32 | DataType::Int64 | DataType::Decimal128(_, _));
        let is_text = *data_type == DataType::Utf8;
        let is_bytes = matches!(data_type, DataType::Binary | DataType::FixedSizeBinary(_));
        let is_time = *data_type == DataType::Time64(TimeUnit::Microsecond);
        match self {
            Transform::Year | Transform::Month | Transform::Day => is_date || is_instant,
            Transform::Hour => is_instant,
            Transform::Bucket(_) => is_number || is_text || is_date || is_instant || is_bytes || is_time,
            Transform::Truncate(_) => is_number || is_text,
            Transform::Identity => is_number || is_text || is_date || *data_type == DataType::Boolean,
        }
    }

    /// The types that it takes, for people.
    pub fn taken(self) -> &'static str {
        match self {
            Transform::Year | Transform::Month | Transform::Day => "date, timestamp and timestamptz",
            Transform::Hour => "timestamp and timestamptz",
            Transform::Bucket(_) => {
                "integers, decimals, texts, uuid, date, time, timestamp, timestamptz and bytea"
            }
            Transform::Truncate(_) => "integers, decimals and texts",
            Transform::Identity => "integers, decimals, texts, date and boolean",
        }
    }

    /// Of every value of a column; `None` if it does not take the column's type.
    pub fn keys(self, column: &dyn Array) -> Option<Vec<Key<'_>>> {
        let data_type = column.data_type();
        if !self.takes(data_type) {
            return None;
        }
        let keys = match (self, data_type) {
            (Transform::Bucket(count), DataType::Int32) => {
                numbers::<Int32Type>(column, |value| of_bytes(count, &i64::from(value).to_le_bytes()))
            }
            (Transform::Bucket(count), DataType::Date32) => {
                numbers::<Date32Type>(column, |value| of_bytes(count, &i64::from(value).to_le_bytes()))
            }
            (Transform::Bucket(count), DataType::Int64) => {
                numbers::<Int64Type>(column, |value| of_bytes(count, &value.to_le_bytes()))
            }
            (Transform::Bucket(count), DataType::Timestamp(_, _)) => {
                numbers::<TimestampMicrosecondType>(column, |value| of_bytes(count, &value.to_le_bytes()))
            }
            (Transform::Bucket(count), DataType::Time64(_)) => {
                numbers::<Time64MicrosecondType>(column, |value| of_bytes(count, &value.to_le_bytes()))
            }
            (Transform::Bucket(count), DataType::Decimal128(_, _)) => {
                numbers::<Decimal128Type>(column, |value| of_decimal(count, value))
            }
            (Transform::Bucket(count), DataType::Utf8) => {
                hashed(column.as_string::<i32>().iter().map(|text| text.map(str::as_bytes)), count)
            }
            (Transform::Bucket(count), DataType::Binary) => hashed(column.as_binary::<i32>().iter(), count),
            (Transform::Bucket(count), DataType::FixedSizeBinary(_)) => {
                hashed(column.as_fixed_size_binary().iter(), count)
            }
            (_, DataType::Timestamp(_, _)) => {
                numbers::<TimestampMicrosecondType>(column, |micros| i128::from(self.of_instant(micros)))
            }
            (Transform::Year | Transform::Month | Transform::Day, DataType::Date32) => {
                numbers::<Date32Type>(column, |day| i128::from(self.of_instant(i64::from(day) * DAY_MICROS)))
            }
            (_, DataType::Date32) => numbers::<Date32Type>(column, i128::from),
            (_, DataType::Int32) => numbers::<Int32Type>(column, |value| self.cut(i128::from(value))),
            (_, DataType::Int64) => numbers::<Int64Type>(column, |value| self.cut(i128::from(value))),
            (_, DataType::Decimal128(_, _)) => numbers::<Decimal128Type>(column, |value| self.cut(value)),
            (_, DataType::Boolean) => {
                let of = |value: bool| Key::Number(i128::from(value));
                column.as_boolean().iter().map(|value| value.map_or(Key::Null, of)).collect()
            }
            (_, DataType::Utf8) => {
                let of = |text| Key::Text(self.beginning(text));
                column.as_string::<i32>().iter().map(|text| text.map_or(Key::Null, of)).collect()
            }
            (_, _) => return None,
        };
        Some(keys)
    }

    /// A result as text, in Iceberg's words: `2026-11-24-10`, `3`, `14.20`. `None` for NULL.
    pub fn text(self, data_type: &DataType, key: Key<'_>) -> Option<String> {
        let number = match key {
            Key::Null => return None,
            Key::Text(text) => return Some(text.to_owned()),
            Key::Number(number) => number,
        };
        let unit = i64::try_from(number).unwrap_or_default();
        Some(match (self, data_type) {
            (Transform::Year, _) => format!("{:04}", EPOCH_YEAR + unit),
            (Transform::Month, _) => {
                format!("{:04}-{:02}", EPOCH_YEAR + unit.div_euclid(12), unit.rem_euclid(12) + 1)
            }
            (Transform::Hour, _) => format!("{}-{:02}", date(unit.div_euclid(24)), unit.rem_euclid(24)),
            (Transform::Day, _) | (Transform::Identity, DataType::Date32) => date(unit),
            (Transform::Identity, DataType::Boolean) => (number != 0).to_string(),
            (Transform::Identity | Transform::Truncate(_), DataType::Decimal128(precision, scale)) => {
                Decimal128Type::format_decimal(number, *precision, *scale)
            }
            (Transform::Bucket(_) | Transform::Truncate(_) | Transform::Identity, _) => number.to_string(),
        })
    }

    /// Of microseconds since 1970; before it, downwards too.
    fn of_instant(self, micros: i64) -> i64 {
        let day = micros.div_euclid(DAY_MICROS);
        match self {
            Transform::Year => time::date_of_day(day).year - EPOCH_YEAR,
            Transform::Month => {
                let date = time::date_of_day(day);
                (date.year - EPOCH_YEAR) * 12 + date.month - 1
            }
            Transform::Hour => micros.div_euclid(HOUR_MICROS),
            Transform::Day | Transform::Bucket(_) | Transform::Truncate(_) | Transform::Identity => day,
        }
    }

    fn cut(self, value: i128) -> i128 {
        match self {
            Transform::Truncate(width) => value - value.rem_euclid(i128::from(width.max(1))),
            Transform::Year
            | Transform::Month
            | Transform::Day
            | Transform::Hour
            | Transform::Bucket(_)
            | Transform::Identity => value,
        }
    }

    fn beginning(self, text: &str) -> &str {
        let Transform::Truncate(width) = self else { return text };
        let end = usize::try_from(width).ok().and_then(|width| text.char_indices().nth(width));
        end.and_then(|(end, _)| text.get(..end)).unwrap_or(text)
    }
}

fn numbers<'a, T: ArrowPrimitiveType>(column: &'a dyn Array, of: impl Fn(T::Native) -> i128) -> Vec<Key<'a>> {
    let values = column.as_primitive::<T>().iter();
    values.map(|value| value.map_or(Key::Null, |value| Key::Number(of(value)))).collect()
}

fn hashed<'a, 'v>(values: impl Iterator<Item = Option<&'v [u8]>>, count: u32) -> Vec<Key<'a>> {
    values.map(|bytes| bytes.map_or(Key::Null, |bytes| Key::Number(of_bytes(count, bytes)))).collect()
}

fn date(day: i64) -> String {
    let date = time::date_of_day(day);
    format!("{:04}-{:02}-{:02}", date.year, date.month, date.day)
}

/// The bucket of a value in Iceberg's serialisation of single values.
fn of_bytes(count: u32, bytes: &[u8]) -> i128 {
    i128::from((murmur3(bytes) & 0x7fff_ffff) % count.max(1))
}

/// An unscaled decimal hashes as the fewest bytes, big end first, that hold it with its sign.
fn of_decimal(count: u32, value: i128) -> i128 {
    let bytes = value.to_be_bytes();
    let mut rest = bytes.as_slice();
    while let [first, more @ ..] = rest
        && let Some(next) = more.first()
        && (*first == 0x00 && *next < 0x80 || *first == 0xff && *next >= 0x80)
    {
        rest = more;
    }
    of_bytes(count, rest)
}

/// MurmurHash3, x86 variant of 32 bits, seed 0.
fn murmur3(bytes: &[u8]) -> u32 {
    let scramble = |block: u32| block.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let (blocks, tail) = bytes.as_chunks::<4>();
    let mut hash = 0_u32;
    for block in blocks {
        hash = (hash ^ scramble(u32::from_le_bytes(*block))).rotate_left(13);
        hash = hash.wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    let mut last = [0; 4];
    last.iter_mut().zip(tail).for_each(|(to, from)| *to = *from);
    hash ^= scramble(u32::from_le_bytes(last));
    hash ^= u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

impl FromStr for PartitionBy {
    type Err = String;

    fn from_str(text: &str) -> Result<PartitionBy, String> {
        let wrong = |what: &str| format!("`{text}`: {what}; there are {TRANSFORMS}");
        let inner = text.trim().strip_suffix(')').and_then(|rest| rest.split_once('('));
        let (word, inner) = inner.ok_or_else(|| wrong("this is no transform"))?;
        let numbered = |max: u32| {
            let (number, column) = inner.split_once(',').ok_or_else(|| wrong("a number comes first"))?;
            let number: u32 = number.trim().parse().map_err(|_| wrong("a number comes first"))?;
            if !(1..=max).contains(&number) {
                return Err(wrong(&format!("{number} is not between 1 and {max}")));
            }
            Ok((number, column))
        };
        let (transform, column) = match word.trim() {
            "year" => (Transform::Year, inner),
            "month" => (Transform::Month, inner),
            "day" => (Transform::Day, inner),
            "hour" => (Transform::Hour, inner),
            "identity" => (Transform::Identity, inner),
            "bucket" => {
                let (count, column) = numbered(BUCKETS_MAX)?;
                (Transform::Bucket(count), column)
            }
            "truncate" => {
                let (width, column) = numbered(WIDTH_MAX)?;
                (Transform::Truncate(width), column)
            }
            other => return Err(wrong(&format!("there is no transform `{other}`"))),
        };
        let column = column.trim();
        if column.is_empty() {
            return Err(wrong("it names no column"));
        }
        Ok(PartitionBy { transform, column: column.to_owned() })
    }
}

impl fmt::Display for PartitionBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let column = &self.column;
        match self.transform {
            Transform::Year => write!(f, "year({column})"),
            Transform::Month => write!(f, "month({column})"),
            Transform::Day => write!(f, "day({column})"),
            Transform::Hour => write!(f, "hour({column})"),
            Transform::Bucket(count) => write!(f, "bucket({count}, {column})"),
            Transform::Truncate(width) => write!(f, "truncate({width}, {column})"),
            Transform::Identity => write!(f, "identity({column})"),
        }
    }
}

const TRANSFORMS: &str =
    "year(c), month(c), day(c), hour(c), bucket(n, c), truncate(width, c) and identity(c)";
const EPOCH_YEAR: i64 = 1970;
const HOUR_MICROS: i64 = 3_600_000_000;
const DAY_MICROS: i64 = 24 * HOUR_MICROS;
/// More buckets than these were never meant.
const BUCKETS_MAX: u32 = 100_000;
/// Iceberg's widths are positive integers of 32 bits, signed.
const WIDTH_MAX: u32 = 0x7fff_ffff;

#[cfg(test)]
mod tests;

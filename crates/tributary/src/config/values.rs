//! Values that are written with a unit, as pairs, or must not be shown.
//!
//! Owns: [`ByteSize`], durations, [`Forms`], and [`ConnectionUrl`].
//! Does not: know which values a key allows.
//! Holds: a number without a unit is refused; a URL prints without its password.
//! Fails: with what is wrong, as serde's error.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use lake::transform::PartitionBy;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::source::ConnectOptions;

/// A number of bytes, written `128MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

impl ByteSize {
    /// So many bytes.
    pub const fn new(bytes: u64) -> ByteSize {
        ByteSize(bytes)
    }

    /// As people read it, with one decimal: `12.3 MiB`.
    pub fn rounded(self) -> String {
        let units = [("TiB", 40_u32), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        match units.iter().find(|(_, shift)| self.0 >> shift > 0) {
            Some((unit, shift)) => {
                // One decimal in integers: the tenths of what is left over.
                let tenths = (u128::from(self.0) * 10) >> shift;
                format!("{}.{} {unit}", tenths / 10, tenths % 10)
            }
            None => format!("{} B", self.0),
        }
    }

    /// Multiples of 2^10 bytes.
    pub const fn kibibytes(count: u64) -> ByteSize {
        ByteSize(count << 10)
    }

    /// Multiples of 2^20 bytes.
    pub const fn mebibytes(count: u64) -> ByteSize {
        ByteSize(count << 20)
    }

    /// The number of bytes.
    pub fn as_u64(self) -> u64 {
        self.0
    }

    /// The number of bytes, for sizes in memory.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let largest = SIZES.iter().find(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes));
        match largest {
            Some((unit, bytes)) => write!(f, "{}{unit}", self.0 / bytes),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
        let text = String::deserialize(deserializer).map_err(|_| D::Error::custom(SIZE_FORM))?;
        let bytes = split_unit(&text).and_then(|(number, unit)| {
            let bytes = SIZES.iter().find(|(name, _)| *name == unit).map(|(_, bytes)| *bytes)?;
            number.checked_mul(bytes)
        });
        bytes.map(ByteSize).ok_or_else(|| D::Error::custom(format!("`{text}`: {SIZE_FORM}")))
    }
}

/// Reads a duration such as `60s`.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer).map_err(|_| D::Error::custom(DURATION_FORM))?;
    let duration = split_unit(&text).and_then(|(number, unit)| {
        let millis = DURATIONS.iter().find(|(name, _)| *name == unit).map(|(_, millis)| *millis)?;
        number.checked_mul(millis).map(Duration::from_millis)
    });
    duration.ok_or_else(|| D::Error::custom(format!("`{text}`: {DURATION_FORM}")))
}

/// Reads a list of transforms: `["day(created_at)"]`. An element that is none is told at its own place.
pub(super) fn transforms<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<PartitionBy>>, D::Error> {
    Ok(Some(Vec::<Transform>::deserialize(deserializer)?.into_iter().map(|Transform(by)| by).collect()))
}

struct Transform(PartitionBy);

impl<'de> Deserialize<'de> for Transform {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Transform, D::Error> {
        String::deserialize(deserializer)?.parse().map(Transform).map_err(D::Error::custom)
    }
}

/// Forms by type or column. From the environment: `numeric=double, uuid=native`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forms(BTreeMap<String, String>);

impl Forms {
    /// The type or column, and its form.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, form)| (key.as_str(), form.as_str()))
    }

    /// From one text; the comma of `decimal(38,9)` separates nothing.
    fn of_text(text: &str) -> Option<Forms> {
        let mut depth = 0_usize;
        let pairs = text.split(|letter: char| {
            match letter {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            letter == ',' && depth == 0
        });
        let pairs = pairs.map(str::trim).filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (key, form) = pair.rsplit_once('=')?;
            Some((key.trim().to_owned(), form.trim().to_owned()))
        };
        pairs.map(pair).collect::<Option<_>>().map(Forms)
    }
}

impl<'de> Deserialize<'de> for Forms {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Forms, D::Error> {
        deserializer.deserialize_any(FormsVisitor)
    }
}

struct FormsVisitor;

impl<'de> Visitor<'de> for FormsVisitor {
    type Value = Forms;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Forms, E> {
        Forms::of_text(text).ok_or_else(|| E::custom("pairs are wanted: \"numeric=double, uuid=native\""))
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Forms, M::Error> {
        let mut forms = BTreeMap::new();
        while let Some((key, form)) = map.next_entry()? {
            forms.insert(key, form);
        }
        Ok(Forms(forms))
    }
}

/// Where entries of maps were written: a file with line and column, or a variable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Places(BTreeMap<(&'static str, String), String>);

impl Places {
    pub(super) fn note(&mut self, section: &'static str, key: &str, place: Option<String>) {
        self.0.extend(place.map(|place| ((section, key.to_owned()), place)));
    }

    pub(super) fn of(&self, section: &'static str, key: &str) -> Option<&str> {
        self.0.get(&(section, key.to_owned())).map(String::as_str)
    }
}

/// A libpq URL. Prints as the server that it names.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct ConnectionUrl(String);

impl ConnectionUrl {
    /// The URL as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it holds a password.
    pub fn has_password(&self) -> bool {
        self.password().is_some()
    }

    /// The password of the user part, or everything after a `password` parameter.
    fn password(&self) -> Option<&str> {
        let rest = self.0.split_once("://").map_or(self.0.as_str(), |(_, rest)| rest);
        let (authority, query) = match rest.find(['/', '?']) {
            Some(end) => rest.split_at(end),
            None => (rest, ""),
        };
        let user_part = authority
            .rsplit_once('@')
            .and_then(|(user, _)| user.split_once(':'))
            .map(|(_, password)| password);
        let parameter = query.split_once("password=").map(|(_, rest)| rest.split('&').next().unwrap_or(rest));
        user_part.or(parameter).filter(|password| !password.is_empty())
    }
}

impl From<&str> for ConnectionUrl {
    fn from(url: &str) -> ConnectionUrl {
        ConnectionUrl(url.to_owned())
    }
}

/// Where a password ends can only be told of a URL that is written as it should be, so of others nothing is shown.
impl fmt::Debug for ConnectionUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ConnectOptions::parse(&self.0, None) {
            Ok(options) => write!(f, "postgresql://{}", options.address()),
            Err(_) => f.write_str("postgresql://***"),
        }
    }
}

/// `60s` as its number and its unit; a space in between is allowed.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim_start()))
}

/// Largest first, so that a size prints in the largest unit that divides it.
const SIZES: [(&str, u64); 8] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];
const DURATIONS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZE_FORM: &str = "a size is a text with a unit: \"128MiB\", \"1GiB\", \"512KiB\"";
const DURATION_FORM: &str = "a duration is a text with a unit: \"500ms\", \"60s\", \"5m\", \"1h\"";

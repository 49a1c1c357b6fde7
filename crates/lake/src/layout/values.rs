//! Folders that are named by the values of their rows.
//!
//! Owns: how a value is written into a path, and its length there.
//! Does not: compute a value (`transform`).
//! Holds: paths are Hive's: NULL and the empty text share `__HIVE_DEFAULT_PARTITION__`, what a path cannot hold is `%XX`. A value that is too
//! long is cut, and has a hash at its end.
//! Fails: never.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// The values that all rows of a folder have, by key, from the outermost folder to the innermost.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Values(Vec<(String, Option<String>)>);

impl Values {
    /// These, as far as a path holds them.
    pub fn new(values: Vec<(String, Option<String>)>) -> Values {
        Values(values.into_iter().map(|(key, value)| (key, value.map(bounded))).collect())
    }

    /// `created_at_day=2026-08-01/id_bucket=3`
    pub(super) fn path(&self) -> String {
        let folders: Vec<String> = self.0.iter().map(|(key, value)| folder(key, value.as_deref())).collect();
        folders.join("/")
    }
}

fn folder(key: &str, value: Option<&str>) -> String {
    match value {
        None | Some("") => format!("{key}={DEFAULT}"),
        Some(DEFAULT) => format!("{key}=%5F{}", DEFAULT.strip_prefix('_').unwrap_or(DEFAULT)),
        Some(value) => format!("{key}={}", escaped(value)),
    }
}

/// Beyond ASCII Hive escapes nothing, and its readers take `%XX` for characters and not for bytes.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for letter in value.chars() {
        if letter.is_ascii_control() || ESCAPED.contains(letter) {
            text.push_str(&format!("%{:02X}", u32::from(letter)));
        } else {
            text.push(letter);
        }
    }
    text
}

/// A value that a path has no room for: its beginning, and a hash of all of it.
fn bounded(value: String) -> String {
    if escaped_bytes(&value) <= VALUE_BYTES_MAX {
        return value;
    }
    let mut room = VALUE_BYTES_MAX - HASH_DIGITS - 1;
    let is_in = |letter: &char| {
        let left = room.checked_sub(escaped_bytes(letter.encode_utf8(&mut [0; 4])));
        room = left.unwrap_or(0);
        left.is_some()
    };
    let beginning: String = value.chars().take_while(is_in).collect();
    let hash: String = Sha256::digest(value.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{beginning}-{}", hash.chars().take(HASH_DIGITS).collect::<String>())
}

fn escaped_bytes(text: &str) -> usize {
    let bytes = |letter: char| {
        if letter.is_ascii_control() || ESCAPED.contains(letter) { 3 } else { letter.len_utf8() }
    };
    text.chars().map(bytes).sum()
}

impl Serialize for Values {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Values, D::Error> {
        deserializer.deserialize_map(InOrder)
    }
}

/// Reads a map as the list that it was.
struct InOrder;

impl<'de> Visitor<'de> for InOrder {
    type Value = Values;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("values by key")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Values, M::Error> {
        let mut values = Vec::new();
        while let Some(entry) = map.next_entry()? {
            values.push(entry);
        }
        Ok(Values(values))
    }
}

/// The folder of NULL in Hive.
const DEFAULT: &str = "__HIVE_DEFAULT_PARTITION__";
/// What Hive and Spark escape, beside control characters.
const ESCAPED: &str = "\"#%'*/:=?\\{[]^";
/// In the path. File systems end names at 255 bytes, S3 keys at 1,024: four such levels leave room for the rest.
const VALUE_BYTES_MAX: usize = 100;
/// 64 bits tell the long values of one table apart.
const HASH_DIGITS: usize = 16;

//! The forms that a type can have in the lake, as the configuration spells them.
//!
//! Owns: the forms and their spelling.
//! Does not: know which form fits which type (`codec`), or which one is chosen (`rules`).
//! Holds: what [`Form`] prints, it reads.
//! Fails: [`UnknownForm`], with the nearest spelling left to the caller.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A form of a type in the lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// The exact text that Postgres prints.
    String,
    /// A decimal.
    Decimal {
        /// Digits in all.
        precision: u8,
        /// Digits after the point.
        scale: i8,
    },
    /// The nearest double.
    Double,
    /// A 64-bit integer.
    Long,
    /// Text without the blanks at its end.
    Trim,
    /// Bytes.
    Binary,
    /// Bytes as base64.
    Base64,
    /// What is out of range becomes the bound.
    Clamp,
    /// What is out of range becomes NULL.
    Null,
    /// What is out of range stops the daemon.
    Error,
    /// The type `time`.
    Time,
    /// Microseconds since midnight.
    Micros,
    /// A struct.
    Struct,
    /// ISO 8601.
    Iso8601,
    /// The type `uuid`.
    Native,
    /// JSON text.
    Json,
    /// A list.
    List,
    /// A list of structs.
    ListOfStructs,
    /// A map.
    Map,
}

/// No form is spelled so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownForm;

impl Form {
    /// Every form; the decimal stands for all decimals.
    pub fn all() -> impl Iterator<Item = Form> {
        let decimal = Form::Decimal { precision: DECIMAL_PRECISION_MAX, scale: 0 };
        SPELLINGS.iter().map(|(_, form)| *form).chain([decimal])
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Form::Decimal { precision, scale } = self {
            return write!(f, "decimal({precision},{scale})");
        }
        let spelling = SPELLINGS.iter().find(|(_, form)| form == self).map(|(spelling, _)| *spelling);
        f.write_str(spelling.unwrap_or_default())
    }
}

impl FromStr for Form {
    type Err = UnknownForm;

    fn from_str(text: &str) -> Result<Form, UnknownForm> {
        if let Some(numbers) = text.strip_prefix("decimal(").and_then(|rest| rest.strip_suffix(')')) {
            let (precision, scale) = numbers.split_once(',').ok_or(UnknownForm)?;
            let number = |text: &str| text.trim().parse::<u8>().map_err(|_| UnknownForm);
            let (precision, scale) = (number(precision)?, number(scale)?);
            if !(1..=DECIMAL_PRECISION_MAX).contains(&precision) || scale > precision {
                return Err(UnknownForm);
            }
            return Ok(Form::Decimal { precision, scale: i8::try_from(scale).map_err(|_| UnknownForm)? });
        }
        // What people call a string.
        let text = if text == "text" { "string" } else { text };
        SPELLINGS.iter().find(|(spelling, _)| *spelling == text).map(|(_, form)| *form).ok_or(UnknownForm)
    }
}

/// What Parquet, Iceberg and every engine have.
pub(crate) const DECIMAL_PRECISION_MAX: u8 = 38;

/// Every form but decimals.
const SPELLINGS: [(&str, Form); 18] = [
    ("string", Form::String),
    ("double", Form::Double),
    ("long", Form::Long),
    ("trim", Form::Trim),
    ("binary", Form::Binary),
    ("base64", Form::Base64),
    ("clamp", Form::Clamp),
    ("null", Form::Null),
    ("error", Form::Error),
    ("time", Form::Time),
    ("micros", Form::Micros),
    ("struct", Form::Struct),
    ("iso8601", Form::Iso8601),
    ("native", Form::Native),
    ("json", Form::Json),
    ("list", Form::List),
    ("list<struct>", Form::ListOfStructs),
    ("map", Form::Map),
];

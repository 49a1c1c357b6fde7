//! Parquet cells as comparable text, and their fingerprints.
//!
//! Owns: the rendering of every Arrow type that the demo's tables land in.
//! Does not: share code with the daemon's writer; it is a second opinion.
//! Holds: a cell renders to exactly what [`super::shop::Column::comparable_sql`] gives for the same value.
//! Fails: [`Error`] for a type that the demo's tables have no reason to have.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hasher as _};

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};

use crate::error::{Error, Result};

/// What is kept of a cell: 64 bits of its text, or NULL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fingerprint(u64);

impl Fingerprint {
    /// The absence of a value.
    pub(super) const NULL: Fingerprint = Fingerprint(0);

    /// The fingerprint of a cell's text.
    pub(super) fn of(text: Option<&str>) -> Fingerprint {
        let Some(text) = text else { return Fingerprint::NULL };
        let mut hasher = DefaultHasher::new();
        hasher.write(text.as_bytes());
        Fingerprint(hasher.finish().max(1))
    }
}

/// Writes a cell's text into `text` (cleared first); false if it is NULL.
pub(super) fn render(column: &dyn Array, row: usize, text: &mut String) -> Result<bool> {
    text.clear();
    if column.is_null(row) {
        return Ok(false);
    }
    let rendered = match column.data_type() {
        DataType::Boolean => column.as_boolean_opt().map(|cells| write!(text, "{}", cells.value(row))),
        DataType::Int32 => {
            column.as_primitive_opt::<Int32Type>().map(|cells| write!(text, "{}", cells.value(row)))
        }
        DataType::Int64 => {
            column.as_primitive_opt::<Int64Type>().map(|cells| write!(text, "{}", cells.value(row)))
        }
        DataType::Date32 => {
            column.as_primitive_opt::<Date32Type>().map(|cells| write!(text, "{}", cells.value(row)))
        }
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => column
            .as_primitive_opt::<TimestampMicrosecondType>()
            .map(|cells| write!(text, "{}", cells.value(row))),
        DataType::Decimal128(_, scale) => column
            .as_primitive_opt::<Decimal128Type>()
            .map(|cells| write_decimal(text, cells.value(row), usize::try_from(*scale).unwrap_or(0))),
        DataType::Utf8 => column.as_string_opt::<i32>().map(|cells| text.write_str(cells.value(row))),
        DataType::Binary => column
            .as_binary_opt::<i32>()
            .map(|cells| cells.value(row).iter().try_for_each(|byte| write!(text, "{byte:02x}"))),
        DataType::List(_) => {
            let Some(lists) = column.as_list_opt::<i32>() else { return Err(unexpected(column)) };
            write_list(text, lists.value(row).as_ref())?;
            Some(Ok(()))
        }
        _ => None,
    };
    match rendered {
        Some(Ok(())) => Ok(true),
        Some(Err(_)) | None => Err(unexpected(column)),
    }
}

/// As Postgres prints a numeric of this scale.
fn write_decimal(text: &mut String, value: i128, scale: usize) -> std::fmt::Result {
    let digits = format!("{:0width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at_checked(digits.len() - scale).unwrap_or((&digits, ""));
    let sign = if value < 0 { "-" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    write!(text, "{sign}{whole}{point}{fraction}")
}

/// As `array_to_json` prints an array of numbers.
fn write_list(text: &mut String, elements: &dyn Array) -> Result<()> {
    let mut element = String::new();
    let mut parts = Vec::with_capacity(elements.len());
    for index in 0..elements.len() {
        let there = render(elements, index, &mut element)?;
        parts.push(if there { element.clone() } else { "null".to_owned() });
    }
    text.push('[');
    text.push_str(&parts.join(","));
    text.push(']');
    Ok(())
}

fn unexpected(column: &dyn Array) -> Error {
    Error::definite(format!(
        "a Parquet column of type {} has no place in the demo's tables",
        column.data_type()
    ))
}

#[cfg(test)]
mod tests;

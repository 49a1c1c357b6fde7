//! Why a cell's exact text stands in `_cdc_raw`.
//!
//! Owns: the reasons, and their names in metrics and errors.
//! Does not: decide when one applies (`text`, `binary`, `columns`).
//! Holds: the names never change, since people alert on them.
//! Fails: never.

use std::fmt;

/// What the lake type cannot hold of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Loss {
    /// It is beyond the least or greatest value.
    OutOfRange,
    /// It is infinite.
    Infinity,
    /// It is not a number.
    NotANumber,
    /// It has more digits than fit.
    Precision,
    /// It is an array of more dimensions than a list has.
    NestedArray,
    /// Its first subscript is not 1.
    LowerBound,
    /// Its length in bits is not a whole number of bytes.
    BitWidth,
    /// Its spatial reference is another one than the column's.
    Srid,
    /// It has another shape than its type had: fields of a row type, or a kind of geometry that is not known.
    Shape,
    /// Its bytes are not text.
    InvalidEncoding,
}

impl Loss {
    /// All of them.
    pub const ALL: [Loss; 10] = [
        Loss::OutOfRange,
        Loss::Infinity,
        Loss::NotANumber,
        Loss::Precision,
        Loss::NestedArray,
        Loss::LowerBound,
        Loss::BitWidth,
        Loss::Srid,
        Loss::Shape,
        Loss::InvalidEncoding,
    ];

    /// Its name in metrics and errors.
    pub fn label(self) -> &'static str {
        match self {
            Loss::OutOfRange => "out_of_range",
            Loss::Infinity => "infinity",
            Loss::NotANumber => "nan",
            Loss::Precision => "precision",
            Loss::NestedArray => "nested_array",
            Loss::LowerBound => "lower_bound",
            Loss::BitWidth => "bit_width",
            Loss::Srid => "srid",
            Loss::Shape => "shape",
            Loss::InvalidEncoding => "invalid_encoding",
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

//! Columns in a form that only few have: structs, maps, bytes of another kind, numbers instead of text.
//!
//! Owns: the builders of these forms, and the way of a cell into them.
//! Does not: know which column has which form (`types`), or read what `forms` reads.
//! Holds: a cell lands the same, whether it came as text or as binary; where only the text form has a reader, a binary
//! cell is rendered first.
//! Fails: as the builders of `columns` do.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, Decimal128Builder, FixedSizeBinaryBuilder, Float64Builder, Int64Builder, MapArray,
    NullBufferBuilder, StringBuilder, StructArray, Time64MicrosecondBuilder,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, FieldRef, Fields};
use arrow::error::ArrowError;
use pgoutput::Cell;

use super::{
    Bounds, ColumnBuilder, EXACT, Landed, ListBuilder, Refusal, json, loss_of_bounds, put, put_bytes, put_text, render,
    reserve,
};
use crate::binary;
use crate::forms;
use crate::text::{self, Held, MICROS_PER_DAY, Malformed};
use crate::types::{Codec, Form, Loss};

/// A column in such a form.
pub(crate) struct Shaped {
    kind: Kind,
    /// Texts and bytes on their way.
    scratch: Vec<u8>,
    rendered: Vec<u8>,
}

enum Kind {
    /// `numeric` as the nearest double.
    Double(Float64Builder),
    Money(Decimal128Builder, u8),
    Xid8(Decimal128Builder, u8),
    PgLsn(Int64Builder),
    Micros(Int64Builder),
    Time(Time64MicrosecondBuilder),
    Uuid(FixedSizeBinaryBuilder),
    /// `char(n)` without the blanks at its end.
    Trim(StringBuilder),
    Base64(StringBuilder),
    Bits {
        builder: BinaryBuilder,
        has_width: bool,
    },
    Iso8601(StringBuilder),
    Json(StringBuilder, Codec),
    Interval(Parts),
    Point(Parts),
    Sparsevec(Parts),
    Range(Parts, Codec),
    Multirange(ListBuilder, Codec),
    Record(Parts, Codec),
    Vector(ListBuilder),
    Halfvec(ListBuilder),
    Hstore(Box<Pairs>),
    Wkb {
        builder: BinaryBuilder,
        srid: i32,
    },
    /// A form that the type does not have, which only a damaged schema says.
    Nothing,
}

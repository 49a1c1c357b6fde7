//! What the first rows of a file say of its columns, before the writer has to know.
//!
//! Owns: looking at rows that are spread over a batch.
//! Does not: choose encodings or sizes (`parquet`).
//! Holds: it takes less time than encoding a few hundred of the rows.
//! Fails: never; of a column that cannot be looked at, nothing is known.

use arrow::array::{Array, AsArray as _, RecordBatch};
use arrow::datatypes::DataType;
use rustc_hash::FxHashSet;

/// What a column looks like; nothing of it is known for lists, maps and structs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sample {
    /// What a value takes in plain encoding.
    pub(super) value_bytes: Option<usize>,
    /// Hardly any value comes twice.
    pub(super) is_diverse: bool,
}

/// Of every column of a batch.
pub(super) fn samples(batch: &RecordBatch) -> Vec<Sample> {
    batch.columns().iter().map(|column| sample(column.as_ref())).collect()
}

fn sample(column: &dyn Array) -> Sample {
    match column.data_type() {
        DataType::Utf8 => {
            let texts = column.as_string::<i32>();
            look(column, length(texts.value_offsets()), |row| Some(texts.value(row).as_bytes()))
        }
        DataType::Binary => {
            let texts = column.as_binary::<i32>();
            look(column, length(texts.value_offsets()), |row| Some(texts.value(row)))
        }
        // Too small to be a matter of size, and of two values.
        DataType::Boolean => Sample { value_bytes: Some(1), is_diverse: false },
        DataType::FixedSizeBinary(_) => {
            let values = column.as_fixed_size_binary();
            let width = usize::try_from(values.value_length()).ok();
            Sample { value_bytes: width, ..look(column, 0, |row| Some(values.value(row))) }
        }
        data_type => {
            let Some(width) = data_type.primitive_width() else { return Sample::default() };
            let data = column.to_data();
            let values = data.buffers().first().map_or(&[][..], |buffer| buffer.as_slice());
            let value = |row: usize| values.get((data.offset() + row) * width..)?.get(..width);
            Sample { value_bytes: Some(width), ..look(column, 0, value) }
        }
    }
}

/// Of all texts together, of which an array may be a part.
fn length(offsets: &[i32]) -> usize {
    match (offsets.first(), offsets.last()) {
        (Some(first), Some(last)) => usize::try_from(last - first).unwrap_or(0),
        _ => 0,
    }
}

fn look<'a>(column: &dyn Array, text_bytes: usize, value: impl Fn(usize) -> Option<&'a [u8]>) -> Sample {
    let rows = column.len();
    let value_bytes = text_bytes.checked_div(rows).map(|bytes| bytes + LENGTH_BYTES);
    let step = rows.div_ceil(ROWS_MAX).max(1);
    let looked_at = (0..rows).step_by(step).filter(|row| column.is_valid(*row));
    let mut distinct = FxHashSet::default();
    let mut values = 0;
    for value in looked_at.filter_map(value) {
        distinct.insert(value);
        values += 1;
    }
    Sample { value_bytes, is_diverse: values >= VALUES_MIN && distinct.len() * 4 > values * 3 }
}

/// Rows that are looked at. If three of four of them have a value of their own, there are about as many values as a dictionary holds.
const ROWS_MAX: usize = 1024;
/// Of fewer values nothing can be said.
const VALUES_MIN: usize = 512;
/// Before every text.
const LENGTH_BYTES: usize = 4;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BooleanArray, Int32Array, Int64Array, StringArray};

    use super::*;

    fn sample_of(column: impl Array + 'static) -> Sample {
        let column: ArrayRef = Arc::new(column);
        let batch = RecordBatch::try_from_iter([("c", column)]).unwrap();
        samples(&batch)[0]
    }

    #[test]
    fn values_that_repeat_are_told_from_those_that_do_not() {
        let numbers = |rows: i64, distinct: i64| {
            sample_of(Int64Array::from_iter_values((0..rows).map(|row| row * 0x9E37_79B9 % distinct)))
        };
        assert_eq!(numbers(30_000, 1 << 40), Sample { value_bytes: Some(8), is_diverse: true });
        assert_eq!(numbers(30_000, 500), Sample { value_bytes: Some(8), is_diverse: false });
        // Nothing is said of few.
        assert!(!numbers(511, 1 << 40).is_diverse && numbers(512, 1 << 40).is_diverse);
        let texts = |distinct| {
            sample_of(StringArray::from_iter_values((0..9_000).map(|n| format!("{:05}", n % distinct))))
        };
        assert_eq!(texts(9_000), Sample { value_bytes: Some(9), is_diverse: true });
        assert_eq!(texts(100), Sample { value_bytes: Some(9), is_diverse: false });
    }

    #[test]
    fn nulls_are_no_values_and_slices_have_their_own() {
        let mostly_null = Int32Array::from_iter((0..5_000).map(|row| (row % 10 == 0).then_some(row)));
        assert!(!sample_of(mostly_null).is_diverse);
        let two_halves =
            Int64Array::from_iter_values((0..4_000).map(|row| if row < 2_000 { 0 } else { row }));
        assert!(sample_of(two_halves.slice(2_000, 2_000)).is_diverse);
        assert!(!sample_of(two_halves.slice(0, 2_000)).is_diverse);
        assert!(!sample_of(BooleanArray::from(vec![true; 900])).is_diverse);
        assert!(!sample_of(Int64Array::from(Vec::<i64>::new())).is_diverse);
    }
}

//! Rows of one batch, apart by the folders that they go to.
//!
//! Owns: which rows have the same values, and what is said of each part.
//! Does not: encode, or open files.
//! Holds: works by columns: transforms, then the numbers of the rows part by part, then one copy of the batch. The order of rows stays within a part.
//! Fails: with a column that is not in the batch, or is of a type that its transform does not take, which is a bug.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{max, min, take_record_batch};
use arrow::datatypes::{DataType, Int64Type, TimestampMicrosecondType};
use arrow::error::ArrowError;
use pgoutput::Lsn;
use rustc_hash::FxHashMap;

use super::Rows;
use crate::gauge::{Gauge, Reservation};
use crate::layout::{Partition, PartitionField, PartitionSpec, Values};
use crate::transform::Key;

/// Rows that go to one folder.
pub(super) struct Part {
    pub(super) partition: Partition,
    pub(super) rows: Rows,
}

/// What transforms made of one column.
struct KeyColumn<'b> {
    field: &'b PartitionField,
    data_type: &'b DataType,
    keys: Vec<Key<'b>>,
}

/// Takes rows apart, in the order of the first row of each part.
pub(super) fn split(rows: Rows, spec: &PartitionSpec, gauge: &Arc<Gauge>) -> Result<Vec<Part>, ArrowError> {
    let (batch, purpose) = (rows.batch.clone(), rows.reservation.purpose());
    let columns: Vec<KeyColumn<'_>> =
        spec.fields.iter().map(|field| key_column(&batch, field)).collect::<Result<_, _>>()?;
    let (parts, first_rows) = parts_of(&columns, batch.num_rows());
    let partition = |row: usize| {
        let values = columns.iter().map(|column| {
            let key = column.keys.get(row).copied().unwrap_or(Key::Null);
            (column.field.key.clone(), column.field.transform.text(column.data_type, key))
        });
        Partition::Values(Values::new(values.collect()))
    };
    let partitions: Vec<Partition> = first_rows.into_iter().map(partition).collect();
    if let [partition] = partitions.as_slice() {
        return Ok(vec![Part { partition: partition.clone(), rows }]);
    }
    let (order, lengths) = in_parts(&parts, partitions.len());
    let sorted = take_record_batch(&batch, &UInt32Array::from(order))?;
    let bytes_a_row = sorted.get_array_memory_size() / sorted.num_rows().max(1);
    let mut start = 0;
    let parts = partitions.into_iter().zip(lengths).map(|(partition, length)| {
        let slice = sorted.slice(start, length);
        start += length;
        Ok(Part { partition, rows: described(slice, gauge.reserve(purpose, bytes_a_row * length))? })
    });
    // The batch that they came from is given back only now that they are counted.
    parts.collect()
}

fn key_column<'b>(batch: &'b RecordBatch, field: &'b PartitionField) -> Result<KeyColumn<'b>, ArrowError> {
    let column = column(batch, &field.column)?;
    let data_type = column.data_type();
    let keys = field.transform.keys(column).ok_or_else(|| {
        ArrowError::SchemaError(format!("{} of {data_type} gives no partition", field.column))
    })?;
    Ok(KeyColumn { field, data_type, keys })
}

/// The number of every row's part, and the first row of every part.
fn parts_of(columns: &[KeyColumn<'_>], rows: usize) -> (Vec<u32>, Vec<usize>) {
    let mut parts = vec![0_u32; rows];
    let mut first_rows = if rows == 0 { Vec::new() } else { vec![0] };
    for column in columns {
        let mut numbers: FxHashMap<(u32, Key<'_>), u32> = FxHashMap::default();
        let mut last = None;
        first_rows.clear();
        for (row, (part, key)) in parts.iter_mut().zip(&column.keys).enumerate() {
            // Rows of one part often come in runs.
            let found = (*part, *key);
            let number = match last {
                Some((same, number)) if same == found => number,
                _ => *numbers.entry(found).or_insert_with(|| {
                    first_rows.push(row);
                    u32::try_from(first_rows.len() - 1).unwrap_or(u32::MAX)
                }),
            };
            last = Some((found, number));
            *part = number;
        }
    }
    (parts, first_rows)
}

/// The rows by their part, and how many each part has.
fn in_parts(parts: &[u32], count: usize) -> (Vec<u32>, Vec<usize>) {
    let place = |part: &u32| usize::try_from(*part).unwrap_or(usize::MAX);
    let mut lengths = vec![0_usize; count];
    for part in parts {
        if let Some(length) = lengths.get_mut(place(part)) {
            *length += 1;
        }
    }
    let mut next = 0;
    let mut places: Vec<usize> = Vec::with_capacity(count);
    for length in &lengths {
        places.push(next);
        next += length;
    }
    let mut order = vec![0_u32; parts.len()];
    for (row, part) in (0_u32..).zip(parts) {
        if let Some(place) = places.get_mut(place(part)) {
            if let Some(slot) = order.get_mut(*place) {
                *slot = row;
            }
            *place += 1;
        }
    }
    (order, lengths)
}

/// Rows, with what the metadata columns say of them.
fn described(batch: RecordBatch, reservation: Reservation) -> Result<Rows, ArrowError> {
    let lsns = column(&batch, "_cdc_lsn")?.as_primitive::<Int64Type>();
    let lsn = |value: Option<i64>| Lsn(value.unwrap_or_default().cast_unsigned());
    let lsn_range = (lsn(min(lsns)), lsn(max(lsns)));
    let times = column(&batch, "_cdc_commit_ts")?.as_primitive::<TimestampMicrosecondType>();
    let ts_range = (min(times).unwrap_or_default(), max(times).unwrap_or_default());
    let mut ops: BTreeMap<&str, u64> = BTreeMap::new();
    for op in column(&batch, "_cdc_op")?.as_string::<i32>().iter().flatten() {
        *ops.entry(op).or_default() += 1;
    }
    let ops = OPS.iter().map(|op| (*op, ops.get(op).copied().unwrap_or(0))).collect();
    Ok(Rows { batch, lsn_range, ts_range, ops, reservation })
}

fn column<'b>(batch: &'b RecordBatch, name: &str) -> Result<&'b dyn Array, ArrowError> {
    let found = batch.column_by_name(name);
    found.map(AsRef::as_ref).ok_or_else(|| ArrowError::SchemaError(format!("there is no column {name}")))
}

/// All there are.
const OPS: [&str; 5] = ["I", "U", "D", "T", "R"];

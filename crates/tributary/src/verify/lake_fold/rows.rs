//! A batch of a file as rows of its table.
//!
//! Owns: finding columns by field id, what a row says of itself, and its cells as they are hashed.
//! Does not: know other rows.
//! Holds: what stands in `_cdc_raw` wins over the value; rows from before a column have its initial default.
//! Fails: [`Broken`] for a file whose columns are not what its table's are.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use arrow::array::{
    Array, ArrayRef, AsArray as _, Int64Array, ListArray, MapArray, RecordBatch, StringArray,
};
use arrow::datatypes::Int64Type;

use super::Position;
use crate::verify::files::Broken;
use crate::verify::point::Seen;
use crate::verify::render;
use crate::verify::scope::Table;
use crate::verify::source_sums::Encoding;
use crate::verify::sums::{Hash, append_cell, hash};

/// The field ids of what every row needs: all metadata columns but the commit time, which depends on the others.
pub(super) static METADATA: LazyLock<BTreeSet<i32>> = LazyLock::new(|| [1, 2, 3, 5, 6, 7, 8].into());

/// Where the columns of a table are in the batches of a file.
pub(super) struct Layout<'a> {
    table: &'a Table,
    /// For every column of the table, its name in the file, if the file has it.
    names: Vec<Option<String>>,
    /// By field id.
    by_id: HashMap<i32, String>,
    encoding: Encoding,
}

impl<'a> Layout<'a> {
    pub(super) fn new(table: &'a Table, columns: Vec<(i32, String)>, encoding: Encoding) -> Layout<'a> {
        let by_id: HashMap<i32, String> = columns.into_iter().collect();
        let names = table.columns.iter().map(|column| by_id.get(&column.field_id).cloned()).collect();
        Layout { table, names, by_id, encoding }
    }
}

/// A batch.
pub(super) struct Rows<'a> {
    layout: &'a Layout<'a>,
    op: &'a StringArray,
    lsn: &'a Int64Array,
    seq: &'a Int64Array,
    xid: &'a Int64Array,
    relation: &'a StringArray,
    unchanged: &'a ListArray,
    raw: &'a MapArray,
    /// Those of the table's columns that were read.
    columns: Vec<Option<&'a ArrayRef>>,
}

/// The cells of a row, in the form in which they are hashed.
#[derive(Debug, Default)]
pub(super) struct Cells {
    /// One after the other.
    pub(super) text: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Cells {
    fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| self.text.get(start..*end).unwrap_or_default())
    }

    pub(super) fn hashes(&self) -> Vec<Hash> {
        self.parts().map(hash).collect()
    }

    /// A cell as people read it.
    pub(super) fn shown(&self, at: usize) -> String {
        let text = String::from_utf8_lossy(self.parts().nth(at).unwrap_or_default()).into_owned();
        text.split_once(':').map_or_else(|| "NULL".to_owned(), |(_, value)| value.to_owned())
    }

    /// Puts other cells in the places of some.
    pub(super) fn replace(&mut self, cells: &HashMap<usize, Vec<u8>>) {
        let parts: Vec<Vec<u8>> = self.parts().map(<[u8]>::to_vec).collect();
        self.text.clear();
        self.ends.clear();
        for (at, part) in parts.iter().enumerate() {
            self.text.extend_from_slice(cells.get(&at).unwrap_or(part));
            self.ends.push(self.text.len());
        }
    }
}

impl<'a> Rows<'a> {
    pub(super) fn new(layout: &'a Layout<'a>, batch: &'a RecordBatch) -> Result<Rows<'a>, Broken> {
        let column = |id: i32| {
            let name = layout.by_id.get(&id).map_or("", String::as_str);
            batch.column_by_name(name).ok_or_else(|| Broken(format!("it has no column with field id {id}")))
        };
        let wrong = || Broken("a metadata column has another type than it should".to_owned());
        let int = |id| column(id)?.as_primitive_opt::<Int64Type>().ok_or_else(wrong);
        let text = |id| column(id)?.as_string_opt::<i32>().ok_or_else(wrong);
        let named = |name: &Option<String>| name.as_deref().and_then(|name| batch.column_by_name(name));
        Ok(Rows {
            layout,
            op: text(1)?,
            lsn: int(2)?,
            seq: int(3)?,
            xid: int(5)?,
            relation: text(6)?,
            unchanged: column(7)?.as_list_opt::<i32>().ok_or_else(wrong)?,
            raw: column(8)?.as_map_opt().ok_or_else(wrong)?,
            columns: layout.names.iter().map(named).collect(),
        })
    }

    pub(super) fn op(&self, row: usize) -> &str {
        self.op.value(row)
    }

    pub(super) fn position(&self, row: usize) -> Position {
        (self.lsn.value(row), self.seq.value(row))
    }

    pub(super) fn relation(&self, row: usize) -> &str {
        self.relation.value(row)
    }

    pub(super) fn is_seen(&self, seen: &Seen, row: usize) -> bool {
        seen.has(self.lsn.value(row), self.seq.value(row), self.xid.value(row))
    }

    /// Whether the row is one of the table, seen, and not superseded.
    pub(super) fn counts(&self, table: &Table, seen: &Seen, markers: &Markers, row: usize) -> bool {
        let relation = self.relation(row);
        self.op(row) != "T"
            && table.names.as_ref().is_none_or(|names| names.contains(relation))
            && self.is_seen(seen, row)
            && !markers.supersede(relation, self.position(row))
    }

    /// Whether columns were left alone by the update, which the stream then does not bring.
    pub(super) fn has_unchanged(&self, row: usize) -> bool {
        !self.unchanged.is_null(row) && self.unchanged.value_length(row) > 0
    }

    /// Which, as places among the table's columns.
    pub(super) fn unchanged(&self, row: usize) -> Vec<usize> {
        if self.unchanged.is_null(row) {
            return Vec::new();
        }
        let names = self.unchanged.value(row);
        let Some(names) = names.as_string_opt::<i32>() else { return Vec::new() };
        let place = |name: &str| self.layout.names.iter().position(|known| known.as_deref() == Some(name));
        names.iter().flatten().filter_map(place).collect()
    }

    /// The hash of the key.
    pub(super) fn key(&self, row: usize, scratch: &mut Vec<u8>) -> Result<Hash, Broken> {
        scratch.clear();
        for at in &self.layout.table.key {
            self.append(*at, row, scratch)?;
        }
        Ok(hash(scratch))
    }

    /// All cells.
    pub(super) fn cells(&self, row: usize, cells: &mut Cells) -> Result<(), Broken> {
        cells.text.clear();
        cells.ends.clear();
        for at in 0..self.columns.len() {
            self.append(at, row, &mut cells.text)?;
            cells.ends.push(cells.text.len());
        }
        Ok(())
    }

    /// Appends a cell in the form in which it is hashed.
    pub(super) fn append(&self, at: usize, row: usize, out: &mut Vec<u8>) -> Result<(), Broken> {
        let Some(column) = self.layout.table.columns.get(at) else { return Ok(()) };
        let lengths = self.layout.encoding.lengths();
        let name = self.layout.names.get(at).and_then(Option::as_deref);
        let Some(name) = name else {
            append_cell(column.initial.as_deref(), lengths, out);
            return Ok(());
        };
        let strange = || Broken(format!("its column {name} is not what the schema says"));
        if let Some(raw) = self.raw(name, row) {
            let text = unescaped(&raw, self.layout.encoding);
            append_cell(Some(&column.canon.of_text(&text).ok_or_else(strange)?), lengths, out);
            return Ok(());
        }
        let values = self.columns.get(at).copied().flatten().ok_or_else(strange)?;
        if values.is_null(row) {
            append_cell(None, lengths, out);
            return Ok(());
        }
        let mut text = Vec::new();
        render::render(column.canon, &column.codec, column.modifier, values.as_ref(), row, &mut text)
            .map_err(|render::Unprintable| strange())?;
        append_cell(Some(&text), lengths, out);
        Ok(())
    }

    /// What `_cdc_raw` has of a column.
    fn raw(&self, name: &str, row: usize) -> Option<String> {
        if self.raw.is_null(row) || self.raw.value_length(row) == 0 {
            return None;
        }
        let entries = self.raw.value(row);
        let [keys, texts] = entries.columns() else { return None };
        let (keys, texts) = (keys.as_string_opt::<i32>()?, texts.as_string_opt::<i32>()?);
        let at = keys.iter().position(|key| key == Some(name))?;
        texts.is_valid(at).then(|| texts.value(at).to_owned())
    }
}

/// The bytes of a text in a database without an encoding, where those that are no UTF-8 are `\xHH` and backslashes are doubled.
/// Only a text that has such bytes is written so, which tells it from others.
fn unescaped(text: &str, encoding: Encoding) -> Vec<u8> {
    if encoding != Encoding::SqlAscii || !text.contains('\\') {
        return text.as_bytes().to_vec();
    }
    let plain = text.as_bytes();
    let (mut bytes, mut rest) = (Vec::with_capacity(plain.len()), plain);
    while let [first, after @ ..] = rest {
        rest = match (first, after) {
            (b'\\', [b'\\', after @ ..]) => {
                bytes.push(b'\\');
                after
            }
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digit =
                    |digit: &u8| char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                let (Some(high), Some(low)) = (digit(high), digit(low)) else { return plain.to_vec() };
                bytes.push(high << 4 | low);
                after
            }
            (b'\\', _) => return plain.to_vec(),
            (byte, after) => {
                bytes.push(*byte);
                after
            }
        };
    }
    if std::str::from_utf8(&bytes).is_ok() { plain.to_vec() } else { bytes }
}

/// The positions before which rows count no more.
#[derive(Debug, Default)]
pub(super) struct Markers {
    of_table: Option<Position>,
    of_relation: HashMap<String, Position>,
}

impl Markers {
    pub(super) fn add(&mut self, relation: &str, position: Position, own_names: &[String]) {
        if own_names.iter().any(|name| name == relation) {
            self.of_table = self.of_table.max(Some(position));
        } else {
            let known = self.of_relation.entry(relation.to_owned()).or_insert(position);
            *known = position.max(*known);
        }
    }

    fn supersede(&self, relation: &str, position: Position) -> bool {
        self.of_table.is_some_and(|marker| position < marker)
            || (!self.of_relation.is_empty()
                && self.of_relation.get(relation).is_some_and(|marker| position < *marker))
    }
}

/// A cell whose value no row carries: it is like no cell.
pub(super) fn lost() -> Vec<u8> {
    b"?".to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_come_back() {
        let of = |text: &str| unescaped(text, Encoding::SqlAscii);
        assert_eq!(of(r"a\xffb"), b"a\xffb");
        assert_eq!(of(r"a\\\xe9"), b"a\\\xe9");
        // Written as it is, since there is nothing that is no UTF-8.
        assert_eq!(of(r"a\x41"), br"a\x41");
        assert_eq!(of(r"{\\x}"), br"{\\x}");
        assert_eq!(unescaped(r"a\xff", Encoding::Utf8), br"a\xff");
    }

    #[test]
    fn a_marker_of_the_table_is_one_of_every_relation() {
        let own = vec!["s.t".to_owned()];
        let mut markers = Markers::default();
        markers.add("s.t_1", (10, 2), &own);
        assert!(markers.supersede("s.t_1", (10, 1)) && !markers.supersede("s.t_1", (10, 2)));
        assert!(!markers.supersede("s.t_2", (5, 1)));
        markers.add("s.t", (7, -2), &own);
        assert!(markers.supersede("s.t_2", (5, 1)) && !markers.supersede("s.t_2", (7, -1)));
        markers.add("s.t_1", (3, 1), &own);
        assert!(markers.supersede("s.t_1", (10, 1)));
    }
}

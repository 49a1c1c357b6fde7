//! The columns of a table in the lake, version by version.
//!
//! Owns: field ids, lake names, Arrow types, and what an altered column becomes.
//! Does not: resolve types (`types`), or decide when a table changes (`fold`).
//! Holds: a field id means one column of one type (or of a promotion of it) for ever; lake names are unique
//! ignoring case; versions only ever add columns.
//! Fails: never; any set of columns has a schema.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use pgoutput::Oid;
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};

use crate::types::{Codec, LakeType, Resolved};

/// One column of a [`TableSchema`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its Parquet and Iceberg field id.
    pub field_id: i32,
    /// The field ids of what lies in it, in the order of [`LakeType::arrow`].
    #[serde(default, alias = "element_field_id", deserialize_with = "one_or_many")]
    pub nested_field_ids: Vec<i32>,
    /// Its name in the lake.
    pub name: String,
    /// Its name in Postgres.
    pub source_name: String,
    /// Its type in Postgres.
    pub type_oid: Oid,
    /// The type's modifier, -1 for none.
    pub type_modifier: i32,
    /// The type as people write it, `numeric(10,2)`.
    pub type_name: String,
    /// How its cells are read.
    pub codec: Codec,
    /// What it is in the lake.
    pub lake: LakeType,
    /// Its type changed and another column took over; it reads NULL from then on.
    pub dropped: bool,
}

/// One version of a table's columns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSchema {
    /// The version, from 1.
    pub id: u32,
    /// The columns, without the metadata columns that every file begins with.
    pub columns: Vec<Column>,
    /// What identifies a row, by source names; empty for a table without a key.
    pub key: Vec<String>,
    /// The next field id that was never given out.
    pub next_field_id: i32,
}

/// A column as a relation announces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnSpec {
    /// Its name in Postgres.
    pub name: String,
    /// Its type in Postgres.
    pub type_oid: Oid,
    /// The type's modifier, -1 for none.
    pub type_modifier: i32,
    /// What the catalog makes of the type.
    pub resolved: Resolved,
}

impl TableSchema {
    /// The first version of a table.
    pub fn new(columns: &[ColumnSpec], key: Vec<String>) -> TableSchema {
        let mut schema =
            TableSchema { id: 1, columns: Vec::new(), key, next_field_id: FIRST_COLUMN_FIELD_ID };
        let mut names = LakeNames::default();
        for spec in columns {
            let name = names.of(&spec.name);
            schema.add(spec, name);
        }
        schema.number_elements();
        schema
    }

    /// The version that also holds `columns` and has this key, or `None` if this one does.
    ///
    /// A column that is not among `columns` stays as it is: another leaf may still have it.
    pub fn evolve(&self, columns: &[ColumnSpec], key: &[String]) -> Option<TableSchema> {
        if self.fits(columns) && same_members(&self.key, key) {
            return None;
        }
        let mut next = TableSchema { id: self.id.saturating_add(1), key: key.to_vec(), ..self.clone() };
        let mut names = LakeNames::taken_by(&self.columns);
        for spec in columns {
            next.place(spec, &mut names);
        }
        next.number_elements();
        Some(next)
    }

    /// The Arrow schema of a file: metadata columns, then these.
    pub fn arrow(&self) -> SchemaRef {
        let mut fields = metadata_fields();
        fields.extend(self.columns.iter().map(Column::arrow));
        Arc::new(Schema::new(fields))
    }

    /// The index of the live column of that Postgres name.
    pub fn position(&self, source_name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.is_live_as(source_name))
    }

    /// Whether every one of these columns has a live column that reads it.
    fn fits(&self, columns: &[ColumnSpec]) -> bool {
        columns.iter().enumerate().all(|(place, spec)| {
            // Most relations have the order of their table.
            let column = self.columns.get(place).filter(|column| column.is_live_as(&spec.name));
            let column = column.or_else(|| self.columns.get(self.position(&spec.name)?));
            column.is_some_and(|column| column.judge(spec) == Verdict::Fits)
        })
    }

    /// Makes room for a column: the one that has its name, one that had it before, or a new one.
    fn place(&mut self, spec: &ColumnSpec, names: &mut LakeNames) {
        let live = self.position(&spec.name);
        if let Some(column) = live.and_then(|index| self.columns.get_mut(index)) {
            match column.judge(spec) {
                Verdict::Fits => return,
                Verdict::Adopts => return column.adopt(spec),
                Verdict::Replaces => column.dropped = true,
            }
        }
        // A type that the column had before comes back: after a restart the stream may repeat rows from
        // before the change, and neither they nor what follows may add a column each time.
        let before = self.columns.iter_mut().enumerate().find(|(index, column)| {
            column.dropped
                && Some(*index) != live
                && column.source_name == spec.name
                && column.judge(spec) != Verdict::Replaces
        });
        if let Some((_, column)) = before {
            column.dropped = false;
            if column.judge(spec) == Verdict::Adopts {
                column.adopt(spec);
            }
            return;
        }
        let first = self.columns.iter().find(|column| column.source_name == spec.name);
        let name = match first {
            Some(first) => names.numbered(&first.name),
            None => names.of(&spec.name),
        };
        self.add(spec, name);
    }

    fn add(&mut self, spec: &ColumnSpec, name: String) {
        let field_id = self.take_field_id();
        self.columns.push(Column {
            field_id,
            nested_field_ids: Vec::new(),
            name,
            source_name: spec.name.clone(),
            type_oid: spec.type_oid,
            type_modifier: spec.type_modifier,
            type_name: spec.resolved.type_name.clone(),
            codec: spec.resolved.codec.clone(),
            lake: spec.resolved.lake.clone(),
            dropped: false,
        });
    }

    /// Gives what lies in new columns its ids: top level first, as Iceberg numbers.
    fn number_elements(&mut self) {
        let mut next = self.next_field_id;
        for column in &mut self.columns {
            while column.nested_field_ids.len() < column.lake.nested_fields() {
                column.nested_field_ids.push(next);
                next = next.saturating_add(1);
            }
        }
        self.next_field_id = next;
    }

    fn take_field_id(&mut self) -> i32 {
        let field_id = self.next_field_id;
        self.next_field_id = field_id.saturating_add(1);
        field_id
    }
}

/// What a column does with an announced one of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Reads its cells as it is.
    Fits,
    /// Takes its type over, and keeps its field id.
    Adopts,
    /// Ends; a new column takes the cells.
    Replaces,
}

impl Column {
    fn is_live_as(&self, source_name: &str) -> bool {
        !self.dropped && self.source_name == source_name
    }

    fn judge(&self, spec: &ColumnSpec) -> Verdict {
        let codec = &spec.resolved.codec;
        if self.codec == *codec {
            // Leaves, and rows repeated after a restart, may lag behind: only a wider one is news.
            let is_known =
                self.type_oid == spec.type_oid && !is_wider_modifier(spec.type_modifier, self.type_modifier);
            return if is_known { Verdict::Fits } else { Verdict::Adopts };
        }
        if self.codec.reads(codec) {
            Verdict::Fits
        } else if codec.reads(&self.codec)
            || (self.lake == spec.resolved.lake && self.codec.means_what(codec))
        {
            Verdict::Adopts
        } else {
            Verdict::Replaces
        }
    }

    fn adopt(&mut self, spec: &ColumnSpec) {
        self.type_oid = spec.type_oid;
        self.type_modifier = spec.type_modifier;
        self.type_name = spec.resolved.type_name.clone();
        self.codec = spec.resolved.codec.clone();
        self.lake = spec.resolved.lake.clone();
    }

    fn arrow(&self) -> Field {
        let mut ids = self.nested_field_ids.iter().copied();
        lake_field(&self.name, &self.lake, Some(self.field_id), &mut ids)
    }
}

impl LakeType {
    /// The Arrow type. `ids` are for the fields in it: those of one level before those of the next.
    fn arrow(&self, ids: &mut dyn Iterator<Item = i32>) -> DataType {
        match self {
            LakeType::Boolean => DataType::Boolean,
            LakeType::Int32 => DataType::Int32,
            LakeType::Int64 => DataType::Int64,
            LakeType::Float32 => DataType::Float32,
            LakeType::Float64 => DataType::Float64,
            LakeType::Decimal { precision, scale } => DataType::Decimal128(*precision, *scale),
            LakeType::Utf8 | LakeType::Json => DataType::Utf8,
            LakeType::Binary => DataType::Binary,
            LakeType::Fixed16 | LakeType::Uuid => DataType::FixedSizeBinary(16),
            LakeType::Date => DataType::Date32,
            LakeType::Time => DataType::Time64(TimeUnit::Microsecond),
            LakeType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            LakeType::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from(UTC))),
            LakeType::List(element) => {
                let id = ids.next();
                DataType::List(Arc::new(lake_field("element", element, id, ids)))
            }
            LakeType::Map => {
                let (key, value) = (ids.next(), ids.next());
                let entry = Fields::from(vec![
                    field("key", DataType::Utf8, false, key),
                    field("value", DataType::Utf8, true, value),
                ]);
                DataType::Map(Arc::new(field("key_value", DataType::Struct(entry), false, None)), false)
            }
            LakeType::Struct(fields) => {
                let own: Vec<Option<i32>> = fields.iter().map(|_| ids.next()).collect();
                let fields = fields.iter().zip(own);
                DataType::Struct(
                    fields.map(|(field, id)| lake_field(&field.name, &field.lake, id, ids)).collect(),
                )
            }
        }
    }

    /// The canonical extension type of Arrow that the Parquet writer knows it by: its name and its metadata.
    fn extension(&self) -> Option<(&'static str, Option<&'static str>)> {
        match self {
            LakeType::Uuid => Some(("arrow.uuid", None)),
            LakeType::Json => Some(("arrow.json", Some(""))),
            LakeType::Boolean
            | LakeType::Int32
            | LakeType::Int64
            | LakeType::Float32
            | LakeType::Float64
            | LakeType::Decimal { .. }
            | LakeType::Utf8
            | LakeType::Binary
            | LakeType::Fixed16
            | LakeType::Date
            | LakeType::Time
            | LakeType::Timestamp
            | LakeType::TimestampTz
            | LakeType::List(_)
            | LakeType::Map
            | LakeType::Struct(_) => None,
        }
    }
}

fn lake_field(name: &str, lake: &LakeType, id: Option<i32>, ids: &mut dyn Iterator<Item = i32>) -> Field {
    let mut field = field(name, lake.arrow(ids), true, id);
    if let Some((name, metadata)) = lake.extension() {
        let keys = field.metadata_mut();
        keys.insert(EXTENSION_NAME.to_owned(), name.to_owned());
        keys.extend(metadata.map(|text| (EXTENSION_METADATA.to_owned(), text.to_owned())));
    }
    field
}

/// Schemas of before there were structs have the one id of a list's elements, or none.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<i32>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Ids {
        Many(Vec<i32>),
        One(Option<i32>),
    }
    Ok(match Ids::deserialize(deserializer)? {
        Ids::Many(ids) => ids,
        Ids::One(id) => id.into_iter().collect(),
    })
}

fn metadata_fields() -> Vec<Field> {
    let [op, lsn, seq, commit_ts, xid, relation, unchanged, raw] = METADATA_COLUMNS;
    let no_ids = &mut std::iter::empty();
    let instant = LakeType::TimestampTz.arrow(no_ids);
    vec![
        field(op, DataType::Utf8, false, Some(1)),
        field(lsn, DataType::Int64, false, Some(2)),
        field(seq, DataType::Int64, false, Some(3)),
        field(commit_ts, instant, false, Some(4)),
        field(xid, DataType::Int64, false, Some(5)),
        field(relation, DataType::Utf8, false, Some(6)),
        field(unchanged, LakeType::List(Box::new(LakeType::Utf8)).arrow(&mut [9].into_iter()), true, Some(7)),
        field(raw, LakeType::Map.arrow(&mut [10, 11].into_iter()), true, Some(8)),
    ]
}

fn field(name: &str, data_type: DataType, is_nullable: bool, field_id: Option<i32>) -> Field {
    let metadata = field_id.map(|id| (FIELD_ID.to_owned(), id.to_string()));
    Field::new(name, data_type, is_nullable).with_metadata(HashMap::from_iter(metadata))
}

fn is_wider_modifier(modifier: i32, than: i32) -> bool {
    than >= 0 && (modifier < 0 || modifier > than)
}

fn same_members(one: &[String], other: &[String]) -> bool {
    one == other || one.iter().collect::<BTreeSet<_>>() == other.iter().collect::<BTreeSet<_>>()
}

/// The names that columns of one table have, in lower case: engines do not tell case.
#[derive(Default)]
pub(crate) struct LakeNames {
    taken: HashSet<String>,
}

impl LakeNames {
    fn taken_by(columns: &[Column]) -> LakeNames {
        LakeNames { taken: columns.iter().map(|column| column.name.to_lowercase()).collect() }
    }

    /// The lake name of a Postgres name: itself, or what is legal of it and a hash of it.
    pub(crate) fn of(&mut self, source_name: &str) -> String {
        if is_safe(source_name) && self.take(source_name) {
            return source_name.to_owned();
        }
        let legal: String = source_name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
            .collect();
        let hash: String = Sha256::digest(source_name).iter().map(|byte| format!("{byte:02x}")).collect();
        let short: String = hash.chars().take(HASH_DIGITS).collect();
        let name = format!("{legal}_{short}");
        if self.take(&name) { name } else { self.numbered(&name) }
    }

    /// The first free one of `name_2`, `name_3` and so on.
    fn numbered(&mut self, name: &str) -> String {
        let mut number = 2_u32;
        loop {
            let candidate = format!("{name}_{number}");
            if self.take(&candidate) {
                return candidate;
            }
            number = number.saturating_add(1);
        }
    }

    fn take(&mut self, name: &str) -> bool {
        self.taken.insert(name.to_lowercase())
    }
}

/// Whether every engine takes the name as it is (apart from collisions).
fn is_safe(name: &str) -> bool {
    let is_legal = |c: char| !c.is_control() && !ILLEGAL.contains(c);
    let lower = name.to_lowercase();
    let is_reserved = METADATA_COLUMNS.contains(&lower.as_str()) || PARTITION_KEYS.contains(&lower.as_str());
    !name.trim().is_empty() && name.chars().all(is_legal) && !is_reserved
}

/// The columns that every file begins with; their field ids count from 1.
pub const METADATA_COLUMNS: [&str; 8] = [
    "_cdc_op",
    "_cdc_lsn",
    "_cdc_seq",
    "_cdc_commit_ts",
    "_cdc_xid",
    "_cdc_relation",
    "_cdc_unchanged",
    "_cdc_raw",
];

/// The keys of the partition directories, which no column may be called.
pub const PARTITION_KEYS: [&str; 2] = ["cdc_date", "cdc_hour"];

/// The first field id of a table's own columns; those below are for metadata columns and their elements.
pub const FIRST_COLUMN_FIELD_ID: i32 = 100;

/// Where the Parquet writer looks for a field's id (`parquet::arrow::PARQUET_FIELD_ID_META_KEY`).
const FIELD_ID: &str = "PARQUET:field_id";

/// Where the Parquet writer looks for what a field is beyond its Arrow type.
const EXTENSION_NAME: &str = "ARROW:extension:name";
const EXTENSION_METADATA: &str = "ARROW:extension:metadata";

/// What Spark refuses in the names of Parquet columns.
const ILLEGAL: &str = " ,;{}()\n\t=";

/// Of the 64 of SHA-256: 32 bits tell the columns of one table apart, and `numbered` is there for the rest.
const HASH_DIGITS: usize = 8;

/// The zone of instants, by the name that every reader of Arrow knows.
pub(crate) const UTC: &str = "UTC";

#[cfg(test)]
mod tests;

//! The columns of a table in the lake, version by version.
//!
//! Owns: field ids, lake names and Arrow types; what an altered column becomes (`evolution`).
//! Does not: resolve types (`types`), or decide when a table changes (`fold`).
//! Holds: a field id means one column of one type (or of a promotion of it) for ever, and so does a lake name, whatever
//! names Postgres gives the column; lake names are unique ignoring case; versions only ever add columns.
//! Fails: never; any set of columns has a schema.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use pgoutput::Oid;
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};

use crate::types::{Codec, LakeType, Resolved, TypeCatalog};

mod evolution;

pub use self::evolution::{Catalog, Evolution, History, Stale, StaleReason};

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
    /// It ended, and reads NULL from then on: Postgres dropped it, or its type changed and another column took over.
    pub dropped: bool,
    /// Postgres dropped it, so that a later column of its name is another one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
    /// `pg_attribute.attnum` in the table itself (leaves may have others), where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attnum: Option<i16>,
    /// Where it stands among the columns whose `attnum` is not known; a column that took over from another stands in its place.
    #[serde(default)]
    pub ordinal: u32,
    /// It was added when the table had rows in the lake already.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub came_later: bool,
    /// What rows from before the column have in Postgres, as text: it was added with a default, and no change says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_default: Option<String>,
    /// The names it had in the lake before it was renamed, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former_names: Vec<String>,
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
    /// Its files have the column of old rows, [`BEFORE_COLUMN`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub before: bool,
    /// Names that no column gets from here on: the keys of the table's folders. Configuration, and no part of the version.
    #[serde(skip)]
    pub reserved: Vec<String>,
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

impl ColumnSpec {
    /// The column of a named group, which the names of leaves tell: text, whatever columns of that name are elsewhere.
    pub fn of_group(types: &TypeCatalog, name: &str) -> ColumnSpec {
        let resolved = types.resolve(TEXT, -1);
        ColumnSpec { name: name.to_owned(), type_oid: TEXT, type_modifier: -1, resolved }
    }
}

impl TableSchema {
    /// The first version of a table.
    pub fn new(columns: &[ColumnSpec], key: Vec<String>) -> TableSchema {
        TableSchema::with_reserved(columns, key, Vec::new())
    }

    /// The same, in which no column gets one of these names.
    pub fn with_reserved(columns: &[ColumnSpec], key: Vec<String>, reserved: Vec<String>) -> TableSchema {
        let next_field_id = FIRST_COLUMN_FIELD_ID;
        let mut schema =
            TableSchema { id: 1, columns: Vec::new(), key, next_field_id, before: false, reserved };
        let mut names = LakeNames::taken_in(&schema);
        for spec in columns {
            let name = names.of(&spec.name);
            schema.add(spec, name);
        }
        schema.number_elements();
        schema
    }

    /// The Arrow schema of a file: metadata columns, then these.
    pub fn arrow(&self) -> SchemaRef {
        let mut fields = metadata_fields();
        if self.before {
            let texts = LakeType::Map.arrow(&mut [13, 14].into_iter());
            fields.push(field(BEFORE_COLUMN, texts, true, Some(12)));
        }
        fields.extend(self.columns.iter().map(Column::arrow));
        Arc::new(Schema::new(fields))
    }

    /// The index of the live column of that Postgres name.
    pub fn position(&self, source_name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.is_live_as(source_name))
    }

    fn add(&mut self, spec: &ColumnSpec, name: String) {
        let field_id = self.take_field_id();
        let last = self.columns.iter().map(|column| column.ordinal).max().unwrap_or_default();
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
            removed: false,
            attnum: None,
            ordinal: last.saturating_add(1),
            came_later: false,
            initial_default: None,
            former_names: Vec::new(),
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

impl Column {
    fn is_live_as(&self, source_name: &str) -> bool {
        !self.dropped && self.source_name == source_name
    }

    fn arrow(&self) -> Field {
        let mut ids = self.nested_field_ids.iter().copied();
        lake_field(&self.name, &self.lake, Some(self.field_id), &mut ids)
    }
}

impl LakeType {
    /// The Arrow type, without field ids.
    pub fn data_type(&self) -> DataType {
        self.arrow(&mut std::iter::empty())
    }

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

/// The names that columns of one table have, in lower case: engines do not tell case.
#[derive(Default)]
pub(crate) struct LakeNames {
    taken: HashSet<String>,
}

impl LakeNames {
    fn taken_in(schema: &TableSchema) -> LakeNames {
        let of_columns =
            schema.columns.iter().flat_map(|column| column.former_names.iter().chain([&column.name]));
        LakeNames { taken: of_columns.chain(&schema.reserved).map(|name| name.to_lowercase()).collect() }
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
    let reserved = METADATA_COLUMNS.iter().chain(&PARTITION_KEYS).chain([&BEFORE_COLUMN]);
    let is_reserved = reserved.into_iter().any(|name| *name == lower);
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

/// The last of the metadata columns, in files of tables whose changes have the old row beside them. Its field id is 12.
pub const BEFORE_COLUMN: &str = "_cdc_before";

/// The keys of the partition directories, which no column may be called.
pub const PARTITION_KEYS: [&str; 2] = ["cdc_date", "cdc_hour"];

/// The first field id of a table's own columns; those below are for metadata columns and their elements.
pub const FIRST_COLUMN_FIELD_ID: i32 = 100;

/// Where the Parquet writer looks for a field's id (`parquet::arrow::PARQUET_FIELD_ID_META_KEY`).
const FIELD_ID: &str = "PARQUET:field_id";

/// Where the Parquet writer looks for what a field is beyond its Arrow type.
const EXTENSION_NAME: &str = "ARROW:extension:name";
const EXTENSION_METADATA: &str = "ARROW:extension:metadata";

/// `text`
const TEXT: Oid = Oid(25);

/// What Spark refuses in the names of Parquet columns.
const ILLEGAL: &str = " ,;{}()\n\t=";

/// Of the 64 of SHA-256: 32 bits tell the columns of one table apart, and `numbered` is there for the rest.
const HASH_DIGITS: usize = 8;

/// The zone of instants, by the name that every reader of Arrow knows.
pub(crate) const UTC: &str = "UTC";

#[cfg(test)]
mod tests;

//! How a Postgres type's cells are read, and what they are in the lake.
//!
//! Owns: [`Codec`], [`LakeType`], which form fits which type, and which codec reads the cells of another.
//! Does not: read cells (`columns`), or choose a form (`rules`).
//! Holds: a codec that was stored is read by every later version; two codecs of one lake type mean the same by it
//! only if [`Codec::means_what`] says so.
//! Fails: never.

use pgoutput::Oid;
use serde::{Deserialize, Serialize};

use super::form::Form;
use super::loss::Loss;

/// The type of a column in the lake.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LakeType {
    /// True or false.
    Boolean,
    /// 32 bits, signed.
    Int32,
    /// 64 bits, signed.
    Int64,
    /// Single precision.
    Float32,
    /// Double precision.
    Float64,
    /// Exact, at most 38 digits.
    Decimal {
        /// Digits in all.
        precision: u8,
        /// Digits after the point.
        scale: i8,
    },
    /// Text.
    Utf8,
    /// Text that is marked as JSON.
    Json,
    /// Bytes.
    Binary,
    /// 16 bytes.
    Fixed16,
    /// 16 bytes that are marked as a UUID.
    Uuid,
    /// Days of the years 1 to 9999.
    Date,
    /// Microseconds of a day.
    Time,
    /// Wall clock time in microseconds, of the years 1 to 9999.
    Timestamp,
    /// An instant in microseconds, of the years 1 to 9999 in UTC.
    TimestampTz,
    /// One-dimensional list.
    List(Box<LakeType>),
    /// Text by text; values may be NULL.
    Map,
    /// Named fields.
    Struct(Vec<LakeField>),
}

/// A field of a [`LakeType::Struct`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LakeField {
    /// Its name.
    pub name: String,
    /// Its type.
    pub lake: LakeType,
}

impl LakeType {
    /// How many fields lie in it, on all levels: each has a field id.
    pub fn nested_fields(&self) -> usize {
        match self {
            LakeType::List(element) => 1 + element.nested_fields(),
            LakeType::Map => 2,
            LakeType::Struct(fields) => fields.iter().map(|field| 1 + field.lake.nested_fields()).sum(),
            LakeType::Boolean
            | LakeType::Int32
            | LakeType::Int64
            | LakeType::Float32
            | LakeType::Float64
            | LakeType::Decimal { .. }
            | LakeType::Utf8
            | LakeType::Json
            | LakeType::Binary
            | LakeType::Fixed16
            | LakeType::Uuid
            | LakeType::Date
            | LakeType::Time
            | LakeType::Timestamp
            | LakeType::TimestampTz => 0,
        }
    }

    /// As Iceberg writes it.
    pub fn iceberg(&self) -> String {
        let name = match self {
            LakeType::Boolean => "boolean",
            LakeType::Int32 => "int",
            LakeType::Int64 => "long",
            LakeType::Float32 => "float",
            LakeType::Float64 => "double",
            LakeType::Decimal { precision, scale } => return format!("decimal({precision},{scale})"),
            LakeType::Utf8 | LakeType::Json => "string",
            LakeType::Binary => "binary",
            LakeType::Fixed16 => "fixed[16]",
            LakeType::Uuid => "uuid",
            LakeType::Date => "date",
            LakeType::Time => "time",
            LakeType::Timestamp => "timestamp",
            LakeType::TimestampTz => "timestamptz",
            LakeType::List(element) => return format!("list<{}>", element.iceberg()),
            LakeType::Map => "map<string, string>",
            LakeType::Struct(fields) => {
                let fields: Vec<String> =
                    fields.iter().map(|field| format!("{}: {}", field.name, field.lake.iceberg())).collect();
                return format!("struct<{}>", fields.join(", "));
            }
        };
        name.to_owned()
    }

    /// As Parquet stores it: physical type, and what marks it.
    pub fn parquet(&self) -> String {
        let name = match self {
            LakeType::Boolean => "BOOLEAN",
            LakeType::Int32 => "INT32",
            LakeType::Int64 => "INT64",
            LakeType::Float32 => "FLOAT",
            LakeType::Float64 => "DOUBLE",
            LakeType::Decimal { precision, scale } => return format!("DECIMAL({precision},{scale})"),
            LakeType::Utf8 => "STRING",
            LakeType::Json => "JSON",
            LakeType::Binary => "BYTE_ARRAY",
            LakeType::Fixed16 => "FIXED_LEN_BYTE_ARRAY(16)",
            LakeType::Uuid => "UUID",
            LakeType::Date => "DATE",
            LakeType::Time => "TIME(MICROS, local)",
            LakeType::Timestamp => "TIMESTAMP(MICROS, local)",
            LakeType::TimestampTz => "TIMESTAMP(MICROS, UTC)",
            LakeType::List(element) => return format!("LIST({})", element.parquet()),
            LakeType::Map => "MAP(STRING, STRING)",
            LakeType::Struct(fields) => {
                let fields: Vec<String> =
                    fields.iter().map(|field| format!("{} {}", field.name, field.lake.parquet())).collect();
                return format!("group({})", fields.join(", "));
            }
        };
        name.to_owned()
    }
}

/// How a Postgres type's cells, text and binary, are read into its lake type.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    /// `bool`
    Bool,
    /// `int2`
    Int2,
    /// `int4`
    Int4,
    /// `int8`
    Int8,
    /// `oid` and the other unsigned 32-bit types.
    Oid,
    /// `float4`
    Float4,
    /// `float8`
    Float8,
    /// A `numeric` that a decimal of the lake holds.
    Decimal {
        /// Digits in all.
        precision: u8,
        /// Digits after the point.
        scale: i8,
    },
    /// A `numeric` that is kept as text.
    NumericText,
    /// Types whose binary form is their text.
    Text,
    /// `char(n)`, whose text ends in blanks.
    Bpchar,
    /// `json`
    Json,
    /// `jsonb`
    Jsonb,
    /// `bytea`
    Bytea,
    /// `date`
    Date,
    /// `timestamp`
    Timestamp,
    /// `timestamptz`
    Timestamptz,
    /// `time`
    Time,
    /// `timetz`
    Timetz,
    /// `interval`
    Interval,
    /// `uuid`
    Uuid,
    /// `"char"`
    Char,
    /// `money`
    Money,
    /// `bit(n)`: every value has the same width.
    Bit,
    /// `varbit`, and `bit` without a width.
    Varbit,
    /// `xid8`
    Xid8,
    /// `pg_lsn`
    PgLsn,
    /// `tid`
    Tid,
    /// `int2vector`
    Int2Vector,
    /// `oidvector`
    OidVector,
    /// `pg_snapshot` and `txid_snapshot`
    Snapshot,
    /// `inet`
    Inet,
    /// `cidr`
    Cidr,
    /// `macaddr`
    Macaddr,
    /// `macaddr8`
    Macaddr8,
    /// `point`
    Point,
    /// `line`
    Line,
    /// `lseg`
    Lseg,
    /// `box`
    Box,
    /// `path`
    Path,
    /// `polygon`
    Polygon,
    /// `circle`
    Circle,
    /// `tsvector`
    Tsvector,
    /// `tsquery`
    Tsquery,
    /// `jsonpath`, `ltree` and its like: a version, then text.
    VersionedText,
    /// `hstore`
    Hstore,
    /// `cube`
    Cube,
    /// `vector`
    Vector,
    /// `halfvec`
    Halfvec,
    /// `sparsevec`
    Sparsevec,
    /// `geometry` and `geography`
    Geometry {
        /// The spatial reference that values of the column have; 0 for none.
        srid: i32,
    },
    /// The label of an enum.
    Enum,
    /// An array.
    Array(Box<Codec>),
    /// A range of this type.
    Range(Box<Codec>),
    /// A set of ranges of this type.
    Multirange(Box<Codec>),
    /// A row type.
    Record(Vec<RecordField>),
    /// A type in another form than its first.
    As {
        /// The form.
        form: Form,
        /// The type.
        of: Box<Codec>,
    },
    /// A type without a binary form: it comes as text in every stream, but within other types it cannot come.
    Unsent,
    /// Everything else: output text, and no binary form that we read.
    Other,
}

/// An attribute of a row type.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RecordField {
    /// Its name in Postgres.
    pub source_name: String,
    /// Its name in the lake.
    pub name: String,
    /// Its type; binary records say it, too.
    pub type_oid: Oid,
    /// How it is read.
    pub codec: Codec,
}

impl Codec {
    /// The lake type that its cells land in.
    pub fn lake(&self) -> LakeType {
        match self {
            Codec::Bool => LakeType::Boolean,
            Codec::Int2 | Codec::Int4 => LakeType::Int32,
            Codec::Int8 | Codec::Oid => LakeType::Int64,
            Codec::Float4 => LakeType::Float32,
            Codec::Float8 => LakeType::Float64,
            Codec::Decimal { precision, scale } => LakeType::Decimal { precision: *precision, scale: *scale },
            Codec::Bytea | Codec::Geometry { .. } => LakeType::Binary,
            Codec::Date => LakeType::Date,
            Codec::Timestamp => LakeType::Timestamp,
            Codec::Timestamptz => LakeType::TimestampTz,
            Codec::Array(element) => LakeType::List(Box::new(element.lake())),
            Codec::Vector | Codec::Halfvec => LakeType::List(Box::new(LakeType::Float32)),
            Codec::Hstore => LakeType::Map,
            Codec::As { form, of } => of.lake_as(*form),
            Codec::NumericText
            | Codec::Text
            | Codec::Bpchar
            | Codec::Json
            | Codec::Jsonb
            | Codec::Time
            | Codec::Timetz
            | Codec::Interval
            | Codec::Uuid
            | Codec::Char
            | Codec::Money
            | Codec::Bit
            | Codec::Varbit
            | Codec::Xid8
            | Codec::PgLsn
            | Codec::Tid
            | Codec::Int2Vector
            | Codec::OidVector
            | Codec::Snapshot
            | Codec::Inet
            | Codec::Cidr
            | Codec::Macaddr
            | Codec::Macaddr8
            | Codec::Point
            | Codec::Line
            | Codec::Lseg
            | Codec::Box
            | Codec::Path
            | Codec::Polygon
            | Codec::Circle
            | Codec::Tsvector
            | Codec::Tsquery
            | Codec::VersionedText
            | Codec::Cube
            | Codec::Sparsevec
            | Codec::Enum
            | Codec::Range(_)
            | Codec::Multirange(_)
            | Codec::Record(_)
            | Codec::Unsent
            | Codec::Other => LakeType::Utf8,
        }
    }

    /// The lake type of this type in a form.
    fn lake_as(&self, form: Form) -> LakeType {
        match form {
            Form::String | Form::Trim | Form::Base64 | Form::Iso8601 => LakeType::Utf8,
            Form::Decimal { precision, scale } => LakeType::Decimal { precision, scale },
            Form::Double => LakeType::Float64,
            Form::Long | Form::Micros => LakeType::Int64,
            Form::Binary if *self == Codec::Uuid => LakeType::Fixed16,
            Form::Binary => LakeType::Binary,
            // The bounds of a type in its own form.
            Form::Clamp | Form::Null | Form::Error | Form::List | Form::Map => self.lake(),
            Form::Time => LakeType::Time,
            Form::Native => LakeType::Uuid,
            Form::Json if matches!(self, Codec::Json | Codec::Jsonb) => LakeType::Json,
            Form::Json => LakeType::Utf8,
            Form::Struct | Form::ListOfStructs => match self {
                Codec::Interval => fields_of(&[
                    ("months", LakeType::Int32),
                    ("days", LakeType::Int32),
                    ("micros", LakeType::Int64),
                ]),
                Codec::Point => fields_of(&[("x", LakeType::Float64), ("y", LakeType::Float64)]),
                Codec::Sparsevec => fields_of(&[
                    ("dim", LakeType::Int32),
                    ("idx", LakeType::List(Box::new(LakeType::Int32))),
                    ("val", LakeType::List(Box::new(LakeType::Float32))),
                ]),
                Codec::Range(bound) => range_fields(&bound.lake()),
                Codec::Multirange(bound) => LakeType::List(Box::new(range_fields(&bound.lake()))),
                Codec::Record(fields) => LakeType::Struct(
                    fields
                        .iter()
                        .map(|field| LakeField { name: field.name.clone(), lake: field.codec.lake() })
                        .collect(),
                ),
                other => other.lake(),
            },
        }
    }

    /// The type in another form; `None` if it has no such form.
    pub fn in_form(&self, form: Form) -> Option<Codec> {
        let of = self.natural();
        let kept = || Some(of.clone());
        let changed = || Some(Codec::As { form, of: Box::new(of.clone()) });
        match (of, form) {
            (Codec::NumericText | Codec::Decimal { .. }, Form::String) => Some(Codec::NumericText),
            (Codec::NumericText | Codec::Decimal { .. }, Form::Decimal { precision, scale }) => {
                Some(Codec::Decimal { precision, scale })
            }
            (Codec::NumericText | Codec::Decimal { .. }, Form::Double) => {
                Some(Codec::As { form, of: Box::new(Codec::NumericText) })
            }
            (Codec::Array(_), Form::List) => kept(),
            (Codec::Array(_), Form::String | Form::Json) => changed(),
            // Any other form is one of the elements.
            (Codec::Array(element), form) => {
                element.in_form(form).map(|element| Codec::Array(Box::new(element)))
            }
            (of, Form::String) if of.lake() == LakeType::Utf8 => kept(),
            (_, Form::String) => changed(),
            (Codec::Bytea, Form::Binary)
            | (Codec::Geometry { .. }, Form::Binary)
            | (Codec::Hstore, Form::Map)
            | (Codec::Vector | Codec::Halfvec, Form::List)
            | (Codec::Date | Codec::Timestamp | Codec::Timestamptz, Form::Clamp) => kept(),
            (Codec::Record(fields), Form::Struct) if fields.is_empty() => None,
            (Codec::Money, Form::Decimal { precision: 19.., scale: 2 })
            | (Codec::Xid8, Form::Decimal { precision: 20.., scale: 0 })
            | (Codec::PgLsn, Form::Long)
            | (Codec::Bpchar, Form::Trim)
            | (Codec::Bytea, Form::Base64)
            | (Codec::Date | Codec::Timestamp | Codec::Timestamptz, Form::Null | Form::Error)
            | (Codec::Time, Form::Time | Form::Micros)
            | (Codec::Interval, Form::Struct | Form::Iso8601)
            | (Codec::Uuid, Form::Native | Form::Binary)
            | (Codec::Json | Codec::Jsonb, Form::Json)
            | (Codec::Bit | Codec::Varbit, Form::Binary)
            | (Codec::Point | Codec::Sparsevec | Codec::Range(_) | Codec::Record(_), Form::Struct)
            | (Codec::Multirange(_), Form::ListOfStructs)
            | (Codec::Record(_) | Codec::Hstore, Form::Json) => changed(),
            _ => None,
        }
    }

    /// The spellings of the forms that the type has.
    pub fn forms(&self) -> Vec<String> {
        let all = Form::all().map(|form| match (self.natural(), form) {
            (Codec::Money, Form::Decimal { .. }) => Form::Decimal { precision: 19, scale: 2 },
            (Codec::Xid8, Form::Decimal { .. }) => Form::Decimal { precision: 20, scale: 0 },
            (_, form) => form,
        });
        all.filter(|form| self.in_form(*form).is_some())
            .map(|form| match (self.natural(), form) {
                (Codec::NumericText | Codec::Decimal { .. }, Form::Decimal { .. }) => {
                    "decimal(38,9)".to_owned()
                }
                (_, form) => form.to_string(),
            })
            .collect()
    }

    /// The type itself, in whatever form it is.
    pub fn natural(&self) -> &Codec {
        match self {
            Codec::As { of, .. } => of,
            other => other,
        }
    }

    /// Whether binary cells can be read.
    pub fn has_binary_decoder(&self) -> bool {
        *self == Codec::Unsent || self.can_render()
    }

    /// Whether a cell's text may be right where its binary form is none that we know: a row type that was altered, a byte of
    /// a `"char"` that versions print differently, or an `hstore` of [`Codec::is_sent_unconverted`].
    pub fn prefers_text(&self) -> bool {
        self.has(&|part| matches!(part, Codec::Record(_) | Codec::Char | Codec::Hstore))
    }

    /// Whether its binary form is wrong in a database of another encoding than the client's: `hstore_send` converts the texts
    /// and announces their lengths from before.
    pub fn is_sent_unconverted(&self) -> bool {
        self.has(&|part| *part == Codec::Hstore)
    }

    /// Whether such a type is it, or is somewhere in it.
    pub fn has(&self, is_meant: &dyn Fn(&Codec) -> bool) -> bool {
        is_meant(self)
            || match self {
                Codec::Array(part) | Codec::Range(part) | Codec::Multirange(part) => part.has(is_meant),
                Codec::As { of, .. } => of.has(is_meant),
                Codec::Record(fields) => fields.iter().any(|field| field.codec.has(is_meant)),
                _ => false,
            }
    }

    /// Whether the binary form is understood.
    pub(crate) fn can_render(&self) -> bool {
        match self {
            Codec::Other | Codec::Unsent => false,
            Codec::Array(part) | Codec::Range(part) | Codec::Multirange(part) => part.can_render(),
            Codec::As { of, .. } => of.can_render(),
            Codec::Record(fields) => fields.iter().all(|field| field.codec.can_render()),
            Codec::Bool
            | Codec::Int2
            | Codec::Int4
            | Codec::Int8
            | Codec::Oid
            | Codec::Float4
            | Codec::Float8
            | Codec::Decimal { .. }
            | Codec::NumericText
            | Codec::Text
            | Codec::Bpchar
            | Codec::Json
            | Codec::Jsonb
            | Codec::Bytea
            | Codec::Date
            | Codec::Timestamp
            | Codec::Timestamptz
            | Codec::Time
            | Codec::Timetz
            | Codec::Interval
            | Codec::Uuid
            | Codec::Char
            | Codec::Money
            | Codec::Bit
            | Codec::Varbit
            | Codec::Xid8
            | Codec::PgLsn
            | Codec::Tid
            | Codec::Int2Vector
            | Codec::OidVector
            | Codec::Snapshot
            | Codec::Inet
            | Codec::Cidr
            | Codec::Macaddr
            | Codec::Macaddr8
            | Codec::Point
            | Codec::Line
            | Codec::Lseg
            | Codec::Box
            | Codec::Path
            | Codec::Polygon
            | Codec::Circle
            | Codec::Tsvector
            | Codec::Tsquery
            | Codec::VersionedText
            | Codec::Hstore
            | Codec::Cube
            | Codec::Vector
            | Codec::Halfvec
            | Codec::Sparsevec
            | Codec::Geometry { .. }
            | Codec::Enum => true,
        }
    }

    /// What separates the elements of an array of this type: the `typdelim` of `pg_type`.
    pub fn delimiter(&self) -> u8 {
        match self.natural() {
            Codec::Box => b';',
            Codec::Geometry { .. } => b':',
            Codec::Array(element) => element.delimiter(),
            _ => b',',
        }
    }

    /// Whether every cell that `other` reads is read by this one, exactly and in both formats.
    pub fn reads(&self, other: &Codec) -> bool {
        match (self, other) {
            (Codec::Int4 | Codec::Int8, Codec::Int2)
            | (Codec::Int8, Codec::Int4)
            | (Codec::Float8, Codec::Float4) => true,
            (
                Codec::Decimal { precision, scale },
                Codec::Decimal { precision: other_precision, scale: other_scale },
            ) => precision >= other_precision && scale == other_scale,
            (Codec::Array(element), Codec::Array(other)) => element.reads(other),
            (this, other) => this == other,
        }
    }

    /// Whether values of this codec and of another one of the same lake type can stand in one column: text that
    /// Postgres prints with any other such text, but not with base64.
    pub fn means_what(&self, other: &Codec) -> bool {
        match (self, other) {
            (Codec::Array(this), Codec::Array(other)) => this.means_what(other),
            (Codec::As { form, of }, Codec::As { form: other_form, of: other }) => {
                form == other_form && of.means_what(other)
            }
            // Exact text is what most types are anyway.
            (Codec::As { form: Form::String, .. }, other) => {
                other.lake() == LakeType::Utf8 && !other.is_shaped()
            }
            (this, Codec::As { form: Form::String, .. }) => {
                this.lake() == LakeType::Utf8 && !this.is_shaped()
            }
            // They only differ in what becomes of values beyond the bounds.
            (Codec::As { form: Form::Null | Form::Error, of }, other)
            | (other, Codec::As { form: Form::Null | Form::Error, of }) => **of == *other,
            (Codec::As { .. }, _) | (_, Codec::As { .. }) => false,
            _ => true,
        }
    }

    /// Whether it is text of another form than Postgres prints.
    fn is_shaped(&self) -> bool {
        matches!(self, Codec::As { form, .. } if *form != Form::String)
    }

    /// The form that it has, as the configuration spells it.
    pub fn form(&self) -> String {
        match self {
            Codec::As { form, .. } => form.to_string(),
            Codec::Date | Codec::Timestamp | Codec::Timestamptz => Form::Clamp.to_string(),
            Codec::Array(element) => match **element {
                Codec::As { form, .. } => format!("list of {form}"),
                _ => Form::List.to_string(),
            },
            other => match other.lake() {
                LakeType::Utf8 => Form::String.to_string(),
                lake => lake.iceberg(),
            },
        }
    }

    /// What of its values can need `_cdc_raw`, apart from bytes that are not text.
    pub fn losses(&self) -> Vec<Loss> {
        let mut losses = Vec::new();
        self.add_losses(&mut losses);
        losses.sort_unstable();
        losses.dedup();
        losses
    }

    fn add_losses(&self, losses: &mut Vec<Loss>) {
        match self {
            Codec::Decimal { .. } => {
                losses.extend([Loss::NotANumber, Loss::Infinity, Loss::OutOfRange, Loss::Precision])
            }
            Codec::Date | Codec::Timestamp | Codec::Timestamptz => {
                losses.extend([Loss::OutOfRange, Loss::Infinity]);
            }
            Codec::Geometry { .. } => losses.push(Loss::Srid),
            Codec::Array(element) => {
                losses.extend([Loss::NestedArray, Loss::LowerBound]);
                element.add_losses(losses);
            }
            Codec::As { form, of } => of.add_losses_as(*form, losses),
            _ => {}
        }
    }

    fn add_losses_as(&self, form: Form, losses: &mut Vec<Loss>) {
        match (form, self) {
            (Form::Double, _) => losses.extend([Loss::OutOfRange, Loss::Precision]),
            (Form::Decimal { .. } | Form::Long | Form::Time, _) => losses.push(Loss::OutOfRange),
            (Form::Null, Codec::Date | Codec::Timestamp | Codec::Timestamptz) => self.add_losses(losses),
            (Form::Binary, Codec::Varbit) => losses.push(Loss::BitWidth),
            (Form::Json, Codec::Array(_)) => losses.push(Loss::LowerBound),
            (Form::Struct, Codec::Interval) => losses.push(Loss::Infinity),
            (Form::Struct | Form::ListOfStructs, Codec::Range(bound) | Codec::Multirange(bound)) => {
                bound.add_losses(losses);
            }
            (Form::Struct | Form::Json, Codec::Record(fields)) => {
                losses.push(Loss::Shape);
                if form == Form::Struct {
                    fields.iter().for_each(|field| field.codec.add_losses(losses));
                }
            }
            _ => {}
        }
    }
}

fn fields_of(fields: &[(&str, LakeType)]) -> LakeType {
    let field = |(name, lake): &(&str, LakeType)| LakeField { name: (*name).to_owned(), lake: lake.clone() };
    LakeType::Struct(fields.iter().map(field).collect())
}

fn range_fields(bound: &LakeType) -> LakeType {
    fields_of(&[
        ("lower", bound.clone()),
        ("upper", bound.clone()),
        ("lower_inc", LakeType::Boolean),
        ("upper_inc", LakeType::Boolean),
        ("empty", LakeType::Boolean),
    ])
}

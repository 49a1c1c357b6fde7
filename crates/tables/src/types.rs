//! Which lake type each Postgres type has.
//!
//! Owns: the one table of types, and what was learnt of types that are not built in.
//! Does not: read cells (`text`, `binary`), or ask a server; the caller brings [`TypeFacts`].
//! Holds: every OID resolves; what is unknown keeps its exact text.
//! Fails: never.

use pgoutput::Oid;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

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
    /// Bytes.
    Binary,
    /// Days of the years 1 to 9999.
    Date,
    /// Wall clock time in microseconds, of the years 1 to 9999.
    Timestamp,
    /// An instant in microseconds, of the years 1 to 9999 in UTC.
    TimestampTz,
    /// One-dimensional list.
    List(Box<LakeType>),
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
    /// `uuid`
    Uuid,
    /// The label of an enum.
    Enum,
    /// An array.
    Array(Box<Codec>),
    /// Everything else: output text, and no binary form that we read.
    Other,
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
            Codec::NumericText
            | Codec::Text
            | Codec::Json
            | Codec::Jsonb
            | Codec::Time
            | Codec::Uuid
            | Codec::Enum
            | Codec::Other => LakeType::Utf8,
            Codec::Bytea => LakeType::Binary,
            Codec::Date => LakeType::Date,
            Codec::Timestamp => LakeType::Timestamp,
            Codec::Timestamptz => LakeType::TimestampTz,
            Codec::Array(element) => LakeType::List(Box::new(element.lake())),
        }
    }

    /// Whether binary cells can be read.
    pub fn has_binary_decoder(&self) -> bool {
        match self {
            Codec::Other => false,
            Codec::Array(element) => element.has_binary_decoder(),
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
            | Codec::Json
            | Codec::Jsonb
            | Codec::Bytea
            | Codec::Date
            | Codec::Timestamp
            | Codec::Timestamptz
            | Codec::Time
            | Codec::Uuid
            | Codec::Enum => true,
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
}

/// What `pg_type` says of a type that is not built in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeFacts {
    /// The type.
    pub oid: Oid,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: TypeKind,
}

/// The kinds of types.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TypeKind {
    /// A type of its own, usually an extension's.
    Base,
    /// Labels.
    Enum,
    /// Another type with constraints.
    Domain {
        /// That type.
        base: Oid,
        /// The modifier it is used with, -1 for none. A relation announces -1 for the column (T43).
        type_modifier: i32,
    },
    /// An array.
    Array {
        /// Of this type.
        element: Oid,
    },
    /// A row type.
    Composite,
    /// A range or multirange.
    Range,
    /// Anything else.
    Other,
}

/// What is known of types: the built-in ones, and what was learnt.
#[derive(Clone, Debug, Default)]
pub struct TypeCatalog {
    learnt: FxHashMap<Oid, TypeFacts>,
}

/// What the lake makes of a type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// How its cells are read.
    pub codec: Codec,
    /// What it becomes.
    pub lake: LakeType,
    /// The type as people write it: `numeric(10,2)`, `public.mood`.
    pub type_name: String,
    /// Whether its binary cells can be read.
    pub has_binary_decoder: bool,
}

impl Resolved {
    fn new(codec: Codec, type_name: String) -> Resolved {
        Resolved { lake: codec.lake(), has_binary_decoder: codec.has_binary_decoder(), codec, type_name }
    }
}

impl TypeCatalog {
    /// Adds facts of a type; later facts win.
    pub fn learn(&mut self, facts: TypeFacts) {
        self.learnt.insert(facts.oid, facts);
    }

    /// Whether the type, and every type that it refers to, is built in or learnt.
    pub fn knows(&self, oid: Oid) -> bool {
        self.missing(oid).is_none()
    }

    /// The type to look up next before `oid` can be resolved.
    pub fn missing(&self, oid: Oid) -> Option<Oid> {
        let mut oid = oid;
        for _ in 0..REFERENCES_MAX {
            if is_built_in(oid) {
                return None;
            }
            oid = match self.learnt.get(&oid).map(|facts| &facts.kind) {
                None => return Some(oid),
                Some(TypeKind::Domain { base, .. }) => *base,
                Some(TypeKind::Array { element }) => *element,
                Some(
                    TypeKind::Base | TypeKind::Enum | TypeKind::Composite | TypeKind::Range | TypeKind::Other,
                ) => return None,
            };
        }
        None
    }

    /// The lake type of a type; what is unknown is text.
    pub fn resolve(&self, oid: Oid, type_modifier: i32) -> Resolved {
        self.resolve_reference(oid, type_modifier, REFERENCES_MAX)
    }

    fn resolve_reference(&self, oid: Oid, type_modifier: i32, references_left: u32) -> Resolved {
        if let Some(built_in) = BUILT_IN.iter().find(|row| row.oid == oid.0) {
            return built_in.resolve(type_modifier);
        }
        if let Some(element) = BUILT_IN.iter().find(|row| row.array_oid == oid.0) {
            return self.resolve_array(Oid(element.oid), type_modifier, references_left);
        }
        let unknown = || Resolved::new(Codec::Other, format!("type {oid}"));
        let (Some(facts), Some(references_left)) = (self.learnt.get(&oid), references_left.checked_sub(1))
        else {
            return unknown();
        };
        let name = format!("{}.{}", facts.schema, facts.name);
        match &facts.kind {
            // An extension's type, known by name alone: citext is text in all but comparison.
            TypeKind::Base if facts.name == CITEXT => Resolved::new(Codec::Text, name),
            TypeKind::Base | TypeKind::Composite | TypeKind::Range | TypeKind::Other => {
                Resolved::new(Codec::Other, name)
            }
            TypeKind::Enum => Resolved::new(Codec::Enum, name),
            TypeKind::Domain { base, type_modifier } => {
                let base = self.resolve_reference(*base, *type_modifier, references_left);
                Resolved { type_name: name, ..base }
            }
            TypeKind::Array { element } => self.resolve_array(*element, type_modifier, references_left),
        }
    }

    fn resolve_array(&self, element: Oid, type_modifier: i32, references_left: u32) -> Resolved {
        let resolved = self.resolve_reference(element, type_modifier, references_left);
        let type_name = format!("{}[]", resolved.type_name);
        if !self.is_comma_delimited(element) {
            return Resolved::new(Codec::Other, type_name);
        }
        let element = match resolved.codec {
            // Only a domain over an array can be the element of an array; its elements keep their text.
            Codec::Array(_) => Codec::Other,
            codec => codec,
        };
        Resolved::new(Codec::Array(Box::new(element)), type_name)
    }

    /// Whether arrays of the type separate their elements with a comma.
    ///
    /// The separator is a property of the element type, and not in the facts: `box` has `;`, PostGIS types
    /// have `:`. An array that might use another one is kept as a whole, as text.
    fn is_comma_delimited(&self, element: Oid) -> bool {
        let mut oid = element;
        for _ in 0..REFERENCES_MAX {
            if let Some(built_in) = BUILT_IN.iter().find(|row| row.oid == oid.0 || row.array_oid == oid.0) {
                return built_in.oid != BOX;
            }
            let Some(facts) = self.learnt.get(&oid) else { return false };
            oid = match &facts.kind {
                TypeKind::Domain { base, .. } => *base,
                TypeKind::Array { element } => *element,
                TypeKind::Enum | TypeKind::Composite | TypeKind::Range => return true,
                TypeKind::Base => return facts.name == CITEXT,
                TypeKind::Other => return false,
            };
        }
        false
    }
}

/// A row of the table of built-in types.
struct BuiltIn {
    oid: u32,
    array_oid: u32,
    name: &'static str,
    codec: Codec,
    modifier: Modifier,
}

/// What a type's modifier means.
#[derive(Clone, Copy)]
enum Modifier {
    /// Nothing, or nothing that people look for.
    None,
    /// A length, stored with four added.
    Length,
    /// A number stored as it is.
    Plain,
    /// Precision and scale.
    Numeric,
}

impl BuiltIn {
    fn resolve(&self, type_modifier: i32) -> Resolved {
        let name = self.name;
        let plain = || Resolved::new(self.codec.clone(), name.to_owned());
        match self.modifier {
            Modifier::None => plain(),
            Modifier::Length | Modifier::Plain if type_modifier < 0 => plain(),
            Modifier::Length => {
                let length = type_modifier.saturating_sub(MODIFIER_HEADER);
                Resolved::new(self.codec.clone(), format!("{name}({length})"))
            }
            Modifier::Plain => Resolved::new(self.codec.clone(), format!("{name}({type_modifier})")),
            Modifier::Numeric => match numeric_modifier(type_modifier) {
                None => plain(),
                Some((precision, scale)) => {
                    Resolved::new(decimal(precision, scale), format!("{name}({precision},{scale})"))
                }
            },
        }
    }
}

/// Precision and scale of a numeric's modifier: the scale is a signed number of 11 bits.
fn numeric_modifier(type_modifier: i32) -> Option<(i32, i32)> {
    let packed = type_modifier.checked_sub(MODIFIER_HEADER).filter(|packed| *packed >= 0)?;
    Some(((packed >> 16) & 0xFFFF, ((packed & 0x7FF) ^ 0x400) - 0x400))
}

/// The decimal that holds every value of `numeric(precision, scale)`, if the lake has one.
fn decimal(precision: i32, scale: i32) -> Codec {
    let (precision, scale) = match scale {
        // numeric(5,-2) has values up to 9999900: whole numbers of seven digits.
        ..0 => (precision.saturating_sub(scale), 0),
        // numeric(3,5) has values below 0.00999: five digits after the point.
        scale => (precision.max(scale), scale),
    };
    match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(precision @ 1..=DECIMAL_PRECISION_MAX), Ok(scale)) => Codec::Decimal { precision, scale },
        _ => Codec::NumericText,
    }
}

fn is_built_in(oid: Oid) -> bool {
    oid.0 < FIRST_NORMAL_OID
}

/// `FirstNormalObjectId`: what is below was there when the cluster was made.
const FIRST_NORMAL_OID: u32 = 16384;

/// `VARHDRSZ`, which Postgres adds to lengths and to numeric's modifier.
const MODIFIER_HEADER: i32 = 4;

/// What Parquet, Iceberg and every engine have.
const DECIMAL_PRECISION_MAX: u8 = 38;

/// How long a chain of domains and arrays may be; Postgres's own catalogs hold no longer ones in practice,
/// and a cycle in facts must end.
const REFERENCES_MAX: u32 = 32;

const BOX: u32 = 603;
const CITEXT: &str = "citext";

const fn row(oid: u32, array_oid: u32, name: &'static str, codec: Codec, modifier: Modifier) -> BuiltIn {
    BuiltIn { oid, array_oid, name, codec, modifier }
}

/// THE table: built-in type, its array, its name, how its cells are read, what its modifier means.
///
/// Types of fixed OID that are not here resolve like unknown ones, to text.
#[rustfmt::skip]
static BUILT_IN: [BuiltIn; 75] = [
    row(16,   1000, "bool",          Codec::Bool,        Modifier::None),
    row(17,   1001, "bytea",         Codec::Bytea,       Modifier::None),
    // One byte, which need not be a character; its text form differs between versions.
    row(18,   1002, "\"char\"",      Codec::Other,       Modifier::None),
    row(19,   1003, "name",          Codec::Text,        Modifier::None),
    row(20,   1016, "int8",          Codec::Int8,        Modifier::None),
    row(21,   1005, "int2",          Codec::Int2,        Modifier::None),
    row(22,   1006, "int2vector",    Codec::Other,       Modifier::None),
    row(23,   1007, "int4",          Codec::Int4,        Modifier::None),
    row(24,   1008, "regproc",       Codec::Other,       Modifier::None),
    row(25,   1009, "text",          Codec::Text,        Modifier::None),
    row(26,   1028, "oid",           Codec::Oid,         Modifier::None),
    row(27,   1010, "tid",           Codec::Other,       Modifier::None),
    row(28,   1011, "xid",           Codec::Oid,         Modifier::None),
    row(29,   1012, "cid",           Codec::Oid,         Modifier::None),
    row(30,   1013, "oidvector",     Codec::Other,       Modifier::None),
    row(114,   199, "json",          Codec::Json,        Modifier::None),
    row(142,   143, "xml",           Codec::Text,        Modifier::None),
    row(600,  1017, "point",         Codec::Other,       Modifier::None),
    row(601,  1018, "lseg",          Codec::Other,       Modifier::None),
    row(602,  1019, "path",          Codec::Other,       Modifier::None),
    row(BOX,  1020, "box",           Codec::Other,       Modifier::None),
    row(604,  1027, "polygon",       Codec::Other,       Modifier::None),
    row(628,   629, "line",          Codec::Other,       Modifier::None),
    row(650,   651, "cidr",          Codec::Other,       Modifier::None),
    row(700,  1021, "float4",        Codec::Float4,      Modifier::None),
    row(701,  1022, "float8",        Codec::Float8,      Modifier::None),
    row(718,   719, "circle",        Codec::Other,       Modifier::None),
    row(774,   775, "macaddr8",      Codec::Other,       Modifier::None),
    row(790,   791, "money",         Codec::Other,       Modifier::None),
    row(829,  1040, "macaddr",       Codec::Other,       Modifier::None),
    row(869,  1041, "inet",          Codec::Other,       Modifier::None),
    row(1033, 1034, "aclitem",       Codec::Other,       Modifier::None),
    row(1042, 1014, "char",          Codec::Text,        Modifier::Length),
    row(1043, 1015, "varchar",       Codec::Text,        Modifier::Length),
    row(1082, 1182, "date",          Codec::Date,        Modifier::None),
    row(1083, 1183, "time",          Codec::Time,        Modifier::Plain),
    row(1114, 1115, "timestamp",     Codec::Timestamp,   Modifier::Plain),
    row(1184, 1185, "timestamptz",   Codec::Timestamptz, Modifier::Plain),
    row(1186, 1187, "interval",      Codec::Other,       Modifier::None),
    row(1266, 1270, "timetz",        Codec::Other,       Modifier::Plain),
    row(1560, 1561, "bit",           Codec::Other,       Modifier::Plain),
    row(1562, 1563, "varbit",        Codec::Other,       Modifier::Plain),
    row(1700, 1231, "numeric",       Codec::NumericText, Modifier::Numeric),
    row(1790, 2201, "refcursor",     Codec::Text,        Modifier::None),
    row(2202, 2207, "regprocedure",  Codec::Other,       Modifier::None),
    row(2203, 2208, "regoper",       Codec::Other,       Modifier::None),
    row(2204, 2209, "regoperator",   Codec::Other,       Modifier::None),
    row(2205, 2210, "regclass",      Codec::Other,       Modifier::None),
    row(2206, 2211, "regtype",       Codec::Other,       Modifier::None),
    row(2950, 2951, "uuid",          Codec::Uuid,        Modifier::None),
    row(2970, 2949, "txid_snapshot", Codec::Other,       Modifier::None),
    row(3220, 3221, "pg_lsn",        Codec::Other,       Modifier::None),
    row(3614, 3643, "tsvector",      Codec::Other,       Modifier::None),
    row(3615, 3645, "tsquery",       Codec::Other,       Modifier::None),
    row(3734, 3735, "regconfig",     Codec::Other,       Modifier::None),
    row(3769, 3770, "regdictionary", Codec::Other,       Modifier::None),
    row(3802, 3807, "jsonb",         Codec::Jsonb,       Modifier::None),
    row(3904, 3905, "int4range",     Codec::Other,       Modifier::None),
    row(3906, 3907, "numrange",      Codec::Other,       Modifier::None),
    row(3908, 3909, "tsrange",       Codec::Other,       Modifier::None),
    row(3910, 3911, "tstzrange",     Codec::Other,       Modifier::None),
    row(3912, 3913, "daterange",     Codec::Other,       Modifier::None),
    row(3926, 3927, "int8range",     Codec::Other,       Modifier::None),
    row(4072, 4073, "jsonpath",      Codec::Other,       Modifier::None),
    row(4089, 4090, "regnamespace",  Codec::Other,       Modifier::None),
    row(4096, 4097, "regrole",       Codec::Other,       Modifier::None),
    row(4451, 6150, "int4multirange", Codec::Other,      Modifier::None),
    row(4532, 6151, "nummultirange", Codec::Other,       Modifier::None),
    row(4533, 6152, "tsmultirange",  Codec::Other,       Modifier::None),
    row(4534, 6153, "tstzmultirange", Codec::Other,      Modifier::None),
    row(4535, 6155, "datemultirange", Codec::Other,      Modifier::None),
    row(4536, 6157, "int8multirange", Codec::Other,      Modifier::None),
    row(4191, 4192, "regcollation",  Codec::Other,       Modifier::None),
    row(5038, 5039, "pg_snapshot",   Codec::Other,       Modifier::None),
    row(5069,  271, "xid8",          Codec::Other,       Modifier::None),
];

#[cfg(test)]
mod tests;

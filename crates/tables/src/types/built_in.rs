//! The built-in types.
//!
//! Owns: THE table: which type each OID is, what its modifier means, and the types of extensions that are known by name.
//! Does not: know what was learnt of other types (`types`), or what the configuration wants (`rules`).
//! Holds: an OID stands once, as a type or as the array of one.
//! Fails: never.

use super::codec::Codec;
use super::form::DECIMAL_PRECISION_MAX;

/// A row of the table.
pub(super) struct BuiltIn {
    pub(super) oid: u32,
    pub(super) array_oid: u32,
    pub(super) name: &'static str,
    codec: Codec,
    modifier: Modifier,
}

/// A built-in range, with its multirange.
pub(super) struct BuiltInRange {
    pub(super) oid: u32,
    pub(super) array_oid: u32,
    pub(super) name: &'static str,
    pub(super) multirange_oid: u32,
    pub(super) multirange_array_oid: u32,
    pub(super) multirange_name: &'static str,
    /// The OID of the type of its bounds.
    pub(super) bound: u32,
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
    /// A number of bits that every value has.
    Width,
    /// Digits of the seconds, and fields.
    Interval,
    /// Precision and scale.
    Numeric,
}

impl BuiltIn {
    /// How its cells are read, and its name with its modifier.
    pub(super) fn read(&self, type_modifier: i32) -> (Codec, String) {
        let (codec, name) = (self.codec.clone(), self.name);
        match self.modifier {
            Modifier::None => (codec, name.to_owned()),
            Modifier::Numeric => match numeric_modifier(type_modifier) {
                None => (codec, name.to_owned()),
                Some((precision, scale)) => {
                    (decimal(precision, scale), format!("{name}({precision},{scale})"))
                }
            },
            Modifier::Length | Modifier::Plain | Modifier::Width | Modifier::Interval
                if type_modifier < 0 =>
            {
                (codec, name.to_owned())
            }
            Modifier::Length => (codec, format!("{name}({})", type_modifier.saturating_sub(MODIFIER_HEADER))),
            Modifier::Plain => (codec, format!("{name}({type_modifier})")),
            Modifier::Width => (Codec::Bit, format!("{name}({type_modifier})")),
            Modifier::Interval => match type_modifier & INTERVAL_PRECISION_MASK {
                digits @ 0..=6 => (codec, format!("{name}({digits})")),
                _ => (codec, name.to_owned()),
            },
        }
    }
}

/// The type that an extension brings under that name.
pub(super) fn of_extension(name: &str, type_modifier: i32) -> Option<Codec> {
    Some(match name {
        "citext" => Codec::Text,
        "ltree" | "lquery" | "ltxtquery" => Codec::VersionedText,
        "hstore" => Codec::Hstore,
        "cube" => Codec::Cube,
        "vector" => Codec::Vector,
        "halfvec" => Codec::Halfvec,
        "sparsevec" => Codec::Sparsevec,
        "geometry" => Codec::Geometry { srid: srid_of_modifier(type_modifier).unwrap_or(0) },
        "geography" => {
            let srid = srid_of_modifier(type_modifier).filter(|srid| *srid != 0);
            Codec::Geometry { srid: srid.unwrap_or(GEOGRAPHY_SRID) }
        }
        _ => return None,
    })
}

/// The names that [`of_extension`] knows.
pub(super) const EXTENSION_TYPES: [&str; 11] = [
    "citext",
    "ltree",
    "lquery",
    "ltxtquery",
    "hstore",
    "cube",
    "vector",
    "halfvec",
    "sparsevec",
    "geometry",
    "geography",
];

/// PostGIS's `TYPMOD_GET_SRID`: 21 bits, signed, from bit 8.
fn srid_of_modifier(type_modifier: i32) -> Option<i32> {
    let bits = (type_modifier >= 0).then_some((type_modifier >> 8) & 0x1F_FFFF)?;
    Some((bits ^ 0x10_0000) - 0x10_0000)
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
    // The Parquet writer has one digit in 64 bits, where Iceberg wants 32 up to nine digits.
    let precision = precision.max(2);
    match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(precision @ 1..=DECIMAL_PRECISION_MAX), Ok(scale)) => Codec::Decimal { precision, scale },
        _ => Codec::NumericText,
    }
}

/// `VARHDRSZ`, which Postgres adds to lengths and to numeric's modifier.
const MODIFIER_HEADER: i32 = 4;

/// `INTERVAL_PRECISION`; all bits set mean none.
const INTERVAL_PRECISION_MASK: i32 = 0xFFFF;

/// What a geography has if nothing is said.
const GEOGRAPHY_SRID: i32 = 4326;

const fn row(oid: u32, array_oid: u32, name: &'static str, codec: Codec, modifier: Modifier) -> BuiltIn {
    BuiltIn { oid, array_oid, name, codec, modifier }
}

/// THE table: built-in type, its array, its name, how its cells are read, what its modifier means.
///
/// Types of fixed OID that are not here resolve like unknown ones, to text.
#[rustfmt::skip]
pub(super) static BUILT_IN: [BuiltIn; 63] = [
    row(16,   1000, "bool",          Codec::Bool,          Modifier::None),
    row(17,   1001, "bytea",         Codec::Bytea,         Modifier::None),
    row(18,   1002, "\"char\"",      Codec::Char,          Modifier::None),
    row(19,   1003, "name",          Codec::Text,          Modifier::None),
    row(20,   1016, "int8",          Codec::Int8,          Modifier::None),
    row(21,   1005, "int2",          Codec::Int2,          Modifier::None),
    row(22,   1006, "int2vector",    Codec::Int2Vector,    Modifier::None),
    row(23,   1007, "int4",          Codec::Int4,          Modifier::None),
    row(24,   1008, "regproc",       Codec::Other,         Modifier::None),
    row(25,   1009, "text",          Codec::Text,          Modifier::None),
    row(26,   1028, "oid",           Codec::Oid,           Modifier::None),
    row(27,   1010, "tid",           Codec::Tid,           Modifier::None),
    row(28,   1011, "xid",           Codec::Oid,           Modifier::None),
    row(29,   1012, "cid",           Codec::Oid,           Modifier::None),
    row(30,   1013, "oidvector",     Codec::OidVector,     Modifier::None),
    row(114,   199, "json",          Codec::Json,          Modifier::None),
    row(142,   143, "xml",           Codec::Text,          Modifier::None),
    row(600,  1017, "point",         Codec::Point,         Modifier::None),
    row(601,  1018, "lseg",          Codec::Lseg,          Modifier::None),
    row(602,  1019, "path",          Codec::Path,          Modifier::None),
    row(603,  1020, "box",           Codec::Box,           Modifier::None),
    row(604,  1027, "polygon",       Codec::Polygon,       Modifier::None),
    row(628,   629, "line",          Codec::Line,          Modifier::None),
    row(650,   651, "cidr",          Codec::Cidr,          Modifier::None),
    row(700,  1021, "float4",        Codec::Float4,        Modifier::None),
    row(701,  1022, "float8",        Codec::Float8,        Modifier::None),
    row(718,   719, "circle",        Codec::Circle,        Modifier::None),
    row(774,   775, "macaddr8",      Codec::Macaddr8,      Modifier::None),
    row(790,   791, "money",         Codec::Money,         Modifier::None),
    row(829,  1040, "macaddr",       Codec::Macaddr,       Modifier::None),
    row(869,  1041, "inet",          Codec::Inet,          Modifier::None),
    row(1033, 1034, "aclitem",       Codec::Unsent,        Modifier::None),
    row(1042, 1014, "char",          Codec::Bpchar,        Modifier::Length),
    row(1043, 1015, "varchar",       Codec::Text,          Modifier::Length),
    row(1082, 1182, "date",          Codec::Date,          Modifier::None),
    row(1083, 1183, "time",          Codec::Time,          Modifier::Plain),
    row(1114, 1115, "timestamp",     Codec::Timestamp,     Modifier::Plain),
    row(1184, 1185, "timestamptz",   Codec::Timestamptz,   Modifier::Plain),
    row(1186, 1187, "interval",      Codec::Interval,      Modifier::Interval),
    row(1266, 1270, "timetz",        Codec::Timetz,        Modifier::Plain),
    row(1560, 1561, "bit",           Codec::Varbit,        Modifier::Width),
    row(1562, 1563, "varbit",        Codec::Varbit,        Modifier::Plain),
    row(1700, 1231, "numeric",       Codec::NumericText,   Modifier::Numeric),
    row(1790, 2201, "refcursor",     Codec::Text,          Modifier::None),
    row(2202, 2207, "regprocedure",  Codec::Other,         Modifier::None),
    row(2203, 2208, "regoper",       Codec::Other,         Modifier::None),
    row(2204, 2209, "regoperator",   Codec::Other,         Modifier::None),
    row(2205, 2210, "regclass",      Codec::Other,         Modifier::None),
    row(2206, 2211, "regtype",       Codec::Other,         Modifier::None),
    row(2950, 2951, "uuid",          Codec::Uuid,          Modifier::None),
    row(2970, 2949, "txid_snapshot", Codec::Snapshot,      Modifier::None),
    row(3220, 3221, "pg_lsn",        Codec::PgLsn,         Modifier::None),
    row(3614, 3643, "tsvector",      Codec::Tsvector,      Modifier::None),
    row(3615, 3645, "tsquery",       Codec::Tsquery,       Modifier::None),
    row(3734, 3735, "regconfig",     Codec::Other,         Modifier::None),
    row(3769, 3770, "regdictionary", Codec::Other,         Modifier::None),
    row(3802, 3807, "jsonb",         Codec::Jsonb,         Modifier::None),
    row(4072, 4073, "jsonpath",      Codec::VersionedText, Modifier::None),
    row(4089, 4090, "regnamespace",  Codec::Other,         Modifier::None),
    row(4096, 4097, "regrole",       Codec::Other,         Modifier::None),
    row(4191, 4192, "regcollation",  Codec::Other,         Modifier::None),
    row(5038, 5039, "pg_snapshot",   Codec::Snapshot,      Modifier::None),
    row(5069,  271, "xid8",          Codec::Xid8,          Modifier::None),
];

/// Ranges, which have no modifier.
#[rustfmt::skip]
pub(super) static RANGES: [BuiltInRange; 6] = [
    range(3904, 3905, "int4range", 4451, 6150, "int4multirange", 23),
    range(3906, 3907, "numrange",  4532, 6151, "nummultirange",  1700),
    range(3908, 3909, "tsrange",   4533, 6152, "tsmultirange",   1114),
    range(3910, 3911, "tstzrange", 4534, 6153, "tstzmultirange", 1184),
    range(3912, 3913, "daterange", 4535, 6155, "datemultirange", 1082),
    range(3926, 3927, "int8range", 4536, 6157, "int8multirange", 20),
];

const fn range(
    oid: u32,
    array_oid: u32,
    name: &'static str,
    multirange_oid: u32,
    multirange_array_oid: u32,
    multirange_name: &'static str,
    bound: u32,
) -> BuiltInRange {
    BuiltInRange { oid, array_oid, name, multirange_oid, multirange_array_oid, multirange_name, bound }
}

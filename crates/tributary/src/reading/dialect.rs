//! How engines write names, texts and types.
//!
//! Owns: [`Engine`], quoting, and the table of types.
//! Does not: know any statement.
//! Holds: whatever a table or column is called, its name cannot end the quotes it stands in.
//! Fails: never; a type that an engine cannot read has none.

use clap::ValueEnum;
use tables::types::LakeType;

/// An engine that reads Parquet in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
pub enum Engine {
    /// DuckDB 1.4 and newer
    DuckDb,
    /// Amazon Athena, engine version 3
    Athena,
    /// Trino, with the Hive connector
    Trino,
    /// Apache Spark 3.5 and newer
    Spark,
    /// Snowflake, with an external stage
    Snowflake,
    /// Amazon Redshift Spectrum
    Redshift,
}

impl Engine {
    /// A name in a query.
    pub(super) fn name(self, name: &str) -> String {
        match self {
            Engine::Spark => backticks(name),
            Engine::DuckDb | Engine::Athena | Engine::Trino | Engine::Snowflake | Engine::Redshift => {
                format!("\"{}\"", name.replace('"', "\"\""))
            }
        }
    }

    /// A name in `CREATE TABLE` and the like, which Athena leaves to Hive's grammar.
    pub(super) fn name_in_ddl(self, name: &str) -> String {
        if self == Engine::Athena { backticks(name) } else { self.name(name) }
    }

    /// A text in a query.
    pub(super) fn text(self, text: &str) -> String {
        match self {
            // A backslash escapes there, and two quotes end one text and begin another.
            Engine::Spark => hive_text(text),
            Engine::Snowflake | Engine::Redshift => {
                format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
            }
            Engine::DuckDb | Engine::Athena | Engine::Trino => {
                format!("'{}'", text.replace('\'', "''"))
            }
        }
    }

    /// A text in `CREATE TABLE` and the like.
    pub(super) fn text_in_ddl(self, text: &str) -> String {
        if self == Engine::Athena { hive_text(text) } else { self.text(text) }
    }

    /// Whether a list of texts has this one; `false` for NULL.
    pub(super) fn contains(self, list: &str, text: &str) -> String {
        let text = self.text(text);
        match self {
            Engine::DuckDb => format!("coalesce(list_contains({list}, {text}), false)"),
            Engine::Athena | Engine::Trino => format!("coalesce(contains({list}, {text}), false)"),
            Engine::Spark => format!("coalesce(array_contains({list}, {text}), false)"),
            Engine::Snowflake => format!("coalesce(array_contains({text}::variant, {list}), false)"),
            Engine::Redshift => format!("(select count(*) from {list} as _cdc_u where _cdc_u = {text}) > 0"),
        }
    }

    /// What a map of texts has under a key; NULL if that is nothing, or the map is NULL.
    pub(super) fn entry(self, map: &str, key: &str) -> String {
        let key = self.text(key);
        match self {
            Engine::DuckDb => format!("{map}[{key}]"),
            // With brackets, a key that is not there is an error.
            Engine::Athena | Engine::Trino => format!("element_at({map}, {key})"),
            Engine::Spark => format!("try_element_at({map}, {key})"),
            Engine::Snowflake => format!("{map}[{key}]::varchar"),
            // A map is a list of entries there.
            Engine::Redshift => {
                format!("(select max(_cdc_r.value) from {map} as _cdc_r where _cdc_r.key = {key})")
            }
        }
    }

    /// The type of a column over files; `None` if the engine cannot read it.
    pub(super) fn type_of(self, lake: &LakeType) -> Option<String> {
        match lake {
            LakeType::Decimal { precision, scale } => Some(format!("decimal({precision},{scale})")),
            LakeType::List(element) => self.list_of(&self.type_of(element)?),
            LakeType::Map => self.map(),
            LakeType::Struct(fields) => {
                let fields =
                    fields.iter().map(|field| Some((field.name.as_str(), self.type_of(&field.lake)?)));
                self.structure(&fields.collect::<Option<Vec<_>>>()?)
            }
            LakeType::Boolean
            | LakeType::Int32
            | LakeType::Int64
            | LakeType::Float32
            | LakeType::Float64
            | LakeType::Utf8
            | LakeType::Json
            | LakeType::Binary
            | LakeType::Fixed16
            | LakeType::Uuid
            | LakeType::Date
            | LakeType::Time
            | LakeType::Timestamp
            | LakeType::TimestampTz => self.scalar(lake).map(str::to_owned),
        }
    }

    fn scalar(self, lake: &LakeType) -> Option<&'static str> {
        use Engine::{Athena, DuckDb, Redshift, Snowflake, Spark, Trino};
        Some(match (lake, self) {
            (LakeType::Boolean, _) => "boolean",
            (LakeType::Int32, Athena | Spark) => "int",
            (LakeType::Int32, _) => "integer",
            (LakeType::Int64, _) => "bigint",
            (LakeType::Float32, DuckDb | Trino | Redshift) => "real",
            (LakeType::Float32, _) => "float",
            (LakeType::Float64, Redshift) => "double precision",
            (LakeType::Float64, _) => "double",
            (LakeType::Utf8 | LakeType::Json, Athena | Spark) => "string",
            (LakeType::Utf8 | LakeType::Json, Redshift) => "varchar(65535)",
            (LakeType::Utf8 | LakeType::Json, _) => "varchar",
            (LakeType::Uuid, DuckDb) => "uuid",
            // At schema inference Spark fails on it, whatever is declared.
            (LakeType::Uuid, Spark) => return None,
            (LakeType::Binary | LakeType::Fixed16, DuckDb) => "blob",
            (LakeType::Binary | LakeType::Fixed16 | LakeType::Uuid, Trino) => "varbinary",
            (LakeType::Binary | LakeType::Fixed16 | LakeType::Uuid, Redshift) => "varbyte(64000)",
            (LakeType::Binary | LakeType::Fixed16 | LakeType::Uuid, _) => "binary",
            (LakeType::Date, _) => "date",
            (LakeType::Time, DuckDb | Snowflake) => "time",
            (LakeType::Time, _) => return None,
            (LakeType::TimestampTz, DuckDb) => "timestamptz",
            (LakeType::Timestamp, Spark) => "timestamp_ntz",
            (LakeType::Timestamp | LakeType::TimestampTz, Trino) => "timestamp(6)",
            (LakeType::Timestamp | LakeType::TimestampTz, Snowflake) => "timestamp_ntz",
            (LakeType::Timestamp | LakeType::TimestampTz, _) => "timestamp",
            (LakeType::Decimal { .. } | LakeType::List(_) | LakeType::Map | LakeType::Struct(_), _) => {
                return None;
            }
        })
    }

    fn list_of(self, element: &str) -> Option<String> {
        Some(match self {
            Engine::DuckDb => format!("{element}[]"),
            Engine::Trino => format!("array({element})"),
            Engine::Snowflake => "array".to_owned(),
            Engine::Athena | Engine::Spark | Engine::Redshift => format!("array<{element}>"),
        })
    }

    fn map(self) -> Option<String> {
        Some(match self {
            Engine::DuckDb | Engine::Trino => "map(varchar, varchar)".to_owned(),
            Engine::Athena | Engine::Spark => "map<string,string>".to_owned(),
            Engine::Snowflake => "object".to_owned(),
            Engine::Redshift => "map<varchar(65535),varchar(65535)>".to_owned(),
        })
    }

    fn structure(self, fields: &[(&str, String)]) -> Option<String> {
        let joined = |between: &str| {
            let field = |(name, of): &(&str, String)| format!("{}{between}{of}", self.name_in_ddl(name));
            fields.iter().map(field).collect::<Vec<_>>().join(", ")
        };
        Some(match self {
            Engine::DuckDb => format!("struct({})", joined(" ")),
            Engine::Trino => format!("row({})", joined(" ")),
            Engine::Snowflake => "object".to_owned(),
            Engine::Spark => format!("struct<{}>", joined(": ")),
            // Hive's grammar takes no quotes there.
            Engine::Athena | Engine::Redshift => {
                let plain = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
                if !fields.iter().all(|(name, _)| plain(name)) {
                    return None;
                }
                let field = |(name, of): &(&str, String)| format!("{name}:{of}");
                format!("struct<{}>", fields.iter().map(field).collect::<Vec<_>>().join(","))
            }
        })
    }

    /// Whether a view can have a column of this type as it is.
    pub(super) fn shows(self, lake: &LakeType) -> bool {
        let is_nested = matches!(lake, LakeType::List(_) | LakeType::Map | LakeType::Struct(_));
        // Spectrum only lets a query look into nested columns.
        self.type_of(lake).is_some() && !(is_nested && self == Engine::Redshift)
    }

    /// A column as something that rows can be told apart by.
    pub(super) fn comparable(self, name: &str, lake: &LakeType) -> String {
        if has_map(lake) && self == Engine::Spark { format!("to_json({name})") } else { name.to_owned() }
    }
}

fn has_map(lake: &LakeType) -> bool {
    match lake {
        LakeType::Map => true,
        LakeType::List(element) => has_map(element),
        LakeType::Struct(fields) => fields.iter().any(|field| has_map(&field.lake)),
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
        | LakeType::TimestampTz => false,
    }
}

fn backticks(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

fn hive_text(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

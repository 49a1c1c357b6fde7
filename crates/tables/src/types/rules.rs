//! What the configuration wants of types: a profile, forms of types, forms of columns.
//!
//! Owns: which rule a type or column falls under.
//! Does not: read the configuration's file, or know the types of a server (`types`).
//! Holds: the closest rule wins: a column by name, a column by glob, a type by name, its family, the profile.
//! Fails: [`RuleError`], naming the key, and the forms that there are.

use super::built_in::{self, BUILT_IN, RANGES};
use super::codec::{Codec, RecordField};
use super::form::Form;
use crate::fold::ColumnGlob;

/// Which lake types are used where nothing else is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// What every common engine reads.
    #[default]
    Portable,
    /// Closest to Postgres.
    Native,
}

impl Profile {
    /// The form that a type has under the profile, if it is another than its first.
    pub(super) fn form_of(self, codec: &Codec) -> Option<Form> {
        match (self, codec) {
            (Profile::Native, Codec::Uuid) => Some(Form::Native),
            (Profile::Native, Codec::Time) => Some(Form::Time),
            (Profile::Native, Codec::Json | Codec::Jsonb) => Some(Form::Json),
            (Profile::Portable | Profile::Native, _) => None,
        }
    }
}

/// All rules.
#[derive(Clone, Debug, Default)]
pub struct TypeRules {
    pub(super) profile: Profile,
    types: Vec<(String, Form)>,
    columns: Vec<ColumnRule>,
}

/// A form for the columns that a glob names.
#[derive(Clone, Debug)]
struct ColumnRule {
    key: String,
    glob: ColumnGlob,
    form: Form,
}

/// A rule that cannot be what its author meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    /// The type or column as it is written.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// The form, or the key, as it is written, and the words that would be right.
    pub written: String,
    /// What would be right.
    pub valid: Vec<String>,
}

impl TypeRules {
    /// Rules as the configuration has them: forms by type, and forms by glob on `schema.table.column`.
    pub fn new<'a>(
        profile: Profile,
        types: impl IntoIterator<Item = (&'a str, &'a str)>,
        columns: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<TypeRules, RuleError> {
        let mut rules = TypeRules { profile, types: Vec::new(), columns: Vec::new() };
        for (key, form) in types {
            rules.add_type(key, form)?;
        }
        for (key, form) in columns {
            rules.add_column(key, form)?;
        }
        // The one that leaves least open comes first.
        rules.columns.sort_by_key(|rule| (rule.glob.is_wild(), std::cmp::Reverse(rule.glob.literals())));
        Ok(rules)
    }

    fn add_type(&mut self, key: &str, written: &str) -> Result<(), RuleError> {
        let form = read_form(key, written)?;
        let name = canonical(key);
        match natural_of(name) {
            Some(codec) if codec.in_form(form).is_none() => {
                return Err(RuleError {
                    key: key.to_owned(),
                    what: format!("{key} has no form `{written}`"),
                    written: written.to_owned(),
                    valid: codec.forms(),
                });
            }
            // A type of the database: whether the form fits is known once its kind is.
            None if !name.contains('.') => {
                return Err(RuleError {
                    key: key.to_owned(),
                    what: format!(
                        "there is no built-in type `{key}`; a type of the database is written `schema.name`"
                    ),
                    written: key.to_owned(),
                    valid: known_names(),
                });
            }
            Some(_) | None => {}
        }
        self.types.push((name.to_owned(), form));
        Ok(())
    }

    fn add_column(&mut self, key: &str, written: &str) -> Result<(), RuleError> {
        let form = read_form(key, written)?;
        let glob = ColumnGlob::parse(key).map_err(|error| RuleError {
            key: key.to_owned(),
            what: error.to_string(),
            written: String::new(),
            valid: Vec::new(),
        })?;
        self.columns.push(ColumnRule { key: key.to_owned(), glob, form });
        Ok(())
    }

    /// The rule for a type under the first of these names that has one.
    pub(super) fn of_type(&self, names: &[&str]) -> Option<(&str, Form)> {
        let rule = |name: &&str| self.types.iter().find(|(key, _)| key == name);
        names.iter().find_map(rule).map(|(key, form)| (key.as_str(), *form))
    }

    /// The rule for a column.
    pub fn of_column(&self, schema: &str, table: &str, column: &str) -> Option<(&str, Form)> {
        let rule = self.columns.iter().find(|rule| rule.glob.matches(schema, table, column))?;
        Some((rule.key.as_str(), rule.form))
    }

    /// The globs of all column rules, as they are written, each with whether it names such a column.
    pub fn column_keys(&self) -> impl Iterator<Item = (&str, &ColumnGlob)> {
        self.columns.iter().map(|rule| (rule.key.as_str(), &rule.glob))
    }

    /// Whether some rule can only be judged against the types of a server.
    pub fn need_catalogs(&self) -> bool {
        !self.columns.is_empty() || self.types.iter().any(|(name, _)| natural_of(name).is_none())
    }
}

fn read_form(key: &str, written: &str) -> Result<Form, RuleError> {
    written.parse().map_err(|_| RuleError {
        key: key.to_owned(),
        what: format!("no form is called `{written}`"),
        written: written.to_owned(),
        valid: match natural_of(canonical(key)) {
            Some(codec) => codec.forms(),
            None => Form::all().map(|form| form.to_string()).collect(),
        },
    })
}

/// The type of that name as it is without rules, if it is known without a server.
fn natural_of(name: &str) -> Option<Codec> {
    if let Some(element) = name.strip_suffix("[]") {
        return natural_of(element).map(|element| Codec::Array(Box::new(element)));
    }
    let text = || Box::new(Codec::Text);
    match name {
        ARRAYS => return Some(Codec::Array(text())),
        RANGES_KEY => return Some(Codec::Range(text())),
        MULTIRANGES => return Some(Codec::Multirange(text())),
        COMPOSITES => {
            let field = RecordField {
                source_name: String::new(),
                name: String::new(),
                type_oid: pgoutput::Oid(0),
                codec: Codec::Text,
            };
            return Some(Codec::Record(vec![field]));
        }
        _ => {}
    }
    if let Some(built_in) = BUILT_IN.iter().find(|row| row.name == name) {
        return Some(built_in.read(-1).0);
    }
    if RANGES.iter().any(|range| range.name == name) {
        return Some(Codec::Range(text()));
    }
    if RANGES.iter().any(|range| range.multirange_name == name) {
        return Some(Codec::Multirange(text()));
    }
    built_in::of_extension(name, -1)
}

fn known_names() -> Vec<String> {
    let built_in = BUILT_IN.iter().map(|row| row.name);
    let ranges = RANGES.iter().flat_map(|range| [range.name, range.multirange_name]);
    let families = [ARRAYS, RANGES_KEY, MULTIRANGES, COMPOSITES];
    let names = built_in.chain(ranges).chain(families).chain(built_in::EXTENSION_TYPES);
    names.map(str::to_owned).collect()
}

/// The name that Postgres's catalogs have for what SQL calls otherwise.
fn canonical(name: &str) -> &str {
    match name {
        "boolean" => "bool",
        "smallint" => "int2",
        "integer" | "int" => "int4",
        "bigint" => "int8",
        "real" => "float4",
        "double precision" => "float8",
        "decimal" => "numeric",
        "character" | "bpchar" => "char",
        "character varying" => "varchar",
        "bit varying" => "varbit",
        "timestamp without time zone" => "timestamp",
        "timestamp with time zone" => "timestamptz",
        "time without time zone" => "time",
        "time with time zone" => "timetz",
        name => name,
    }
}

/// All arrays.
pub(super) const ARRAYS: &str = "arrays";
/// All ranges.
pub(super) const RANGES_KEY: &str = "ranges";
/// All multiranges.
pub(super) const MULTIRANGES: &str = "multiranges";
/// All row types.
pub(super) const COMPOSITES: &str = "composites";

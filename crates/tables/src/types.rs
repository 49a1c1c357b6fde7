//! Which lake type each Postgres type has.
//!
//! Owns: what was learnt of types that are not built in, and the way from an OID to a [`Codec`]: `built_in` is the table,
//! `rules` what the configuration wants, `codec` the lake types and the forms that fit.
//! Does not: read cells (`text`, `binary`, `forms`), or ask a server; the caller brings [`TypeFacts`].
//! Holds: every OID resolves; what is unknown keeps its exact text.
//! Fails: never; a rule that does not fit its type is left out and named in [`Resolved::misfit`].

use pgoutput::Oid;
use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};

mod built_in;
mod codec;
mod form;
mod loss;
mod rules;

use built_in::{BUILT_IN, BuiltInRange, RANGES};
pub use codec::{Codec, LakeField, LakeType, RecordField};
pub use form::{Form, UnknownForm};
pub use loss::Loss;
pub use rules::{Profile, RuleError, TypeRules};

use crate::schema::LakeNames;

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

impl TypeFacts {
    /// An extension's type that is known by its name, in whatever schema it was put.
    fn is_of_extension(&self) -> bool {
        matches!(self.kind, TypeKind::Base { .. }) && built_in::of_extension(&self.name, -1).is_some()
    }
}

/// The kinds of types.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TypeKind {
    /// A type of its own, usually an extension's.
    Base {
        /// What stands between the elements of its arrays.
        delimiter: u8,
        /// Whether it has a binary form.
        is_sent: bool,
    },
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
    Composite {
        /// Its attributes.
        attributes: Vec<Attribute>,
    },
    /// A range.
    Range {
        /// The type of its bounds.
        bound: Oid,
    },
    /// A multirange.
    Multirange {
        /// Of these.
        range: Oid,
    },
    /// Anything else.
    Other,
}

impl TypeKind {
    /// The types that it is made of.
    fn parts(&self) -> Vec<Oid> {
        match self {
            TypeKind::Base { .. } | TypeKind::Enum | TypeKind::Other => Vec::new(),
            TypeKind::Domain { base: part, .. }
            | TypeKind::Array { element: part }
            | TypeKind::Range { bound: part }
            | TypeKind::Multirange { range: part } => vec![*part],
            TypeKind::Composite { attributes } => {
                attributes.iter().map(|attribute| attribute.type_oid).collect()
            }
        }
    }
}

/// An attribute of a row type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    /// Its name.
    pub name: String,
    /// Its type.
    pub type_oid: Oid,
    /// The type's modifier, -1 for none.
    pub type_modifier: i32,
}

/// What is known of types: the built-in ones, what was learnt, and what the configuration wants.
#[derive(Clone, Debug, Default)]
pub struct TypeCatalog {
    rules: TypeRules,
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
    /// What chose the form.
    pub chosen_by: ChosenBy,
    /// A rule that was meant for it and does not fit.
    pub misfit: Option<Misfit>,
}

/// What chose the form of a type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChosenBy {
    /// The table of types.
    Default,
    /// `types.profile`
    Profile,
    /// That key of `types.override`.
    Override(String),
    /// That key of `types.columns`.
    Column(String),
}

/// A rule whose form the type does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Misfit {
    /// The rule.
    pub rule: ChosenBy,
    /// Its form.
    pub form: Form,
    /// The forms that the type has.
    pub valid: Vec<String>,
}

impl Resolved {
    pub(crate) fn new(codec: Codec, type_name: String) -> Resolved {
        Resolved {
            lake: codec.lake(),
            has_binary_decoder: codec.has_binary_decoder(),
            codec,
            type_name,
            chosen_by: ChosenBy::Default,
            misfit: None,
        }
    }

    /// The type in another form, if it has it.
    fn in_form(self, form: Form, rule: ChosenBy) -> Resolved {
        match self.codec.in_form(form) {
            Some(codec) => {
                Resolved { chosen_by: rule, misfit: self.misfit, ..Resolved::new(codec, self.type_name) }
            }
            None => Resolved { misfit: Some(Misfit { rule, form, valid: self.codec.forms() }), ..self },
        }
    }
}

impl TypeCatalog {
    /// Knows only what is built in, and what the configuration wants.
    pub fn new(rules: TypeRules) -> TypeCatalog {
        TypeCatalog { rules, learnt: FxHashMap::default() }
    }

    /// What the configuration wants.
    pub fn rules(&self) -> &TypeRules {
        &self.rules
    }

    #[cfg(test)]
    pub(crate) fn of_extension(name: &str) -> Option<Codec> {
        built_in::of_extension(name, -1)
    }

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
        let mut open = vec![oid];
        let mut seen = FxHashSet::default();
        while let Some(oid) = open.pop() {
            if is_built_in(oid) || !seen.insert(oid) {
                continue;
            }
            match self.learnt.get(&oid) {
                None => return Some(oid),
                Some(facts) => open.extend(facts.kind.parts()),
            }
        }
        None
    }

    /// The lake type of a type; what is unknown is text.
    pub fn resolve(&self, oid: Oid, type_modifier: i32) -> Resolved {
        self.resolve_reference(
            oid,
            type_modifier,
            &mut Budget { references: REFERENCES_MAX, depth: DEPTH_MAX },
        )
    }

    /// The lake type of a column. Its table may have had several names.
    pub fn resolve_column<'a>(
        &self,
        tables: impl IntoIterator<Item = (&'a str, &'a str)>,
        column: &str,
        oid: Oid,
        type_modifier: i32,
    ) -> Resolved {
        let resolved = self.resolve(oid, type_modifier);
        let rule = tables.into_iter().find_map(|(schema, table)| self.rules.of_column(schema, table, column));
        match rule {
            Some((key, form)) => resolved.in_form(form, ChosenBy::Column(key.to_owned())),
            None => resolved,
        }
    }

    fn resolve_reference(&self, oid: Oid, type_modifier: i32, budget: &mut Budget) -> Resolved {
        let Some(within) = budget.enter() else {
            return Resolved::new(Codec::Other, format!("type {oid}"));
        };
        *budget = within;
        let resolved = self.resolve_within(oid, type_modifier, budget);
        budget.depth += 1;
        resolved
    }

    fn resolve_within(&self, oid: Oid, type_modifier: i32, budget: &mut Budget) -> Resolved {
        if let Some(built_in) = BUILT_IN.iter().find(|row| row.oid == oid.0) {
            let (codec, name) = built_in.read(type_modifier);
            return self.ruled(codec, name, &[built_in.name]);
        }
        if let Some(element) = BUILT_IN.iter().find(|row| row.array_oid == oid.0) {
            return self.resolve_array(Oid(element.oid), type_modifier, budget);
        }
        if let Some(range) = RANGES.iter().find_map(|range| range.role_of(oid)) {
            return self.resolve_range(range, budget);
        }
        let Some(facts) = self.learnt.get(&oid) else {
            return Resolved::new(Codec::Other, format!("type {oid}"));
        };
        self.resolve_learnt(facts, type_modifier, budget)
    }

    fn resolve_learnt(&self, facts: &TypeFacts, type_modifier: i32, budget: &mut Budget) -> Resolved {
        let name = format!("{}.{}", facts.schema, facts.name);
        let bare = facts.is_of_extension().then_some(facts.name.as_str());
        let names: Vec<&str> = [name.as_str()].into_iter().chain(bare).collect();
        match &facts.kind {
            TypeKind::Base { is_sent, .. } => {
                let unknown = if *is_sent { Codec::Other } else { Codec::Unsent };
                let codec = built_in::of_extension(&facts.name, type_modifier).unwrap_or(unknown);
                self.ruled(codec, name.clone(), &names)
            }
            TypeKind::Other => self.ruled(Codec::Other, name.clone(), &names),
            TypeKind::Enum => self.ruled(Codec::Enum, name.clone(), &names),
            TypeKind::Domain { base, type_modifier } => {
                let base = self.resolve_reference(*base, *type_modifier, budget);
                let domain = Resolved { type_name: name.clone(), ..base };
                self.in_form_of(domain, &names)
            }
            TypeKind::Array { element } => self.resolve_array(*element, type_modifier, budget),
            TypeKind::Composite { attributes } => {
                let codec = Codec::Record(self.record_fields(attributes, budget));
                self.ruled(codec, name.clone(), &[names.as_slice(), &[rules::COMPOSITES]].concat())
            }
            TypeKind::Range { bound } => {
                let codec = Codec::Range(Box::new(self.resolve_reference(*bound, -1, budget).codec));
                self.ruled(codec, name.clone(), &[names.as_slice(), &[rules::RANGES_KEY]].concat())
            }
            TypeKind::Multirange { range } => {
                let range = self.resolve_reference(*range, -1, budget).codec;
                let codec = match range.natural() {
                    Codec::Range(bound) => Codec::Multirange(bound.clone()),
                    _ => Codec::Other,
                };
                self.ruled(codec, name.clone(), &[names.as_slice(), &[rules::MULTIRANGES]].concat())
            }
        }
    }

    fn record_fields(&self, attributes: &[Attribute], budget: &mut Budget) -> Vec<RecordField> {
        let mut names = LakeNames::default();
        let fields = attributes.iter().map(|attribute| RecordField {
            source_name: attribute.name.clone(),
            name: names.of(&attribute.name),
            type_oid: attribute.type_oid,
            codec: self.resolve_reference(attribute.type_oid, attribute.type_modifier, budget).codec,
        });
        fields.collect()
    }

    fn resolve_range(&self, range: RangeRole, budget: &mut Budget) -> Resolved {
        let bound = |range: &BuiltInRange, budget: &mut Budget| {
            Box::new(self.resolve_reference(Oid(range.bound), -1, budget).codec)
        };
        match range {
            RangeRole::Range(range) => {
                let codec = Codec::Range(bound(range, budget));
                self.ruled(codec, range.name.to_owned(), &[range.name, rules::RANGES_KEY])
            }
            RangeRole::Multirange(range) => {
                let codec = Codec::Multirange(bound(range, budget));
                let name = range.multirange_name;
                self.ruled(codec, name.to_owned(), &[name, rules::MULTIRANGES])
            }
            RangeRole::ArrayOf(oid) => self.resolve_array(oid, -1, budget),
        }
    }

    fn resolve_array(&self, element: Oid, type_modifier: i32, budget: &mut Budget) -> Resolved {
        let resolved = self.resolve_reference(element, type_modifier, budget);
        let type_name = format!("{}[]", resolved.type_name);
        if self.delimiter(element) != Some(resolved.codec.delimiter()) {
            return Resolved::new(Codec::Other, type_name);
        }
        let element_codec = match resolved.codec {
            // Only a domain over an array can be the element of an array; its elements keep their text.
            array @ Codec::Array(_) => Codec::As { form: Form::String, of: Box::new(array) },
            codec => codec,
        };
        let array = Resolved {
            chosen_by: resolved.chosen_by,
            misfit: resolved.misfit,
            ..Resolved::new(Codec::Array(Box::new(element_codec)), type_name.clone())
        };
        let extension = self.learnt.get(&element).filter(|facts| facts.is_of_extension());
        let bare = extension.map(|facts| format!("{}[]", facts.name));
        let built_in = BUILT_IN.iter().find(|row| row.oid == element.0).map(|row| format!("{}[]", row.name));
        let names = [Some(type_name), bare, built_in];
        let mut names: Vec<&str> = names.iter().flatten().map(String::as_str).collect();
        names.push(rules::ARRAYS);
        self.in_form_of(array, &names)
    }

    /// A type as the rules want it that are kept under one of these names.
    fn ruled(&self, codec: Codec, type_name: String, names: &[&str]) -> Resolved {
        let profiled = self.rules.profile.form_of(&codec);
        let resolved = Resolved::new(codec, type_name);
        let resolved = match profiled {
            Some(form) => resolved.in_form(form, ChosenBy::Profile),
            None => resolved,
        };
        self.in_form_of(resolved, names)
    }

    fn in_form_of(&self, resolved: Resolved, names: &[&str]) -> Resolved {
        match (self.rules.of_type(names), &resolved.codec) {
            // A decimal for all numerics is for those that have none of their own.
            (Some((NUMERIC, Form::Decimal { .. })), Codec::Decimal { .. }) | (None, _) => resolved,
            (Some((key, form)), _) => resolved.in_form(form, ChosenBy::Override(key.to_owned())),
        }
    }

    /// What separates the elements of arrays of the type; unknown for a type that nobody told of.
    fn delimiter(&self, element: Oid) -> Option<u8> {
        let mut oid = element;
        for _ in 0..DEPTH_MAX {
            if let Some(built_in) = BUILT_IN.iter().find(|row| row.oid == oid.0 || row.array_oid == oid.0) {
                return Some(built_in.read(-1).0.delimiter());
            }
            if RANGES.iter().any(|range| range.role_of(oid).is_some()) {
                return Some(b',');
            }
            oid = match &self.learnt.get(&oid)?.kind {
                TypeKind::Domain { base, .. } => *base,
                TypeKind::Array { element } => *element,
                TypeKind::Base { delimiter, .. } => return Some(*delimiter),
                TypeKind::Enum
                | TypeKind::Composite { .. }
                | TypeKind::Range { .. }
                | TypeKind::Multirange { .. } => return Some(b','),
                TypeKind::Other => return None,
            };
        }
        None
    }
}

/// How many types one type may still be made of: a cycle in facts must end, and so must a row type that doubles on
/// every level.
#[derive(Clone, Copy)]
struct Budget {
    references: u32,
    depth: u32,
}

impl Budget {
    fn enter(self) -> Option<Budget> {
        Some(Budget { references: self.references.checked_sub(1)?, depth: self.depth.checked_sub(1)? })
    }
}

/// What an OID is to a built-in range.
enum RangeRole {
    Range(&'static BuiltInRange),
    Multirange(&'static BuiltInRange),
    /// An array of the range or the multirange of that OID.
    ArrayOf(Oid),
}

impl BuiltInRange {
    fn role_of(&'static self, oid: Oid) -> Option<RangeRole> {
        Some(match oid.0 {
            oid if oid == self.oid => RangeRole::Range(self),
            oid if oid == self.multirange_oid => RangeRole::Multirange(self),
            oid if oid == self.array_oid => RangeRole::ArrayOf(Oid(self.oid)),
            oid if oid == self.multirange_array_oid => RangeRole::ArrayOf(Oid(self.multirange_oid)),
            _ => return None,
        })
    }
}

fn is_built_in(oid: Oid) -> bool {
    oid.0 < FIRST_NORMAL_OID
}

/// `FirstNormalObjectId`: what is below was there when the cluster was made.
const FIRST_NORMAL_OID: u32 = 16384;

/// How many types one type may be made of, each counted where it stands: more than a row type over the widest table has.
const REFERENCES_MAX: u32 = 4096;

/// How long a chain of domains, arrays and row types may be.
const DEPTH_MAX: u32 = 32;

const NUMERIC: &str = "numeric";

#[cfg(test)]
mod tests;

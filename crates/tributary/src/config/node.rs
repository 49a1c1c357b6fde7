//! Configuration values that know where they were written, and serde over them.
//!
//! Owns: the tree that file and environment are merged into, and [`Fault`], an error with its place.
//! Does not: read a file or the environment (`layers`), or know a key.
//! Holds: a text from the environment is read as whatever its key wants; a value of a file has the type it was written with.
//! Fails: [`Fault`], with the place of the innermost value or key that is wrong.

use std::fmt;

use serde::de::value::{SeqDeserializer, StrDeserializer};
use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use toml::de::{DeTable, DeValue};

/// Where something was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// From that byte of the file.
    File(usize),
    /// In an environment variable.
    Variable(String),
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    /// From the environment: its type is what the key wants.
    Untyped(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// A TOML type that no key wants.
    Date,
    List(Vec<Node>),
    Table(Vec<Entry>),
}

/// A key of a table with its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) node: Node,
}

impl Node {
    /// An empty table.
    pub(super) fn empty() -> Node {
        Node { place: Place::File(0), value: Value::Table(Vec::new()) }
    }

    /// A table of a file.
    pub(super) fn of_table(table: &DeTable<'_>, at: usize) -> Result<Node, Fault> {
        let entries = table.iter().map(|(name, value)| {
            Ok(Entry {
                name: name.get_ref().to_string(),
                place: Place::File(name.span().start),
                node: Node::of_value(value.get_ref(), value.span().start)?,
            })
        });
        Ok(Node { place: Place::File(at), value: Value::Table(entries.collect::<Result<_, Fault>>()?) })
    }

    fn of_value(value: &DeValue<'_>, at: usize) -> Result<Node, Fault> {
        let wrong = |what: &str| Fault { place: Some(Place::File(at)), ..Fault::new(what.to_owned()) };
        let value = match value {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(number) => Value::Integer(
                i64::from_str_radix(number.as_str(), number.radix())
                    .map_err(|_| wrong("this number is too large"))?,
            ),
            DeValue::Float(number) => {
                Value::Float(number.as_str().parse().map_err(|_| wrong("this is not a number"))?)
            }
            DeValue::Boolean(boolean) => Value::Boolean(*boolean),
            DeValue::Datetime(_) => Value::Date,
            DeValue::Array(nodes) => Value::List(
                nodes
                    .iter()
                    .map(|node| Node::of_value(node.get_ref(), node.span().start))
                    .collect::<Result<_, Fault>>()?,
            ),
            DeValue::Table(table) => return Node::of_table(table, at),
        };
        Ok(Node { place: Place::File(at), value })
    }

    /// Sets a value by its path, over what is there. `false` if the path leads through something that is no table.
    pub(super) fn set(&mut self, path: &[String], text: String, place: &Place) -> bool {
        let Some((name, rest)) = path.split_first() else {
            *self = Node { place: place.clone(), value: Value::Untyped(text) };
            return true;
        };
        let Value::Table(entries) = &mut self.value else { return false };
        if let Some(entry) = entries.iter_mut().find(|entry| entry.name == *name) {
            return entry.node.set(rest, text, place);
        }
        let mut node = Node { place: place.clone(), value: Value::Table(Vec::new()) };
        let is_set = node.set(rest, text, place);
        entries.push(Entry { name: name.clone(), place: place.clone(), node });
        is_set
    }

    /// Where the value of a path stands, if it is set. The elements of a list are named by their number from 0.
    pub(super) fn find<'p>(&self, path: impl Iterator<Item = &'p str>) -> Option<&Place> {
        let mut node = self;
        for name in path {
            node = match &node.value {
                Value::Table(entries) => &entries.iter().find(|entry| entry.name == name)?.node,
                Value::List(nodes) => nodes.get(name.parse::<usize>().ok()?)?,
                Value::Text(_)
                | Value::Untyped(_)
                | Value::Integer(_)
                | Value::Float(_)
                | Value::Boolean(_)
                | Value::Date => return None,
            };
        }
        Some(&node.place)
    }
}

/// What is wrong, and where.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    /// The innermost place that is known.
    pub(super) place: Option<Place>,
    /// The keys above it.
    pub(super) path: Vec<String>,
    pub(super) what: What,
}

/// What is wrong.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// There is no such key here.
    UnknownKey { key: String, valid: &'static [&'static str] },
    /// The key allows other words.
    UnknownWord { word: String, valid: &'static [&'static str] },
    /// Anything else, in words.
    Other(String),
}

impl Fault {
    fn new(what: String) -> Fault {
        Fault { place: None, path: Vec::new(), what: What::Other(what) }
    }

    fn at(mut self, place: &Place) -> Fault {
        self.place.get_or_insert_with(|| place.clone());
        self
    }

    fn under(mut self, key: &str) -> Fault {
        self.path.insert(0, key.to_owned());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::UnknownKey { key, .. } if self.path.is_empty() => write!(f, "there is no section `{key}`"),
            What::UnknownKey { key, .. } => write!(f, "there is no key `{key}` in [{}]", self.path.join(".")),
            What::UnknownWord { word, .. } => write!(f, "`{}` cannot be `{word}`", self.path.join(".")),
            What::Other(what) if self.path.is_empty() => f.write_str(what),
            What::Other(what) => write!(f, "`{}`: {what}", self.path.join(".")),
        }
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(what: T) -> Fault {
        Fault::new(what.to_string())
    }

    fn invalid_type(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Fault {
        // The value itself may be a secret: only its type is told.
        let found = match unexpected {
            de::Unexpected::Bool(_) => "true or false",
            de::Unexpected::Unsigned(_) | de::Unexpected::Signed(_) => "an integer",
            de::Unexpected::Float(_) => "a decimal number",
            de::Unexpected::Str(_) => "a text",
            de::Unexpected::Seq => "a list",
            de::Unexpected::Map => "a table",
            de::Unexpected::Bytes(_)
            | de::Unexpected::Char(_)
            | de::Unexpected::Unit
            | de::Unexpected::Option
            | de::Unexpected::NewtypeStruct
            | de::Unexpected::Enum
            | de::Unexpected::UnitVariant
            | de::Unexpected::NewtypeVariant
            | de::Unexpected::TupleVariant
            | de::Unexpected::StructVariant
            | de::Unexpected::Other(_) => "something else",
        };
        let expected = expected.to_string();
        let expected = if expected.starts_with("struct ") { "a table" } else { expected.as_str() };
        Fault::new(format!("this is {found}, and {expected} is wanted"))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Fault {
        let what = What::UnknownKey { key: field.to_owned(), valid: expected };
        Fault { place: None, path: Vec::new(), what }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Fault {
        let what = What::UnknownWord { word: variant.to_owned(), valid: expected };
        Fault { place: None, path: Vec::new(), what }
    }

    fn missing_field(field: &'static str) -> Fault {
        Fault::new(format!("the key `{field}` is missing"))
    }
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Text(text) | Value::Untyped(text) => visitor.visit_borrowed_str(text),
            Value::Integer(number) => visitor.visit_i64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Boolean(boolean) => visitor.visit_bool(*boolean),
            Value::Date => Err(Fault::new("this is a date, which no key is".to_owned())),
            Value::List(nodes) => visitor.visit_seq(Elements { rest: nodes.iter() }),
            Value::Table(entries) => visitor.visit_map(Fields { rest: entries.iter(), current: None }),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Untyped(text) => match text.as_str() {
                "true" => visitor.visit_bool(true),
                "false" => visitor.visit_bool(false),
                _ => Err(Fault::new("neither `true` nor `false`".to_owned())),
            },
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Untyped(text) => {
                visitor.visit_u64(text.parse().map_err(|_| Fault::new("this is not a number".to_owned()))?)
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Untyped(text) => {
                let words: Vec<&str> =
                    text.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
                visitor.visit_seq(SeqDeserializer::<_, Fault>::new(words.into_iter()))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            // An empty variable unsets what the file says.
            Value::Untyped(text) if text.is_empty() => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Text(text) | Value::Untyped(text) => {
                let word: StrDeserializer<'_, Fault> = text.as_str().into_deserializer();
                visitor.visit_enum(word)
            }
            _ => Err(Fault::new("a text is wanted".to_owned())),
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        tuple tuple_struct map struct identifier ignored_any
    }
}

struct Elements<'de> {
    rest: std::slice::Iter<'de, Node>,
}

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        match self.rest.next() {
            Some(node) => seed.deserialize(node).map(Some).map_err(|fault| fault.at(&node.place)),
            None => Ok(None),
        }
    }
}

struct Fields<'de> {
    rest: std::slice::Iter<'de, Entry>,
    current: Option<&'de Entry>,
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        self.current = self.rest.next();
        match self.current {
            Some(entry) => {
                let name: StrDeserializer<'_, Fault> = entry.name.as_str().into_deserializer();
                seed.deserialize(name).map(Some).map_err(|fault| fault.at(&entry.place))
            }
            None => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some(entry) = self.current else { return Err(Fault::new("a value without a key".to_owned())) };
        seed.deserialize(&entry.node).map_err(|fault| fault.at(&entry.node.place).under(&entry.name))
    }
}

/// Reads a type from a tree.
pub(super) fn from_node<T: for<'de> Deserialize<'de>>(node: &Node) -> Result<T, Fault> {
    T::deserialize(node)
}

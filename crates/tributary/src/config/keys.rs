//! Which keys there are, asked of the types themselves.
//!
//! Owns: the list of keys, and finding the one that was meant.
//! Does not: hold a list by hand: what serde would accept is what is listed.
//! Holds: keys are in the order of their types; a section is not a key.
//! Fails: never; a type that answers unexpectedly has no keys.

use super::Config;
use super::node::{self, Entry, Fault, Node, Place, Value, What};

/// Every key, dotted: `lake.s3.region`.
pub fn keys() -> Vec<String> {
    let mut keys = Vec::new();
    collect("", &mut keys);
    keys
}

fn collect(section: &str, keys: &mut Vec<String>) {
    for name in fields_of(section) {
        let key = if section.is_empty() { (*name).to_owned() } else { format!("{section}.{name}") };
        if fields_of(&key).is_empty() {
            keys.push(key);
        } else {
            collect(&key, keys);
        }
    }
}

/// What serde says would have been right in a section; nothing if it is none.
fn fields_of(section: &str) -> &'static [&'static str] {
    let mut tree = Node::empty();
    let mut path: Vec<String> =
        section.split('.').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    path.push(NO_KEY.to_owned());
    plant(&mut tree, &path);
    match node::from_node::<Config>(&tree) {
        Err(Fault { what: What::UnknownKey { key, valid }, .. }) if key == NO_KEY => valid,
        Ok(_) | Err(_) => &[],
    }
}

fn plant(tree: &mut Node, path: &[String]) {
    let Some((name, rest)) = path.split_first() else { return };
    let mut node = Node::empty();
    plant(&mut node, rest);
    tree.value = Value::Table(vec![Entry { name: name.clone(), place: Place::File(0), node }]);
}

/// The valid word that is nearest to what was written, if one is near.
pub(super) fn nearest<'a>(written: &str, valid: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_ascii_lowercase();
    valid
        .into_iter()
        .map(|word| (strsim::jaro_winkler(&written, word), word))
        .filter(|(likeness, _)| *likeness >= NEAR)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, word)| word)
}

/// What no key can be called.
const NO_KEY: &str = "?";
/// Below it, a suggestion is more often wrong than right.
const NEAR: f64 = 0.75;

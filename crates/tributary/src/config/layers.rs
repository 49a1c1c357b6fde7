//! File below, environment above, and where a problem was written.
//!
//! Owns: the merge, the meaning of `TRIBUTARY_SECTION__KEY`, and the words of every configuration error.
//! Does not: open the file, or know what a key means.
//! Holds: a variable without `__` is none of ours (Kubernetes sets `TRIBUTARY_PORT` for a service of that name), unless it
//! spells a key with `_` where `__` was meant.
//! Fails: `Config`.

use super::keys::{self, nearest};
use super::node::{self, Fault, Node, Place, What};
use super::{Config, Problem};
use crate::error::{Error, Result};

/// The variables that may override keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Environment {
    variables: Vec<(String, String)>,
}

impl Environment {
    /// Of this process.
    pub(super) fn of_process() -> Environment {
        // A variable that is not UTF-8 is none of ours.
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Environment::new(variables)
    }

    /// Of these variables.
    pub(super) fn new(variables: impl Iterator<Item = (String, String)>) -> Environment {
        let mut variables: Vec<_> = variables.filter(|(name, _)| name.starts_with(PREFIX)).collect();
        variables.sort();
        Environment { variables }
    }
}

/// File and environment, merged.
pub(super) struct Layers<'a> {
    file: Option<(&'a str, &'a str)>,
    tree: Node,
}

impl<'a> Layers<'a> {
    /// Reads both.
    pub(super) fn read(file: Option<(&'a str, &'a str)>, environment: &Environment) -> Result<Layers<'a>> {
        let mut layers = Layers { file, tree: Node::empty() };
        if let Some((_, text)) = file {
            layers.tree = layers.read_file(text)?;
        }
        for (variable, value) in &environment.variables {
            layers.override_with(variable, value)?;
        }
        Ok(layers)
    }

    /// The configuration that they give.
    pub(super) fn deserialize(&self) -> Result<Config> {
        node::from_node(&self.tree).map_err(|fault| self.explain(fault))
    }

    /// A problem of the value of a key, as an error that says where it stands.
    pub(super) fn locate(&self, problem: Problem) -> Error {
        let place = match (&problem.entry, problem.field) {
            (Some(entry), None) => self.find(problem.key, entry),
            (Some(entry), Some(field)) => {
                let path = problem.key.split('.').chain([entry.as_str(), field]);
                self.tree.find(path).or_else(|| self.find(problem.key, entry))
            }
            (None, _) => self.tree.find(problem.key.split('.')),
        };
        let error = match place {
            Some(place) => Error::config(format!("{}: {}", self.name(place), problem.what)),
            None => match self.file {
                Some((name, _)) => Error::config(format!("{name}: {}", problem.what)),
                None => Error::config(format!("{} (no configuration file was found)", problem.what)),
            },
        };
        match problem.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    /// Where the entry of a map was written.
    pub(super) fn place_of(&self, key: &str, entry: &str) -> Option<String> {
        self.find(key, entry).map(|place| self.name(place))
    }

    /// A map that came from the environment as one text has no entries of its own.
    fn find(&self, key: &str, entry: &str) -> Option<&Place> {
        self.tree.find(key.split('.').chain([entry])).or_else(|| self.tree.find(key.split('.')))
    }

    fn read_file(&self, text: &str) -> Result<Node> {
        let table = toml::de::DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(text.len(), |span| span.start);
            Error::config(format!(
                "{}: this is not TOML: {}",
                self.name(&Place::File(at)),
                error.message().trim()
            ))
        })?;
        Node::of_table(table.get_ref(), 0).map_err(|fault| self.explain(fault))
    }

    fn override_with(&mut self, variable: &str, value: &str) -> Result<()> {
        let path = variable.strip_prefix(PREFIX).unwrap_or_default();
        if !path.contains("__") {
            return refuse_single_underscore(variable, path);
        }
        let path: Vec<String> = path.split("__").map(str::to_ascii_lowercase).collect();
        if self.tree.set(&path, value.to_owned(), &Place::Variable(variable.to_owned())) {
            return Ok(());
        }
        Err(Error::config(format!("{variable}: there is no key `{}`", path.join("."))))
    }

    fn explain(&self, fault: Fault) -> Error {
        let place = fault.place.clone().unwrap_or(Place::File(0));
        let error = Error::config(format!("{}: {fault}", self.name(&place)));
        match hint(&fault) {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    /// `tributary.toml:3:9`, or the variable.
    fn name(&self, place: &Place) -> String {
        match (place, self.file) {
            (Place::Variable(variable), _) => variable.clone(),
            (Place::File(at), Some((name, text))) => {
                let before = text.get(..*at).unwrap_or(text);
                let line_start = before.rfind('\n').map_or(0, |end| end + 1);
                let line = before.matches('\n').count() + 1;
                let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
                format!("{name}:{line}:{column}")
            }
            (Place::File(_), None) => "configuration".to_owned(),
        }
    }
}

/// `TRIBUTARY_LAKE_URL` where `TRIBUTARY_LAKE__URL` was meant would be a setting without an effect.
fn refuse_single_underscore(variable: &str, path: &str) -> Result<()> {
    let flat = path.to_ascii_lowercase();
    let meant = keys::keys().into_iter().find(|key| key.replace('.', "_") == flat);
    match meant {
        None => Ok(()),
        Some(key) => Err(Error::config(format!("{variable}: two underscores stand between section and key"))
            .hint(format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', "__")))),
    }
}

fn hint(fault: &Fault) -> Option<String> {
    match &fault.what {
        What::UnknownKey { key, valid } => {
            if let Some(meant) = nearest(key, valid.iter().copied()) {
                return Some(format!("did you mean `{meant}`?"));
            }
            // The right key in the wrong section.
            let elsewhere = keys::keys();
            let same = elsewhere
                .iter()
                .find_map(|full| full.rsplit_once('.').filter(|(_, last)| *last == key.as_str()));
            Some(match same {
                Some((section, _)) => format!("`{key}` is a key of [{section}]"),
                None => format!("there are: {}", valid.join(", ")),
            })
        }
        What::UnknownWord { word, valid } => Some(match nearest(word, valid.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`? It is one of {}", valid.join(", ")),
            None => format!("it is one of {}", valid.join(", ")),
        }),
        What::Other(_) => None,
    }
}

const PREFIX: &str = "TRIBUTARY_";

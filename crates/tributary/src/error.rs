//! The daemon's error, classified by what has to happen next.
//!
//! Owns: [`Error`], its [`Kind`] and the exit codes.
//! Does not: log; errors are logged where they are handled.
//! Holds: no row value, password or token ever enters a message.
//! Fails: never.

use std::error::Error as StdError;
use std::fmt;

/// What has to happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The configuration or command line is wrong. Exit 2.
    Config,
    /// It will not get better by itself; the hint says what to do. Exit 1.
    Definite,
    /// It may get better by itself: retried with backoff. Exit 1 once the limit is reached.
    Transient,
    /// Another daemon owns this lake now. Exit 3.
    Fenced,
    /// A doubt about the source: going on could lose rows, so we stop. Exit 4.
    SourceHalted,
    /// A broken invariant of ours. Exit 70.
    Bug,
}

impl Kind {
    /// The process's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Config => 2,
            Kind::Definite | Kind::Transient => 1,
            Kind::Fenced => 3,
            Kind::SourceHalted => 4,
            Kind::Bug => 70,
        }
    }

    /// The word for it in logs, `/status.json` and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Kind::Config => "config",
            Kind::Definite => "definite",
            Kind::Transient => "transient",
            Kind::Fenced => "fenced",
            Kind::SourceHalted => "source_halted",
            Kind::Bug => "bug",
        }
    }
}

/// What went wrong, where, and how to mend it.
pub struct Error {
    inner: Box<Inner>,
}

struct Inner {
    kind: Kind,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The daemon's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of a kind. The message is lower-case, without a full stop, and does not repeat its cause.
    pub fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error { inner: Box::new(Inner { kind, message: message.into(), hint: None, source: None }) }
    }

    /// [`Kind::Config`]
    pub fn config(message: impl Into<String>) -> Error {
        Error::new(Kind::Config, message)
    }

    /// [`Kind::Definite`]
    pub fn definite(message: impl Into<String>) -> Error {
        Error::new(Kind::Definite, message)
    }

    /// [`Kind::Transient`]
    pub fn transient(message: impl Into<String>) -> Error {
        Error::new(Kind::Transient, message)
    }

    /// [`Kind::SourceHalted`]
    pub fn halted(message: impl Into<String>) -> Error {
        Error::new(Kind::SourceHalted, message)
    }

    /// [`Kind::Bug`]
    pub fn bug(message: impl Into<String>) -> Error {
        Error::new(Kind::Bug, message)
    }

    /// Adds what the user can do: a command, a SQL statement, a policy.
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.inner.hint = Some(hint.into());
        self
    }

    /// Keeps the cause.
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        self.inner.source = Some(source.into());
        self
    }

    /// The same, of which something else has to come next: where it happened tells more than the error itself.
    pub fn of_kind(mut self, kind: Kind) -> Error {
        self.inner.kind = kind;
        self
    }

    /// What has to happen next.
    pub fn kind(&self) -> Kind {
        self.inner.kind
    }

    /// What the user can do.
    pub fn hint_text(&self) -> Option<&str> {
        self.inner.hint.as_deref()
    }

    /// The message and its causes, joined by `: `, for one line of a log.
    pub fn chain(&self) -> String {
        let mut text = self.inner.message.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.inner.kind, self.chain())?;
        match &self.inner.hint {
            Some(hint) => write!(f, " (hint: {hint})"),
            None => Ok(()),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

impl From<lake::Error> for Error {
    fn from(error: lake::Error) -> Error {
        let kind = match error.kind() {
            lake::error::Kind::Transient => Kind::Transient,
            lake::error::Kind::Definite => Kind::Definite,
            lake::error::Kind::Fenced => Kind::Fenced,
            lake::error::Kind::Bug => Kind::Bug,
        };
        let hint = error.hint();
        let wrapped = Error::new(kind, "lake").caused_by(error);
        match hint {
            Some(hint) => wrapped.hint(hint),
            None => wrapped,
        }
    }
}

//! What the server's errors mean for us.
//!
//! Owns: [`ServerError`], and the one table from SQLSTATE to [`Kind`].
//! Does not: retry, or decide whether a slot may be created anew.
//! Holds: no row value gets from a server's message into ours.
//! Fails: never; an unknown SQLSTATE is transient, which the caller's limit of retries ends.

use std::error::Error as StdError;
use std::fmt;

use tokio_postgres::error::Severity;

use crate::error::{Error, Kind};

/// What `ErrorResponse` and `NoticeResponse` say.
///
/// The fields: <https://www.postgresql.org/docs/current/protocol-error-fields.html>
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerError {
    /// `ERROR`, `FATAL`, `WARNING` …, never translated.
    pub severity: String,
    /// SQLSTATE.
    pub code: String,
    /// Primary message, perhaps translated.
    pub message: String,
    /// More of it.
    pub detail: Option<String>,
    /// The server's advice.
    pub hint: Option<String>,
    /// Where in the decoding it happened.
    pub context: Option<String>,
}

impl ServerError {
    /// Reads the fields of a message body; what is cut short is left out.
    pub(super) fn parse(body: &[u8]) -> ServerError {
        let mut error = ServerError::default();
        let mut translated_severity = None;
        for field in body.split(|byte| *byte == 0) {
            let Some((kind, text)) = field.split_first() else { break };
            let text = String::from_utf8_lossy(text).into_owned();
            match kind {
                b'V' => error.severity = text,
                b'S' => translated_severity = Some(text),
                b'C' => error.code = text,
                b'M' => error.message = text,
                b'D' => error.detail = Some(text),
                b'H' => error.hint = Some(text),
                b'W' => error.context = Some(text),
                _ => {}
            }
        }
        if error.severity.is_empty() {
            error.severity = translated_severity.unwrap_or_default();
        }
        error
    }

    /// As an error of ours, about `what` was asked of the server.
    pub(super) fn into_error(self, what: &str) -> Error {
        let hint = self.advice();
        let error = Error::new(self.kind(), what).caused_by(self);
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    /// T23, T52: Postgres 18 goes on without a publication that it does not find, and the slot with it. Its words may be translated, its code is
    /// that of other warnings as well: of a standby that a fail-over slot waits for.
    pub(super) fn tells_of_skipped_changes(&self) -> bool {
        let is_meant = self.code == "55000" && !self.is_about_standbys();
        self.severity == "WARNING" && (is_meant || self.message.contains("skipped loading publication"))
    }

    /// The stream waits for a standby that the primary names, which passes once that is back (T76).
    pub(super) fn is_about_standbys(&self) -> bool {
        self.message.contains("synchronized_standby_slots")
    }

    /// What has to happen next.
    pub fn kind(&self) -> Kind {
        let class = self.code.get(..2).unwrap_or_default();
        match (self.code.as_str(), class) {
            // Held by another session: it may end. See `is_slot_active`.
            ("55006" | "55P03", _) => Kind::Transient,
            // Invalidated slot, slot of another database, wal_level too low.
            (_, "55") => Kind::SourceHalted,
            // At the beginning of a session: an unknown parameter in its `options`. Later, what is missing ends no session.
            ("42704", _) if self.severity == "FATAL" => Kind::Config,
            // Slot or publication missing; WAL removed.
            ("42704" | "58P01", _) => Kind::SourceHalted,
            // Password, pg_hba.conf, database, privilege.
            ("3D000" | "42501", _) | (_, "28") => Kind::Config,
            // A value that cannot be sent in this encoding, and a damaged page or WAL, come again at every try.
            (_, "22") | ("XX001" | "XX002", _) => Kind::SourceHalted,
            // T93: a value that is too long as text, again at every try.
            ("XX000", _) if self.message.starts_with("invalid memory alloc request size") => {
                Kind::SourceHalted
            }
            // Not supported, unknown object, name taken, statement wrong, limit of the program.
            (_, "0A" | "42" | "54") => Kind::Definite,
            // Shutdown, connection, resources, rollback, and the rest.
            _ => Kind::Transient,
        }
    }

    fn advice(&self) -> Option<String> {
        let ours = match (self.code.as_str(), self.kind()) {
            ("XX000", Kind::SourceHalted) => {
                "a value is too long as text; with `source.format = \"binary\"` a bytea takes half"
            }
            ("28P01", _) => {
                "check the user and the password; it may have expired, too (VALID UNTIL of the role), which only the server's log says"
            }
            ("28000", _) if self.message.contains("certificate") => {
                "the server wants a certificate of ours: `sslcert` and `sslkey` in `source.url`, of an authority that it trusts, and with the user as its common name (or as pg_ident.conf maps it)"
            }
            ("28000", _) => {
                "pg_hba.conf needs a line for this user, database and host; replication connections to a database use its name, not `replication`"
            }
            ("42501", _) => {
                "ALTER ROLE … REPLICATION, and SELECT on what is read; under row security the role needs BYPASSRLS"
            }
            ("53400", _) => "raise max_replication_slots or max_wal_senders, or drop slots that nobody uses",
            ("42704", Kind::Config) => "mend `options` in `source.url`",
            ("42704", _) => {
                "it was dropped, or is in another database; what was written meanwhile cannot be decoded any more"
            }
            _ => return self.hint.clone(),
        };
        Some(ours.to_owned())
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Data exceptions quote the data.
        if self.code.starts_with("22") || self.code.starts_with("23") {
            write!(f, "the server reports a data exception (SQLSTATE {})", self.code)?;
        } else {
            write!(f, "{} (SQLSTATE {})", self.message, self.code)?;
            let about_objects = ["28", "42", "53", "55", "57", "58"];
            if let Some(detail) = self
                .detail
                .as_deref()
                .filter(|_| about_objects.iter().any(|class| self.code.starts_with(class)))
            {
                write!(f, ", {detail}")?;
            }
        }
        // `slot "s", output plugin "pgoutput", in the change callback, associated LSN 0/15A2CF8`
        match self.context.as_deref().filter(|context| context.starts_with("slot ")) {
            Some(context) => write!(f, ", {context}"),
            None => Ok(()),
        }
    }
}

impl StdError for ServerError {}

/// The server's own error, if there is one among the causes.
pub fn server_error(error: &Error) -> Option<&ServerError> {
    let mut cause = error.source();
    while let Some(source) = cause {
        if let Some(found) = source.downcast_ref::<ServerError>() {
            return Some(found);
        }
        cause = source.source();
    }
    None
}

/// Another session holds the slot (T64); it may be an old one of ours that the server has not given up yet.
pub fn is_slot_active(error: &Error) -> bool {
    server_error(error).is_some_and(|server| server.code == "55006")
}

/// The server would have to call a function that a type does not have: its send form.
pub fn is_undefined_function(error: &Error) -> bool {
    server_error(error).is_some_and(|server| server.code == "42883")
}

/// The server failed within itself (class XX), which an open transaction can make it do that it decodes once that committed.
pub fn is_internal(error: &Error) -> bool {
    server_error(error).is_some_and(|server| server.code.starts_with("XX"))
}

/// What was to be created is there already: somebody else was quicker.
pub fn is_duplicate(error: &Error) -> bool {
    server_error(error).is_some_and(|server| server.code == "42710")
}

/// An error of the SQL client.
pub(crate) fn from_sql(error: tokio_postgres::Error, what: &str) -> Error {
    let Some(db) = error.as_db_error() else {
        let kind = if error.is_closed() || error.source().is_some_and(|s| s.is::<std::io::Error>()) {
            Kind::Transient
        } else {
            kind_of_client_error(&error)
        };
        return Error::new(kind, what).caused_by(error);
    };
    ServerError {
        severity: match db.parsed_severity() {
            Some(Severity::Fatal) => "FATAL".to_owned(),
            Some(_) | None => db.severity().to_owned(),
        },
        code: db.code().code().to_owned(),
        message: db.message().to_owned(),
        detail: db.detail().map(str::to_owned),
        hint: db.hint().map(str::to_owned),
        context: db.where_().map(str::to_owned),
    }
    .into_error(what)
}

/// The client has no public kinds; authentication is the one that must not be retried.
fn kind_of_client_error(error: &tokio_postgres::Error) -> Kind {
    let text = error.to_string();
    if text.starts_with("authentication error") || text.starts_with("invalid configuration") {
        Kind::Config
    } else {
        Kind::Transient
    }
}

#[cfg(test)]
mod tests;

//! The settings that change how values print, or that end a session that only waits.
//!
//! Owns: their names, the values every session must have, and the check that it has them.
//! Does not: open sessions.
//! Holds: what a role, a database or the server sets for itself never reaches a value we read.
//! Fails: [`crate::error::Kind::SourceHalted`] when a setting did not take.

use crate::error::{Error, Result};

/// Understood by every supported version, so they can go into the start-up packet.
pub(super) const PINNED: [(&str, &str); 10] = [
    ("DateStyle", "ISO"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("lc_monetary", "C"),
    ("row_security", "off"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
];

/// The oldest major version that speaks all that we need, as `server_version_num`.
pub(super) const OLDEST_VERSION: u32 = 140_000;

/// Settings that only newer servers know: `(since, name)`, all of which must be 0.
const NEWER_TIMEOUTS: [(u32, &str); 2] =
    [(140_000, "idle_session_timeout"), (170_000, "transaction_timeout")];

/// The encoding that a session of a database must have.
///
/// A `SQL_ASCII` database holds bytes of any encoding: asking for UTF-8 there makes the server refuse rows (T94).
pub(super) fn client_encoding(server_encoding: &str) -> &'static str {
    if server_encoding.eq_ignore_ascii_case("SQL_ASCII") { "SQL_ASCII" } else { "UTF8" }
}

/// What to run once the version is known.
pub(super) fn after_startup(version: u32, client_encoding: &str) -> String {
    // Nobody's function can stand in for one of the catalogs. The estimates of recursive queries are far too high: they
    // would be compiled for longer than they run.
    let mut sql =
        format!("SET search_path = pg_catalog; SET jit = off; SET client_encoding = '{client_encoding}'");
    for (since, name) in NEWER_TIMEOUTS {
        if version >= since {
            sql.push_str("; SET ");
            sql.push_str(name);
            sql.push_str(" = 0");
        }
    }
    sql
}

/// One row that holds every pinned setting, in the order of [`PINNED`], then `client_encoding`.
pub(super) fn verification() -> String {
    let mut sql = String::from("SELECT ");
    for (name, _) in PINNED {
        sql.push_str("pg_catalog.current_setting('");
        sql.push_str(name);
        sql.push_str("'), ");
    }
    sql.push_str("pg_catalog.current_setting('client_encoding')");
    sql
}

/// Checks the answer to [`verification`] (T87).
pub(super) fn verify(row: &[Option<String>], client_encoding: &str) -> Result<()> {
    let expected = PINNED.iter().copied().chain([("client_encoding", client_encoding)]);
    if row.len() != PINNED.len() + 1 {
        return Err(Error::halted(format!("the server answered {} of its settings", row.len())));
    }
    for ((name, value), found) in expected.zip(row) {
        let found = found.as_deref().unwrap_or_default();
        if !is_pinned_value(name, value, found) {
            return Err(Error::halted(format!("setting {name} is `{found}` where `{value}` was asked for"))
                .hint(
                    "values would print in another form; connect to the server itself, not through a pooler",
                ));
        }
    }
    Ok(())
}

/// Whether a setting that the server reports unasked is still what was pinned.
pub(super) fn still_pinned(name: &str, found: &str) -> bool {
    PINNED.iter().filter(|(pinned, _)| *pinned == name).all(|(_, value)| is_pinned_value(name, value, found))
}

fn is_pinned_value(name: &str, value: &str, found: &str) -> bool {
    match name {
        // The order of day and month stays the role's, and matters only for what we would send.
        "DateStyle" => found == "ISO" || found.starts_with("ISO,"),
        _ => found == value,
    }
}

#[cfg(test)]
mod tests;

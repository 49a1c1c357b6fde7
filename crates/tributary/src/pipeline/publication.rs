//! Whether the publications are still those that the lake was filled from.
//!
//! Owns: the comparison with what the log recorded, and accepting a new definition.
//! Does not: read a change; Postgres applies a changed publication at its own place in the stream (T36, T46, T52).
//! Holds: I10, a definition that changed halts until a person accepts it.
//! Fails: `SourceHalted`, with the command that accepts.

use lake::log::{EntryKind, Event, State};
use lake::store::Store;

use super::{bootstrap, offline};
use crate::error::{Error, Result};
use crate::source::Sql;

/// Halts when the publications are not what the log recorded.
pub async fn refuse_changed(sql: &Sql, names: &[String], state: &State) -> Result<()> {
    let Some((recorded_names, recorded)) = &state.publication else { return Ok(()) };
    let Event::Publication { definition, .. } = bootstrap::publication_event(sql, names).await? else {
        return Err(Error::bug("a publication event of another kind"));
    };
    refuse(names, &definition, recorded_names, recorded)
}

/// The comparison itself.
pub fn refuse(names: &[String], definition: &str, recorded_names: &[String], recorded: &str) -> Result<()> {
    if names != recorded_names {
        return Err(Error::halted(format!(
            "`source.publication` is now {}, and the lake was filled from {}",
            names.join(", "),
            recorded_names.join(", ")
        ))
        .hint(ACCEPT));
    }
    if definition != recorded {
        return Err(changed(names));
    }
    Ok(())
}

/// The halt.
pub fn changed(names: &[String]) -> Error {
    Error::halted(format!(
        "the definition of publication {} changed since the lake recorded it (tables, actions, row filters, column lists or via-root): \
         changes may have been left out since",
        names.join(", ")
    ))
    .hint(ACCEPT)
}

/// How a person accepts.
const ACCEPT: &str = "look at it with `tributary check`; if the new definition is meant, run `tributary setup --accept-publication`, which records it, and start again";

/// Records the publications as they are now, so that the next start goes on. `false` if the log has them so already.
///
/// It takes a new epoch, so that a daemon that still runs is fenced rather than misled.
pub async fn accept(store: &dyn Store, sql: &Sql, names: &[String]) -> Result<bool> {
    let mut state = bootstrap::require_log(store).await?;
    let event = bootstrap::publication_event(sql, names).await?;
    let Event::Publication { definition, .. } = &event else {
        return Err(Error::bug("a publication event of another kind"));
    };
    if state.publication.as_ref().is_some_and(|(known, hash)| known == names && hash == definition) {
        return Ok(false);
    }
    let to_lsn = state.to_lsn;
    offline::append(store, &mut state, EntryKind::Open, to_lsn, vec![event]).await?;
    Ok(true)
}

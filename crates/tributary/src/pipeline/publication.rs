//! Whether the publications are still those that the lake was filled from.
//!
//! Owns: the comparison with what the log recorded, and accepting a new definition.
//! Does not: read a change; Postgres applies a changed publication at its own place in the stream (T36, T46, T52).
//! Holds: I10, a definition that changed halts until a person accepts it, unless tables were only added.
//! Fails: `SourceHalted`, with the command that accepts.

use lake::log::{EntryKind, Event, State};
use lake::store::Store;

use tracing::{info, warn};

use super::{bootstrap, offline};
use crate::config::SnapshotMode;
use crate::error::{Error, Result};
use crate::source::Sql;

/// What became of the publications since the log recorded them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Nothing, or nothing is recorded yet.
    None,
    /// So many tables or schemas were added, and nothing else.
    Added(usize),
}

/// Compares publications with those that the log recorded; halts if more than an addition changed.
pub fn compare_with_log(state: &State, found: &Event) -> Result<Difference> {
    let Some((names, definition)) = state.publication.clone() else { return Ok(Difference::None) };
    let members = state.publication_members.clone();
    compare(&Event::Publication { names, definition, members }, found)
}

/// Compares two events of publications.
///
/// Rows that an added table has already are in no change; a snapshot reads them, unless they are not wanted (`snapshot.mode = "never"`).
pub fn compare(recorded: &Event, found: &Event) -> Result<Difference> {
    let (
        Event::Publication { names: recorded_names, definition: recorded, members: old },
        Event::Publication { names, definition, members: new },
    ) = (recorded, found)
    else {
        return Err(Error::bug("a publication event of another kind"));
    };
    if names != recorded_names {
        return Err(Error::halted(format!(
            "`source.publication` is now {}, and the lake was filled from {}",
            names.join(", "),
            recorded_names.join(", ")
        ))
        .hint(ACCEPT));
    }
    if definition == recorded {
        return Ok(Difference::None);
    }
    let stayed = old.iter().all(|(member, hash)| new.get(member) == Some(hash));
    let is_addition = !old.is_empty() && stayed && new.len() > old.len();
    if is_addition { Ok(Difference::Added(new.len() - old.len())) } else { Err(changed(names)) }
}

/// Tables came into a publication, and their rows of before did not.
pub fn tell_added(mode: SnapshotMode, members: usize) {
    match mode {
        SnapshotMode::Initial => {
            info!(
                members,
                "tables or schemas were added to the publication: the rows that they have are read"
            );
        }
        SnapshotMode::Never => warn!(
            members,
            "tables or schemas were added to the publication: their changes are exported from now on, rows that they have already are not"
        ),
    }
}

/// The halt.
fn changed(names: &[String]) -> Error {
    Error::halted(format!(
        "the definition of publication {} changed since the lake recorded it (tables, actions, row filters, column lists or via-root): \
         changes may have been left out since, or tables came without the rows that they have",
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

#[cfg(test)]
mod tests;

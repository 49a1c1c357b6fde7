//! Log entries that are written by a command and not by the daemon.
//!
//! Owns: taking the log over for one entry, with a new epoch, so that a daemon that is still alive is fenced.
//! Does not: decide what the entry says.
//! Holds: nothing is appended while a session has the slot: whoever streams owns the log.
//! Fails: `Definite` while a daemon runs; `Fenced` if another writer was quicker.

use lake::log::{self, Author, Entry, EntryKind, Event, State};
use lake::store::Store;
use lake::watermark;
use pgoutput::Lsn;

use crate::clock;
use crate::error::{Error, Result};
use crate::source::{Sql, slot};

/// Refuses while somebody has the slot.
pub(crate) async fn refuse_while_active(sql: &Sql, name: &str) -> Result<()> {
    match slot::slot(sql, name).await? {
        Some(found) if found.active => {
            let pid =
                found.active_pid.map_or_else(String::new, |pid| format!(" (process {pid} of the server)"));
            Err(Error::definite(format!("slot `{name}` is in use{pid}")).hint("stop the daemon first"))
        }
        Some(_) | None => Ok(()),
    }
}

/// Appends one entry behind `state`, which then includes it. Who did it may append more.
pub(crate) async fn append(
    store: &dyn Store,
    state: &mut State,
    kind: EntryKind,
    to_lsn: Lsn,
    events: Vec<Event>,
) -> Result<Author> {
    let author = Author { epoch: state.epoch + 1, owner: super::owner() };
    watermark::refuse_lost_entries(store, &mut state.clone()).await?;
    let written_at = Some(lake::time::rfc3339(clock::unix_micros()));
    let entry = Entry { to_lsn, written_at, events, ..state.next_entry(&author, kind)? };
    log::append(store, &entry).await?;
    state.advance(&entry)?;
    Ok(author)
}

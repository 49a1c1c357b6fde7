//! `tributary repair`: takes back a last cut whose files can be published no more.
//!
//! Owns: the order of the steps: abort the uploads, delete what was published, append the `void` entry. Killed in between, the entry
//! still stands and is still unpublishable, so that a repeat does the rest and no `run` in between can stream a range twice.
//! Does not: stream the range again; the next `run` does.
//! Holds: only the last cut, only if the slot still holds its range, and only if a file of it is really gone.
//! Fails: `SourceHalted` when the slot has moved past the cut's beginning: then voiding it would lose rows.

use lake::log::{Entry, EntryKind, Event};
use lake::{publish, watermark};
use serde_json::json;

use super::Answer;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::pipeline;
use crate::pipeline::{bootstrap, offline};
use crate::source::{Sql, connect_sql, slot};

pub(super) async fn run(config: &Config) -> Result<Answer> {
    let store = pipeline::open_store(config).await?;
    let store = store.as_ref();
    let mut state = bootstrap::require_log(store).await?;
    let nothing = |why: &str| {
        Ok(Answer::new(format!("nothing to repair: {why}\n"), json!({"repaired": false, "reason": why})))
    };
    let Some(entry) = state.last_cut.clone() else { return nothing("the last cut is published") };
    let Some(missing) = publish::first_missing(store, &entry).await? else {
        return nothing("every file of the last cut is there, or can still be published");
    };
    if watermark::stands_for(store, entry.seq).await? {
        return nothing(&format!(
            "the last cut was published, and {missing} is gone since; `tributary fsck` names what is lost, and the resync that heals it"
        ));
    }
    let sql = connect_sql(&config.source_options()?).await?;
    offline::refuse_while_active(&sql, &state.slot).await?;
    refuse_moved_slot(&sql, &state.slot, &entry).await?;
    publish::abort_entry(store, &entry).await?;
    let deleted = publish::delete_published(store, &entry).await?;
    // A schema version counts from its entry on, void or not, so that no later entry has it again.
    publish::publish_schemas(store, &entry).await?;
    let reason = format!("{missing} was neither published nor uploaded any more");
    let event = Event::Void { seq: entry.seq, reason };
    offline::append(store, &mut state, EntryKind::Void, entry.from_lsn, vec![event]).await?;
    let text = format!(
        "log entry {} is void: `{missing}` could be had no more\n\
         {deleted} of its files had been published and were deleted; ({}, {}] is streamed again by the next `tributary run`\n",
        entry.seq, entry.from_lsn, entry.to_lsn
    );
    let document = json!({
        "repaired": true, "voided": entry.seq, "missing": missing, "deleted": deleted,
        "from_lsn": entry.from_lsn, "to_lsn": entry.to_lsn,
    });
    Ok(Answer::new(text, document))
}

async fn refuse_moved_slot(sql: &Sql, name: &str, entry: &Entry) -> Result<()> {
    let found = slot::slot(sql, name).await?.and_then(|slot| slot.confirmed_flush);
    match found {
        Some(confirmed) if confirmed <= entry.from_lsn => Ok(()),
        Some(confirmed) => Err(Error::halted(format!(
            "slot `{name}` is at {confirmed}, beyond {}, where the cut begins: its rows cannot be streamed again",
            entry.from_lsn
        ))
        .hint("set up a new `lake.url` prefix and slot")),
        None => Err(Error::halted(format!("slot `{name}` does not exist: the cut's rows cannot be streamed again"))
            .hint("set up a new `lake.url` prefix and slot")),
    }
}

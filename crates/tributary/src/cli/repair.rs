//! `tributary repair`: takes back a last cut whose files can be published no more.
//!
//! Owns: the order of the steps: abort the uploads, append the `void` entry, delete what was published.
//! Does not: stream the range again; the next `run` does.
//! Holds: repeated after a crash, it goes on where it stopped; only the last cut, only if the slot still holds its range, and only if a file of it is really gone.
//! Fails: `SourceHalted` when the slot has moved past the cut's beginning: then voiding it would lose rows.

use lake::layout;
use lake::log::{self, Entry, EntryKind, Event};
use lake::publish;
use lake::store::Store;
use serde_json::json;

use super::{Answer, owner};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::pipeline;
use crate::source::{Sql, connect_sql, slot};

pub(super) async fn run(config: &Config) -> Result<Answer> {
    let store = pipeline::open_store(config).await?;
    let store = store.as_ref();
    let mut state = log::load(store)
        .await?
        .ok_or_else(|| Error::definite(format!("the lake at {} has no log", store.url())))?;
    let nothing = |why: &str| {
        Ok(Answer::new(format!("nothing to repair: {why}\n"), json!({"repaired": false, "reason": why})))
    };
    let Some(entry) = state.last_cut.clone() else { return finish_earlier(store, state.seq).await };
    let Some(missing) = publish::first_missing(store, &entry).await? else {
        return nothing("every file of the last cut is there, or can still be published");
    };
    let sql = connect_sql(&config.source_options()?).await?;
    owner::refuse_while_active(&sql, &state.slot).await?;
    refuse_moved_slot(&sql, &state.slot, &entry).await?;
    publish::abort_entry(store, &entry).await?;
    let reason = format!("{missing} was neither published nor uploaded any more");
    let event = Event::Void { seq: entry.seq, reason };
    owner::append(store, &mut state, EntryKind::Void, entry.from_lsn, vec![event]).await?;
    let deleted = publish::delete_published(store, &entry).await?;
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

/// A repair that ended between its `void` entry and its deletions is finished; else there is nothing to do.
async fn finish_earlier(store: &dyn Store, last: u64) -> Result<Answer> {
    for seq in (1..=last).rev() {
        let entry = log::read(store, layout::log_key(seq)).await?;
        if entry.kind == EntryKind::Open {
            continue;
        }
        let voided = entry.events.iter().find_map(|event| match event {
            Event::Void { seq, .. } => Some(*seq),
            _ => None,
        });
        let Some(voided) = voided else { break };
        let deleted =
            publish::delete_published(store, &log::read(store, layout::log_key(voided)).await?).await?;
        if deleted > 0 {
            let text = format!(
                "log entry {voided} was void already; {deleted} files of it were left and are deleted\n"
            );
            return Ok(Answer::new(text, json!({"repaired": true, "voided": voided, "deleted": deleted})));
        }
        break;
    }
    let reason = "the last cut is published";
    Ok(Answer::new(format!("nothing to repair: {reason}\n"), json!({"repaired": false, "reason": reason})))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use lake::layout::Partition;
    use lake::log::{FileEntry, TableFiles};
    use lake::store::memory::MemoryStore;
    use pgoutput::Lsn;

    use super::*;

    fn entry(seq: u64, kind: EntryKind, events: Vec<Event>) -> Entry {
        Entry {
            format: log::FORMAT,
            seq,
            nonce: String::new(),
            epoch: 1,
            owner: String::new(),
            kind,
            system_id: String::new(),
            timeline: 1,
            slot: String::new(),
            from_lsn: Lsn(1),
            to_lsn: Lsn(1),
            to_commit_ts: None,
            written_at: None,
            tables: Vec::new(),
            events,
        }
    }

    fn file(key: &str) -> TableFiles {
        let file = FileEntry {
            key: key.to_owned(),
            upload_id: String::new(),
            parts: Vec::new(),
            bytes: 1,
            rows: 1,
            ops: BTreeMap::new(),
            partition: Partition { hour: 0 },
            lsn_range: [Lsn(1), Lsn(1)],
            ts_range: [String::new(), String::new()],
            crc: String::new(),
        };
        TableFiles { table: "public.t".to_owned(), relation: 1, schema_id: 1, files: vec![file] }
    }

    #[tokio::test]
    async fn a_repair_that_was_killed_is_finished() {
        let store = MemoryStore::new();
        let cut =
            Entry { tables: vec![file("left"), file("gone")], ..entry(2, EntryKind::Commit, Vec::new()) };
        let void = Event::Void { seq: 2, reason: "gone".to_owned() };
        let entries = [
            entry(1, EntryKind::Open, Vec::new()),
            cut,
            entry(3, EntryKind::Void, vec![void]),
            entry(4, EntryKind::Open, Vec::new()),
        ];
        for entry in &entries {
            log::append(&store, entry).await.expect("the number is free");
        }
        store.put("left", Bytes::from_static(b"x")).await.expect("memory");
        store.put("other", Bytes::from_static(b"x")).await.expect("memory");
        let first = finish_earlier(&store, 4).await.expect("a log");
        assert_eq!(first.document, json!({"repaired": true, "voided": 2, "deleted": 1}));
        assert!(
            store.objects().contains(&"other".to_owned()) && !store.objects().contains(&"left".to_owned())
        );
        let second = finish_earlier(&store, 4).await.expect("a log");
        assert_eq!(second.document["repaired"], false);
    }
}

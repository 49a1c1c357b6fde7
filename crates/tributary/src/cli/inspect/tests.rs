use super::*;
use crate::error::Error;

fn entry(seq: u64, kind: EntryKind, from: u64, to: u64) -> Entry {
    Entry {
        format: log::FORMAT,
        seq,
        nonce: String::new(),
        epoch: 1,
        owner: "host:1".to_owned(),
        kind,
        system_id: "7".to_owned(),
        timeline: 1,
        slot: "tributary".to_owned(),
        from_lsn: Lsn(from),
        to_lsn: Lsn(to),
        to_commit_ts: None,
        written_at: None,
        tables: Vec::new(),
        events: Vec::new(),
    }
}

async fn seq_of(entries: &[Entry], lsn: u64) -> Result<u64, Found> {
    let last = u64::try_from(entries.len()).expect("a few");
    let read = async |seq: u64| {
        let found = entries.iter().find(|entry| entry.seq == seq);
        found.cloned().ok_or_else(|| Error::bug(format!("entry {seq} does not exist")))
    };
    match find(last, Lsn(lsn), read).await.expect("every entry is there") {
        Found::In(entry) => Ok(entry.seq),
        elsewhere => Err(elsewhere),
    }
}

#[tokio::test]
async fn an_lsn_is_in_the_entry_that_ends_at_or_after_it() {
    let entries = [
        entry(1, EntryKind::Open, 10, 10),
        entry(2, EntryKind::Commit, 10, 20),
        entry(3, EntryKind::Idle, 20, 30),
        entry(4, EntryKind::Open, 30, 30),
        entry(5, EntryKind::Commit, 30, 40),
    ];
    for (lsn, seq) in [(11, 2), (20, 2), (21, 3), (30, 3), (31, 5), (40, 5)] {
        assert_eq!(seq_of(&entries, lsn).await, Ok(seq), "{lsn}");
    }
    assert_eq!(seq_of(&entries, 10).await, Err(Found::Before(Lsn(10))));
    assert_eq!(seq_of(&entries, 41).await, Err(Found::After));
}

#[tokio::test]
async fn a_void_entry_sends_the_search_behind_it() {
    let entries = [
        entry(1, EntryKind::Open, 10, 10),
        entry(2, EntryKind::Commit, 10, 20),
        entry(3, EntryKind::Commit, 20, 40),
        entry(4, EntryKind::Open, 40, 40),
        entry(5, EntryKind::Void, 40, 20),
        entry(6, EntryKind::Open, 20, 20),
        entry(7, EntryKind::Commit, 20, 30),
    ];
    for (lsn, seq) in [(15, 2), (25, 7), (30, 7)] {
        assert_eq!(seq_of(&entries, lsn).await, Ok(seq), "{lsn}");
    }
    assert_eq!(seq_of(&entries, 35).await, Err(Found::After));
}

//! The log, read from its first entry to its last.
//!
//! Owns: whether entries are there, readable and in line, whether checkpoints say what the entries fold to, and what the log names.
//! Does not: look at what it names, or know what an entry may say of a file (`entries`).
//! Holds: goes on behind an entry that is missing or unreadable, and remembers which ones these are: nothing can be said of what only they name.
//! Fails: as the store does.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use pgoutput::Lsn;

use super::entries::{self, Tables};
use super::expected::Expected;
use super::{Fault, Finding, Findings, LIST_LIMIT, Mend, REQUESTS_IN_FLIGHT, Severity};
use crate::error::Error;
use crate::layout;
use crate::log::{self, Entry, EntryKind, Event, Found, Reading, State, Totals};
use crate::publish;
use crate::retry::transient;
use crate::store::Store;
use crate::watermark::Watermark;

/// The log as far as it was read.
#[derive(Debug, Default)]
pub(super) struct Chain {
    /// Entries that were read.
    pub(super) entries: u64,
    /// The number of the last entry.
    pub(super) last: u64,
    /// The newest entry that a checkpoint has, if the log ends before it.
    end: u64,
    /// Entries that are missing or unreadable, by ranges in order; those before the first one that is kept, and behind the last one, too.
    unknown: Vec<(u64, u64)>,
    /// The log begins here on purpose.
    log_from: u64,
    /// Entries up to this one were removed on purpose, and a checkpoint makes up for them.
    not_kept: u64,
    /// Entries that were changed: no file is to be deleted on their word.
    doubtful: BTreeSet<u64>,
    /// What entries so far say of tables.
    tables: Tables,
    /// The entry that the watermark stands for: it and all before it are published. `None` if that is not known.
    watermark: Option<u64>,
    /// The newest entry with which a daemon took over: who began before it can log nothing more.
    pub(super) newest_open: u64,
    /// The last cut or idle entry: until there is another one, what it names is on its way.
    pub(super) tail: Option<(Entry, Watermark)>,
    /// The watermark of the one before, which is published.
    pub(super) published: Option<Watermark>,
    /// Entries that count no more.
    voided: BTreeSet<u64>,
    /// Data files.
    pub(super) files: Expected,
    /// Schema documents.
    pub(super) documents: Expected,
    /// The last entry, without what it names; none behind a gap.
    before: Option<Entry>,
    /// What the entries fold to; none behind a gap that no checkpoint closed.
    state: Option<State>,
    /// Checkpoints that were not compared yet, by the entry that they go up to.
    heads: BTreeMap<u64, String>,
    commit_ts: Option<String>,
}

/// One entry, as it was found.
enum Read {
    Entry(Box<Entry>),
    Gone,
    Unreadable(String),
}

impl Chain {
    /// Reads the whole log.
    pub(super) async fn read(
        store: &dyn Store,
        log_from: u64,
        findings: &mut Findings,
    ) -> Result<Chain, Error> {
        let keys = log::heads(store).await?;
        let number =
            |key: &String| key.strip_prefix(layout::CHECKPOINT_PREFIX)?.strip_suffix(".json")?.parse().ok();
        let heads = keys.into_iter().filter_map(|key| Some((number(&key)?, key))).collect();
        let mut chain = Chain { heads, log_from, ..Chain::default() };
        let mut after: Option<String> = None;
        // Checkpoints sort behind all entries.
        while after.as_deref().is_none_or(|after| after < layout::CHECKPOINT_PREFIX) {
            let listed = transient(|| store.list(layout::LOG_PREFIX, after.as_deref(), LIST_LIMIT)).await?;
            let Some(last) = listed.last() else { break };
            after = Some(last.key.clone());
            let mut entries = Vec::new();
            for key in listed.into_iter().map(|object| object.key) {
                match layout::log_seq(&key).filter(|seq| layout::log_key(*seq) == key) {
                    Some(seq) => entries.push(seq),
                    None if key.starts_with(layout::CHECKPOINT_PREFIX) => break,
                    None if key.starts_with(layout::CHECKPOINT_PARTS_PREFIX) => break,
                    None => findings.add(Finding::new(
                        Severity::Note,
                        Fault::Foreign,
                        key,
                        "lies among the log entries and is none; nothing reads it",
                        Mend::Nothing,
                    )),
                }
            }
            let reads: Vec<BoxFuture<'_, _>> =
                entries.into_iter().map(|seq| read_entry(store, seq).boxed()).collect();
            let mut reads = stream::iter(reads).buffered(REQUESTS_IN_FLIGHT);
            while let Some((seq, read)) = reads.try_next().await? {
                chain.accept(store, seq, read, findings).await?;
            }
        }
        chain.begin_at_checkpoint(store, findings).await?;
        chain.follow(store, findings).await?;
        Ok(chain)
    }

    /// Reads what was appended since.
    pub(super) async fn follow(&mut self, store: &dyn Store, findings: &mut Findings) -> Result<(), Error> {
        if !self.is_empty() {
            loop {
                let (seq, read) = read_entry(store, self.last + 1).await?;
                if matches!(read, Read::Gone) {
                    break;
                }
                self.accept(store, seq, read, findings).await?;
            }
        }
        self.files.sort();
        self.documents.sort();
        Ok(())
    }

    /// What can be said only once everything was read: twice the same file, and checkpoints that no entry led to.
    pub(super) async fn finish(&mut self, store: &dyn Store, findings: &mut Findings) -> Result<(), Error> {
        for (first, second) in self.files.twice(|seq| self.counts(seq)) {
            findings.add(Finding::new(
                Severity::Damage,
                Fault::LoggedTwice,
                layout::log_key(second),
                format!("names a file that log entry {first} names, too"),
                Mend::Say("no daemon writes such an entry: look at who else writes to this prefix"),
            ));
        }
        for (seq, key) in std::mem::take(&mut self.heads) {
            let Some(_) = read_head(store, &key, findings).await? else { continue };
            if seq > self.last {
                self.end = self.end.max(seq);
                findings.add(Finding::new(
                    Severity::Damage,
                    Fault::EntryMissing,
                    layout::log_key(self.last + 1),
                    format!(
                        "the log ends at entry {}, and the checkpoint `{key}` goes up to entry {seq}",
                        self.last
                    ),
                    RESTORE_ENTRY,
                ));
            }
        }
        self.check_identity(store, findings).await
    }

    pub(super) fn is_empty(&self) -> bool {
        self.last == 0
    }

    /// Files that count and their bytes.
    pub(super) fn counted(&self) -> Totals {
        self.files.iter().filter(|file| self.counts(file.seq)).fold(Totals::default(), |sum, file| Totals {
            rows: sum.rows,
            files: sum.files + 1,
            bytes: sum.bytes + file.bytes,
        })
    }

    /// Whether an entry was not taken back.
    pub(super) fn counts(&self, seq: u64) -> bool {
        !self.voided.contains(&seq)
    }

    /// Whether what this entry names may be on its way still. The watermark is written, and the slot told, only once all of it is visible.
    pub(super) fn is_tail(&self, seq: u64) -> bool {
        let is_last = self.tail.as_ref().is_some_and(|(entry, _)| entry.seq == seq);
        is_last && self.watermark.is_none_or(|watermark| watermark < seq)
    }

    /// Whether the watermark tells what is published.
    pub(super) fn knows_watermark(&self) -> bool {
        self.watermark.is_some()
    }

    /// Whether an entry with this number, or a later one, could name something that no entry that was read names.
    pub(super) fn may_name(&self, seq: u64) -> bool {
        let unknown = self.unknown.last().map(|(_, to)| *to);
        unknown.max(self.doubtful.last().copied()).is_some_and(|last| last >= seq)
    }

    /// Whether an entry was changed.
    pub(super) fn is_doubtful(&self, seq: u64) -> bool {
        self.doubtful.contains(&seq)
    }

    /// The watermark stands for this entry by now, if it can be read.
    pub(super) fn published_to(&mut self, watermark: Option<u64>) {
        self.watermark = watermark;
    }

    /// Compares the end of the log with what shows that it was further once: the watermark, and the newest file, both as they were
    /// before the end was read. Such a file was visible, so that its entry was there (I4).
    pub(super) fn end_at(
        &mut self,
        watermark: Option<u64>,
        file: Option<(u64, &str)>,
        findings: &mut Findings,
    ) {
        let told = self.last.max(self.end).max(watermark.unwrap_or(0));
        let end = file.map_or(told, |(seq, _)| told.max(seq));
        if let Some((seq, key)) = file.filter(|(seq, _)| *seq > told) {
            let what =
                format!("the log ends at entry {}, and `{key}` is of entry {seq} or a later one", self.last);
            findings.add(Finding::new(
                Severity::Damage,
                Fault::EntryMissing,
                layout::log_key(self.last + 1),
                what,
                RESTORE_END,
            ));
        }
        if end > self.last {
            self.unknown.push((self.last + 1, end));
        }
    }

    /// Whether exactly this entry is missing or unreadable; and whether that is damage.
    pub(super) fn unknown(&self, seq: u64) -> Option<bool> {
        let place = self.unknown.partition_point(|(_, to)| *to < seq);
        let is_unknown = self.unknown.get(place).is_some_and(|(from, _)| *from <= seq);
        is_unknown.then_some(seq > self.not_kept)
    }

    /// The numbers of all entries that can be read.
    pub(super) fn known(&self) -> impl Iterator<Item = u64> + '_ {
        (1..=self.last).filter(|seq| self.unknown(*seq).is_none())
    }

    /// Where a table was read again since, as a whole, so that rows up to this position count no more.
    pub(super) fn superseded(&self, relation: u32, last: Lsn) -> Option<Lsn> {
        let snapshot = self.state.as_ref()?.snapshots.get(&relation)?;
        let is_whole = snapshot.supersedes && snapshot.state == Reading::Done;
        snapshot.lsn.filter(|lsn| is_whole && *lsn > last)
    }

    /// The folders of all tables, as far as the log can be folded.
    pub(super) fn folders(&self) -> Vec<String> {
        let tables = self.state.iter().flat_map(|state| state.tables.values());
        tables.map(|table| table.path.clone()).collect()
    }

    async fn accept(
        &mut self,
        store: &dyn Store,
        seq: u64,
        read: Read,
        findings: &mut Findings,
    ) -> Result<(), Error> {
        if seq > self.last + 1 {
            self.gap(store, seq, findings).await?;
        }
        match read {
            Read::Entry(entry) => self.entry(seq, *entry, findings),
            Read::Gone => self.lose(seq, seq, "was listed and is gone", Fault::EntryMissing, findings),
            Read::Unreadable(reason) => {
                self.lose(seq, seq, &format!("cannot be read: {reason}"), Fault::EntryUnreadable, findings);
            }
        }
        self.last = seq;
        if let Some(key) = self.heads.remove(&seq) {
            self.compare(store, &key, findings).await?;
        }
        Ok(())
    }

    /// Entries before this one are not there.
    async fn gap(&mut self, store: &dyn Store, seq: u64, findings: &mut Findings) -> Result<(), Error> {
        let from = self.last + 1;
        let is_kept_by_head = self.is_empty() && self.heads.range(seq - 1..).next().is_some();
        if is_kept_by_head {
            self.unknown.push((1, seq - 1));
            findings.add(self.without_beginning(seq));
            self.last = seq - 1;
            if let Some(key) = self.heads.remove(&(seq - 1)) {
                self.compare(store, &key, findings).await?;
            }
            return Ok(());
        }
        let what = match seq - from {
            1 => format!("is missing: the next one is {seq}"),
            count => format!("and {} more are missing: the next one is {seq}", count - 1),
        };
        self.lose(from, seq - 1, &what, Fault::EntryMissing, findings);
        Ok(())
    }

    /// A checkpoint stands for all entries before this one, and names no file of theirs.
    fn without_beginning(&mut self, seq: u64) -> Finding {
        let last = seq - 1;
        if seq <= self.log_from {
            self.not_kept = last;
            let what =
                format!("log entries 1 to {last} are not kept; files that only they name are not checked");
            let key = layout::log_key(1);
            return Finding::new(Severity::Note, Fault::EntriesNotKept, key, what, Mend::Nothing);
        }
        let what = match last {
            1 => "log entry 1 is missing".to_owned(),
            _ => format!("log entries 1 to {last} are missing"),
        };
        let what =
            format!("{what}: a checkpoint has what they fold to, and nothing has what files they name");
        Finding::new(Severity::Damage, Fault::EntryMissing, layout::log_key(1), what, RESTORE_BEGINNING)
    }

    /// Nothing is known of these entries.
    fn lose(&mut self, from: u64, to: u64, what: &str, fault: Fault, findings: &mut Findings) {
        self.unknown.push((from, to));
        (self.before, self.state) = (None, None);
        findings.add(Finding::new(
            Severity::Damage,
            fault,
            layout::log_key(from),
            format!("log entry {from} {what}"),
            RESTORE_ENTRY,
        ));
    }

    fn entry(&mut self, seq: u64, entry: Entry, findings: &mut Findings) {
        for what in self.disagreements(seq, &entry) {
            findings.add(Finding::new(
                Severity::Damage,
                Fault::EntryDisagrees,
                layout::log_key(seq),
                format!("log entry {seq} does not continue the log: {what}"),
                Mend::Say("the entry, or one before it, was changed: restore both from a backup or an earlier version of the bucket"),
            ));
            self.doubtful.insert(seq);
        }
        if (self.state.is_some() || seq == 1) && State::fold(&mut self.state, &entry).is_err() {
            // Why was just said.
            self.state = None;
        }
        self.tables.learn(&entry);
        for what in entries::disagreements(&entry, self.state.as_ref().map(|_| &self.tables)) {
            findings.add(changed(seq, &what));
            self.doubtful.insert(seq);
        }
        self.entries += 1;
        if entry.to_commit_ts.is_some() {
            self.commit_ts.clone_from(&entry.to_commit_ts);
        }
        for file in entry.tables.iter().flat_map(|table| &table.files) {
            self.files.add(&file.key, file.bytes, seq);
        }
        for (key, _) in entry.events.iter().filter_map(publish::schema_document) {
            self.documents.add(&key, 0, seq);
        }
        self.before = Some(Entry { tables: Vec::new(), events: Vec::new(), ..entry.clone() });
        match entry.kind {
            EntryKind::Open => self.newest_open = seq,
            EntryKind::Commit | EntryKind::Idle => {
                let watermark = Watermark::of(&entry, self.commit_ts.clone());
                if let Some((_, published)) = self.tail.replace((entry, watermark)) {
                    self.published = Some(published);
                }
            }
            EntryKind::Void => {
                self.tail = None;
                self.voided.extend(entry.events.iter().filter_map(voided));
            }
        }
    }

    /// What does not fit the entry before.
    fn disagreements(&self, seq: u64, entry: &Entry) -> Vec<String> {
        let mut found = Vec::new();
        let mut must = |holds: bool, what: String| {
            if !holds {
                found.push(what);
            }
        };
        must(entry.seq == seq, format!("it says that its number is {}", entry.seq));
        let is_void = entry.kind == EntryKind::Void;
        must(
            is_void || entry.to_lsn >= entry.from_lsn,
            format!("it goes from {} back to {}", entry.from_lsn, entry.to_lsn),
        );
        if is_void {
            let voided = entry.events.iter().find_map(voided);
            let cut = self.tail.as_ref().map(|(cut, _)| cut);
            let fits = cut.is_none_or(|cut| voided == Some(cut.seq) && entry.to_lsn == cut.from_lsn);
            must(fits, "it takes back another entry than the last cut".to_owned());
        }
        let Some(before) = &self.before else { return found };
        must(
            entry.from_lsn == before.to_lsn,
            format!("it begins at {} and the one before ends at {}", entry.from_lsn, before.to_lsn),
        );
        must(
            entry.system_id == before.system_id,
            format!("it is of system {} and the one before of {}", entry.system_id, before.system_id),
        );
        must(
            entry.slot == before.slot,
            format!("it is of slot `{}` and the one before of `{}`", entry.slot, before.slot),
        );
        let takes_over = matches!(entry.kind, EntryKind::Open | EntryKind::Void);
        let may_change = entry.kind == EntryKind::Open && entry.timeline > before.timeline;
        must(
            entry.timeline == before.timeline || may_change,
            format!("it is on timeline {} and the one before on {}", entry.timeline, before.timeline),
        );
        must(
            entry.epoch == before.epoch + u64::from(takes_over),
            format!("its epoch is {} behind {} ({} entry)", entry.epoch, before.epoch, entry.kind.label()),
        );
        found
    }

    /// A log of which nothing but a checkpoint is kept.
    async fn begin_at_checkpoint(&mut self, store: &dyn Store, findings: &mut Findings) -> Result<(), Error> {
        if self.is_empty()
            && let Some(last) = self.heads.keys().next_back().copied()
        {
            self.gap(store, last + 1, findings).await?;
        }
        Ok(())
    }

    /// Compares the fold with the checkpoint of its last entry; behind a gap, the fold begins anew from there.
    async fn compare(&mut self, store: &dyn Store, key: &str, findings: &mut Findings) -> Result<(), Error> {
        let Some(found) = read_head(store, key, findings).await? else { return Ok(()) };
        match &self.state {
            Some(state) => {
                let differences = differences(state, &found);
                if !differences.is_empty() {
                    findings.add(Finding::new(
                        Severity::Damage,
                        Fault::CheckpointDiffers,
                        key,
                        format!(
                            "says something else than the log up to its entry: {}",
                            differences.join(", ")
                        ),
                        CHECKPOINT,
                    ));
                }
            }
            None => {
                self.before.get_or_insert_with(|| last_of(&found));
                self.commit_ts.clone_from(&found.to_commit_ts);
                self.tables.adopt(&found);
                self.state = Some(found);
            }
        }
        Ok(())
    }

    /// Whether the document that tells whose lake it is fits the log.
    async fn check_identity(&self, store: &dyn Store, findings: &mut Findings) -> Result<(), Error> {
        #[derive(serde::Deserialize)]
        struct Identity {
            system_id: String,
            slot: String,
        }
        let Some(object) = transient(|| store.get(layout::LAKE)).await? else {
            findings.add(Finding::new(
                Severity::Warning,
                Fault::IdentityMissing,
                layout::LAKE,
                "is not there; while there is a log nothing reads it",
                Mend::Nothing,
            ));
            return Ok(());
        };
        let identity = serde_json::from_slice::<Identity>(&object.bytes);
        let Some(before) = &self.before else { return Ok(()) };
        let what = match identity {
            Err(error) => format!("cannot be read: {error}"),
            Ok(Identity { system_id, slot }) if system_id != before.system_id || slot != before.slot => {
                format!(
                    "names slot `{slot}` of system {system_id}, and the log slot `{}` of system {}",
                    before.slot, before.system_id
                )
            }
            Ok(_) => return Ok(()),
        };
        let mend = Mend::Say("restore it; if it is another pipeline's, give each a prefix of its own");
        findings.add(Finding::new(Severity::Damage, Fault::IdentityDiffers, layout::LAKE, what, mend));
        Ok(())
    }
}

/// An entry that says of a file or a table what cannot be.
pub(super) fn changed(seq: u64, what: &str) -> Finding {
    let what = format!("log entry {seq} says what cannot be: {what}");
    let mend = Mend::Say(
        "the entry was changed: restore it from a backup or an earlier version of the bucket. \
         Delete none of its files, and nothing that only it could name",
    );
    Finding::new(Severity::Damage, Fault::EntryDisagrees, layout::log_key(seq), what, mend)
}

/// Reads an entry again that was read before; `None` if it is gone or has changed since.
pub(super) async fn again(store: &dyn Store, seq: u64) -> Result<Option<Entry>, Error> {
    Ok(match read_entry(store, seq).await? {
        (_, Read::Entry(entry)) => Some(*entry),
        (_, Read::Gone | Read::Unreadable(_)) => None,
    })
}

async fn read_entry(store: &dyn Store, seq: u64) -> Result<(u64, Read), Error> {
    let key = layout::log_key(seq);
    let Some(object) = transient(|| store.get(&key)).await? else { return Ok((seq, Read::Gone)) };
    Ok((
        seq,
        match log::parse::<Entry>(&key, &object.bytes) {
            Ok(entry) => Read::Entry(Box::new(entry)),
            Err(Error::Unreadable { reason, .. }) => Read::Unreadable(reason),
            Err(error) => return Err(error),
        },
    ))
}

/// A checkpoint that is whole; why another one is not is a finding, unless a daemon deletes it just now.
async fn read_head(store: &dyn Store, key: &str, findings: &mut Findings) -> Result<Option<State>, Error> {
    match log::read_checkpoint(store, key).await {
        Ok(Found::Whole(state)) => return Ok(Some(*state)),
        Ok(Found::Gone) => {}
        Ok(Found::WithoutPart(part)) => {
            if transient(|| store.head(key)).await?.is_some() {
                findings.add(Finding::new(
                    Severity::Damage,
                    Fault::CheckpointPartMissing,
                    part,
                    format!("is named by the checkpoint `{key}` and not there"),
                    CHECKPOINT,
                ));
            }
        }
        Err(Error::Unreadable { key: part, reason }) => {
            findings.add(Finding::new(
                Severity::Damage,
                Fault::CheckpointUnreadable,
                key,
                match part == key {
                    true => format!("cannot be read: {reason}"),
                    false => format!("names `{part}`, which cannot be read: {reason}"),
                },
                CHECKPOINT,
            ));
        }
        Err(error) => return Err(error),
    }
    Ok(None)
}

fn voided(event: &Event) -> Option<u64> {
    match event {
        Event::Void { seq, .. } => Some(*seq),
        _ => None,
    }
}

/// The entry that a checkpoint goes up to, as far as it tells.
fn last_of(state: &State) -> Entry {
    Entry {
        format: state.format,
        seq: state.seq,
        nonce: String::new(),
        epoch: state.epoch,
        owner: state.owner.clone(),
        kind: EntryKind::Open,
        system_id: state.system_id.clone(),
        timeline: state.timeline,
        slot: state.slot.clone(),
        from_lsn: state.to_lsn,
        to_lsn: state.to_lsn,
        to_commit_ts: state.to_commit_ts.clone(),
        written_at: None,
        tables: Vec::new(),
        events: Vec::new(),
    }
}

/// The parts in which two states differ.
fn differences(log: &State, checkpoint: &State) -> Vec<&'static str> {
    let position =
        |state: &State| (state.seq, state.epoch, state.to_lsn, state.timeline, state.to_commit_ts.clone());
    let source = |state: &State| (state.system_id.clone(), state.slot.clone(), state.owner.clone());
    let publication = |state: &State| (state.publication.clone(), state.publication_members.clone());
    [
        ("position", position(log) == position(checkpoint)),
        ("source", source(log) == source(checkpoint)),
        ("publication", publication(log) == publication(checkpoint)),
        ("tables", log.tables == checkpoint.tables),
        ("leaves", log.lineage == checkpoint.lineage && log.detached == checkpoint.detached),
        ("partitions", log.partitions == checkpoint.partitions),
        ("snapshots", log.snapshots == checkpoint.snapshots),
        ("last cut", log.last_cut == checkpoint.last_cut),
    ]
    .into_iter()
    .filter_map(|(name, is_same)| (!is_same).then_some(name))
    .collect()
}

const RESTORE_ENTRY: Mend = Mend::Say(
    "restore it from a backup or an earlier version of the bucket. \
     Behind the newest checkpoint no daemon can go on without it; wherever it is, nothing else says which files it names, \
     so that they cannot be checked and `tributary verify` proves nothing",
);
const RESTORE_BEGINNING: Mend = Mend::Say(
    "restore all of them from a backup or an earlier version of the bucket: files that only they name cannot be checked, \
     and `tributary verify` proves nothing without them. If somebody removed them on purpose, `--log-from` tells so",
);
const RESTORE_END: Mend = Mend::Say(
    "restore the end of the log from a backup or an earlier version of the bucket before a daemon runs, and keep the file. \
     Only one that came from another lake may be deleted",
);
const CHECKPOINT: Mend = Mend::Say(
    "delete the head of the checkpoint (the object under `log/_checkpoint/`) if all log entries are there: \
     the next start folds them, and another one is written",
);

//! What the store has against what the log names: data files and schema documents.
//!
//! Owns: the listings, and what is said of a file that is missing, too many, or of another size.
//! Does not: read a data file; `contents` does.
//! Holds: a file is reported only after it was looked at again, behind everything that was read of the log.
//! Fails: as the store does.

use std::collections::{BTreeSet, HashSet};

use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};

use pgoutput::Lsn;

use super::chain::{self, Chain};
use super::repair::Action;
use super::{Fault, Finding, Findings, KEEP, Mend, REQUESTS_IN_FLIGHT, Severity, entries};
use crate::error::Error;
use crate::layout;
use crate::log::{Entry, FileEntry};
use crate::publish;
use crate::retry::transient;
use crate::store::{Listed, Store, Unfinished};

/// What a listing showed and the log, as far as it was read by then, did not say.
#[derive(Debug, Default)]
pub(super) struct Odd {
    listed: Vec<Listed>,
    /// More than are remembered.
    left_out: u64,
}

/// Lists everything but control objects, several ranges of keys at once, and marks what the log names.
pub(super) async fn list(
    store: &dyn Store,
    chain: &mut Chain,
    findings: &mut Findings,
) -> Result<Odd, Error> {
    let mut bounds: Vec<String> = chain.folders().into_iter().map(|path| format!("{path}/")).collect();
    bounds.sort();
    let step = bounds.len().div_ceil(RANGES_MAX).max(1);
    let mut bounds: Vec<String> = bounds.into_iter().step_by(step).collect();
    // Control objects are in none of the ranges.
    bounds.extend([layout::CONTROL_PREFIX.to_owned(), BEHIND_CONTROL.to_owned()]);
    bounds.sort();
    bounds.dedup();
    let begins = std::iter::once(None).chain(bounds.iter().cloned().map(Some));
    let ends = bounds.iter().cloned().map(Some).chain(std::iter::once(None));
    let ranges = begins.zip(ends).filter(|(begin, _)| begin.as_deref() != Some(layout::CONTROL_PREFIX));
    let pages: Vec<BoxStream<'_, _>> = ranges.map(|(begin, end)| pages(store, "", begin, end)).collect();
    let mut pages = stream::iter(pages).flatten_unordered(LISTINGS_IN_FLIGHT);
    let mut odd = Odd::default();
    while let Some(page) = pages.try_next().await? {
        for object in page {
            odd.judge(object, chain, findings);
        }
    }
    Ok(odd)
}

/// Lists the schema documents, and marks those that the log names. Others do no harm.
pub(super) async fn list_documents(store: &dyn Store, chain: &mut Chain) -> Result<(), Error> {
    let mut pages = pages(store, layout::SCHEMA_PREFIX, None, None);
    while let Some(page) = pages.try_next().await? {
        for object in page {
            chain.documents.find(&object.key).iter_mut().for_each(|logged| logged.seen = true);
        }
    }
    Ok(())
}

/// All objects in a range of keys, page by page.
fn pages<'a>(
    store: &'a dyn Store,
    prefix: &'a str,
    begin: Option<String>,
    end: Option<String>,
) -> BoxStream<'a, Result<Vec<Listed>, Error>> {
    let pages = stream::try_unfold(Some((begin, end)), move |range| async move {
        let Some((begin, end)) = range else { return Ok::<_, Error>(None) };
        let mut page = transient(|| store.list(prefix, begin.as_deref(), PAGE)).await?;
        let is_last = page.len() < PAGE;
        let listed = page.len();
        page.retain(|object| end.as_ref().is_none_or(|end| object.key <= *end));
        let next = page.last().map(|last| Some(last.key.clone()));
        let next = next.filter(|_| !is_last && page.len() == listed);
        Ok(Some((page, next.map(|begin| (begin, end)))))
    });
    pages.boxed()
}

impl Odd {
    fn judge(&mut self, object: Listed, chain: &mut Chain, findings: &mut Findings) {
        if !object.key.ends_with(layout::DATA_SUFFIX) {
            judge_foreign(object.key, findings);
            return;
        }
        let mut known = Vec::new();
        for logged in chain.files.find(&object.key) {
            logged.seen = true;
            known.push((logged.seq, logged.bytes));
        }
        let is_as_logged = known.iter().any(|(seq, bytes)| chain.counts(*seq) && *bytes == object.bytes);
        match is_as_logged {
            true => {}
            false if self.listed.len() < ODD_MAX => self.listed.push(object),
            false => self.left_out += 1,
        }
    }

    /// The file with the highest number, as far as names are such as a daemon gives.
    pub(super) fn newest(&self) -> Option<(u64, &str)> {
        let named = self
            .listed
            .iter()
            .filter_map(|object| Some((entries::file_seq(&object.key)?, object.key.as_str())));
        named.max()
    }

    /// Looks once more at what was odd, behind the whole log.
    pub(super) async fn settle(
        self,
        store: &dyn Store,
        chain: &mut Chain,
        findings: &mut Findings,
    ) -> Result<(), Error> {
        findings.leave_out(Severity::Damage, Fault::Unlogged, self.left_out);
        let look = async |object: Listed| {
            let found = transient(|| store.head(&object.key)).await?;
            Ok::<_, Error>(found.map(|bytes| Listed { key: object.key, bytes }))
        };
        let mut looks = stream::iter(self.listed).map(look).buffered(REQUESTS_IN_FLIGHT);
        let mut unjudged = Unjudged::default();
        // What is gone was deleted since, as `repair` does before it voids an entry.
        while let Some(found) = looks.try_next().await? {
            if let Some(object) = found {
                settle(store, object, chain, findings, &mut unjudged).await?;
            }
        }
        unjudged.report(findings);
        Ok(())
    }
}

/// Files that may be named by entries of which nothing is known.
#[derive(Default)]
struct Unjudged {
    count: u64,
    first: Option<String>,
    is_damage: bool,
}

impl Unjudged {
    fn add(&mut self, key: String, is_damage: bool) {
        self.count += 1;
        self.first.get_or_insert(key);
        self.is_damage |= is_damage;
    }

    fn report(self, findings: &mut Findings) {
        let Some(first) = self.first else { return };
        let severity = if self.is_damage { Severity::Warning } else { Severity::Note };
        let what = format!(
            "is the first of {} files with the number of a log entry that is missing or cannot be read: whether they count cannot be told",
            self.count
        );
        let mend = match self.is_damage {
            true => Mend::Say("keep them, and mend the log first"),
            false => Mend::Nothing,
        };
        findings.add(Finding::new(severity, Fault::Unjudged, first, what, mend));
    }
}

/// A file that is there, and was not as logged a moment ago.
async fn settle(
    store: &dyn Store,
    object: Listed,
    chain: &mut Chain,
    findings: &mut Findings,
    unjudged: &mut Unjudged,
) -> Result<(), Error> {
    let Listed { key, bytes } = object;
    let mut known = Vec::new();
    for logged in chain.files.find(&key) {
        logged.seen = true;
        known.push((logged.seq, logged.bytes));
    }
    let Some((seq, logged)) = known.iter().copied().find(|(seq, _)| chain.counts(*seq)) else {
        match known.first() {
            Some((seq, _)) => findings.add(Finding::new(
                Severity::Damage,
                Fault::OfVoidEntry,
                key,
                format!("is of log entry {seq}, which counts no more: its rows are in other files, too"),
                Mend::Delete,
            )),
            None => report_unlogged(key, bytes, chain, findings, unjudged),
        }
        return Ok(());
    };
    if bytes == logged {
        return Ok(());
    }
    let mend = match table_of(store, seq, &key).await? {
        _ if chain.is_doubtful(seq) => KEEP,
        Some(table) => Mend::Replace { table },
        None => Mend::Nothing,
    };
    findings.add(Finding::new(
        Severity::Damage,
        Fault::FileSize,
        key,
        format!("has {bytes} bytes, and log entry {seq} says {logged}"),
        mend,
    ));
    Ok(())
}

fn report_unlogged(key: String, bytes: u64, chain: &Chain, findings: &mut Findings, unjudged: &mut Unjudged) {
    let seq = layout::data_seq(&key);
    if let Some(is_damage) = seq.and_then(|seq| chain.unknown(seq)) {
        unjudged.add(key, is_damage);
        return;
    }
    let (what, mend) = match seq {
        Some(seq) if chain.may_name(seq) => (
            "is named by no log entry that can be trusted; one that is missing, or cannot be read, or was changed, might name it",
            Mend::Say("keep it, and mend the log first"),
        ),
        Some(_) | None => (
            "is named by no log entry: whoever reads all files counts its rows twice, or rows that never were",
            Mend::Delete,
        ),
    };
    findings.add(Finding::new(
        Severity::Damage,
        Fault::Unlogged,
        key,
        format!("{what} ({bytes} bytes)"),
        mend,
    ));
}

/// What engines that read a folder would take for data.
fn judge_foreign(key: String, findings: &mut Findings) {
    let name = key.rsplit('/').next().unwrap_or_default();
    let is_hidden = name.starts_with(['_', '.']) || name.is_empty();
    if key.contains(DATA_FOLDER) && !is_hidden {
        let what = "lies among data files and is none: engines that read whole folders may stumble over it";
        findings.add(Finding::new(Severity::Warning, Fault::Foreign, key, what, Mend::Delete));
    }
}

async fn table_of(store: &dyn Store, seq: u64, key: &str) -> Result<Option<String>, Error> {
    let Some(entry) = chain::again(store, seq).await? else { return Ok(None) };
    let mut tables = entry.tables.into_iter();
    Ok(tables.find(|table| table.files.iter().any(|file| file.key == key)).map(|table| table.table))
}

/// Files that the log names and the store does not have, entry by entry.
pub(super) async fn report_missing(
    store: &dyn Store,
    chain: &Chain,
    unfinished: Option<&[Unfinished]>,
    findings: &mut Findings,
) -> Result<(), Error> {
    let uploads: Option<HashSet<&str>> =
        unfinished.map(|uploads| uploads.iter().map(|upload| upload.upload_id.as_str()).collect());
    let unseen = chain.files.iter().filter(|file| !file.seen && chain.counts(file.seq));
    let entries: BTreeSet<u64> = unseen.map(|file| file.seq).collect();
    let mut absent = stream::iter(entries).map(|seq| absent(store, chain, seq)).buffered(REQUESTS_IN_FLIGHT);
    while let Some((entry, files)) = absent.try_next().await? {
        let is_tail = chain.is_tail(entry.seq);
        let mut on_their_way = 0;
        for Absent { table, relation, file } in files {
            let has_upload = uploads.as_ref().map(|uploads| uploads.contains(file.upload_id.as_str()));
            match (is_tail, has_upload) {
                (true, Some(true) | None) => on_their_way += 1,
                (_, Some(true)) => findings.add(not_published(&entry, &table, file)),
                (true, Some(false)) => findings.add(lost(chain, &entry, &table, &file)),
                (false, Some(false) | None) => {
                    let superseded = chain.superseded(relation, file.lsn_range[1]);
                    findings.add(missing(&entry, table, &file, superseded));
                }
            }
        }
        if on_their_way > 0 {
            findings.add(Finding::new(
                Severity::Note,
                Fault::BeingPublished,
                layout::log_key(entry.seq),
                format!(
                    "log entry {} is being published: {on_their_way} of its files are not visible yet",
                    entry.seq
                ),
                Mend::Say("if no daemon runs, the next `tributary run` publishes it"),
            ));
        }
    }
    Ok(())
}

/// A file that the log names and that is not there.
struct Absent {
    table: String,
    relation: u32,
    file: FileEntry,
}

/// Those files of an entry that were in no listing and are not there now.
async fn absent(store: &dyn Store, chain: &Chain, seq: u64) -> Result<(Entry, Vec<Absent>), Error> {
    let Some(mut entry) = chain::again(store, seq).await? else {
        return Err(Error::Unreadable {
            key: layout::log_key(seq),
            reason: "it was read, and is gone or changed".to_owned(),
        });
    };
    let mut absent = Vec::new();
    for table in std::mem::take(&mut entry.tables) {
        for file in table.files {
            if !chain.files.is_seen(&file.key) && transient(|| store.head(&file.key)).await?.is_none() {
                absent.push(Absent { table: table.table.clone(), relation: table.relation, file });
            }
        }
    }
    Ok((entry, absent))
}

fn not_published(entry: &Entry, table: &str, file: FileEntry) -> Finding {
    let what = format!("was uploaded and never made visible; {}", content(entry, table, &file));
    let (key, action) = (file.key.clone(), Action::Complete(Box::new(file)));
    Finding::repairable(Severity::Damage, Fault::FileNotPublished, key, what, action)
}

/// Of a cut that the watermark does not stand for, the slot was not told, so that Postgres has it still.
fn lost(chain: &Chain, entry: &Entry, table: &str, file: &FileEntry) -> Finding {
    let what = format!("is not there, and its upload is gone; {}", content(entry, table, file));
    let mend = Mend::Say(match chain.knows_watermark() {
        true => "nothing is lost: `tributary repair` takes the entry back, and its range is streamed again",
        false => {
            "if the slot has its range still, `tributary repair` takes the entry back, and it is streamed again; `repair` looks, and refuses otherwise"
        }
    });
    Finding::new(Severity::Damage, Fault::FileLost, &file.key, what, mend)
}

/// One whose rows count no more is missed by nobody who reads the current state.
fn missing(entry: &Entry, table: String, file: &FileEntry, superseded: Option<Lsn>) -> Finding {
    let what = format!("is not there; {}", content(entry, &table, file));
    match superseded {
        None => {
            let mend = Mend::Resync { table };
            Finding::new(Severity::Damage, Fault::FileMissing, &file.key, what, mend)
        }
        Some(lsn) => {
            let what = format!("{what}. The table was read again at {lsn}: only history is missing");
            Finding::new(Severity::Warning, Fault::FileMissing, &file.key, what, Mend::Nothing)
        }
    }
}

/// What a file holds.
fn content(entry: &Entry, table: &str, file: &FileEntry) -> String {
    let [first, last] = file.lsn_range;
    format!(
        "log entry {} names it: {} rows of {table}, partition {}, of commits {first} to {last}",
        entry.seq,
        file.rows,
        file.partition.path()
    )
}

/// Schema documents that the log has and the store has not.
pub(super) async fn report_missing_documents(
    store: &dyn Store,
    chain: &Chain,
    findings: &mut Findings,
) -> Result<(), Error> {
    let unseen = chain.documents.iter().filter(|document| !document.seen && chain.counts(document.seq));
    // Those of the last entry are written behind its files.
    let entries: BTreeSet<u64> =
        unseen.map(|document| document.seq).filter(|seq| !chain.is_tail(*seq)).collect();
    for seq in entries {
        let Some(entry) = chain::again(store, seq).await? else { continue };
        for (key, document) in entry.events.iter().filter_map(publish::schema_document) {
            if chain.documents.is_seen(&key) || transient(|| store.head(&key)).await?.is_some() {
                continue;
            }
            let what = format!("is not there: log entry {seq} has this version of the schema");
            let action = Action::WriteSchema(document);
            findings.add(Finding::repairable(Severity::Damage, Fault::SchemaMissing, key, what, action));
        }
    }
    Ok(())
}

/// Sorts behind all control objects: a slash is followed by a zero.
const BEHIND_CONTROL: &str = "_tributary0";
const DATA_FOLDER: &str = "/data/";
/// Objects of a page: a page of S3, since a range may end within it.
const PAGE: usize = 1_000;
/// Into so many ranges the keys are cut, by the folders of tables.
const RANGES_MAX: usize = 64;
/// Listings at once; a page of each is in memory.
const LISTINGS_IN_FLIGHT: usize = 8;
/// Objects that are remembered to be looked at again; beyond it something else lies in this prefix.
const ODD_MAX: usize = 100_000;

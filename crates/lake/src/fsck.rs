//! Checks a lake by itself: what the log says against what the store has, without Postgres.
//!
//! Owns: what counts as damage, the order in which log and objects are read, and the few repairs that are safe.
//! Does not: append to the log or delete a data file, so it fences nobody and loses nothing; whoever wants a file gone deletes it.
//! Holds: a lake that is being written shows no damage that is none. The log is read, then the objects are listed, then the rest of the log is read:
//! what was visible is then named (I4), and what was named before the last cut is visible (I3). Whatever looks wrong is looked at once more.
//! Memory: 40 bytes a logged file, the state that the log folds to, and at most [`FINDINGS_MAX`] findings of a fault.
//! Fails: as the store does. Damage is an answer and no failure.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::error::Error;
use crate::store::Store;

mod chain;
mod contents;
mod entries;
mod expected;
mod objects;
mod repair;
mod uploads;
mod watermark;

use chain::Chain;
use repair::Action;

/// How much is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Every data file and schema is read, too.
    pub deep: bool,
    /// What can be mended without losing anything is mended.
    pub repair: bool,
    /// The log begins with this entry: those before it were removed on purpose. Zero if none was.
    pub log_from: u64,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Rows are missing, doubled or unreadable, or a daemon cannot go on from here.
    Damage,
    /// It costs space, or could not be looked at; no reader is misled.
    Warning,
    /// As it should be; said so that nobody wonders.
    Note,
}

impl Severity {
    /// The word for it.
    pub fn label(self) -> &'static str {
        match self {
            Severity::Damage => "damage",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each finding says it in a sentence")]
pub enum Fault {
    EntryMissing,
    EntryUnreadable,
    EntryDisagrees,
    EntriesNotKept,
    CheckpointUnreadable,
    CheckpointPartMissing,
    CheckpointDiffers,
    IdentityMissing,
    IdentityDiffers,
    SchemaMissing,
    SchemaDiffers,
    FileMissing,
    FileNotPublished,
    FileLost,
    FileSize,
    FileChecksum,
    FileUnreadable,
    LoggedTwice,
    Unlogged,
    Unjudged,
    OfVoidEntry,
    Foreign,
    BeingPublished,
    UploadAbandoned,
    UploadOpen,
    UploadsUnknown,
    WatermarkMissing,
    WatermarkUnreadable,
    WatermarkBehind,
    WatermarkAhead,
    WatermarkDiffers,
}

/// What a person does about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mend {
    /// Nothing has to be done.
    Nothing,
    /// [`Options::repair`] does it.
    Repair,
    /// The object has to be deleted, after a look.
    Delete,
    /// A table has to be read again.
    Resync {
        /// `schema.table` as Postgres names it.
        table: String,
    },
    /// The object is broken: its table has to be read again, and then the object be deleted.
    Replace {
        /// `schema.table` as Postgres names it.
        table: String,
    },
    /// In words.
    Say(&'static str),
}

/// Something that is not as it should be, or looks so.
#[derive(Debug)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub fault: Fault,
    /// The object.
    pub key: String,
    /// What is wrong, with the two things that disagree.
    pub what: String,
    /// How to mend it.
    pub mend: Mend,
    /// It was mended.
    pub repaired: bool,
    action: Option<Action>,
}

impl Finding {
    fn new(
        severity: Severity,
        fault: Fault,
        key: impl Into<String>,
        what: impl Into<String>,
        mend: Mend,
    ) -> Finding {
        Finding { severity, fault, key: key.into(), what: what.into(), mend, repaired: false, action: None }
    }

    /// One that [`Options::repair`] mends.
    fn repairable(
        severity: Severity,
        fault: Fault,
        key: impl Into<String>,
        what: impl Into<String>,
        action: Action,
    ) -> Finding {
        Finding { action: Some(action), ..Finding::new(severity, fault, key, what, Mend::Repair) }
    }
}

/// All that was found; of one fault no more than [`FINDINGS_MAX`], the others are counted.
#[derive(Debug, Default)]
pub struct Findings {
    listed: Vec<Finding>,
    counts: BTreeMap<Fault, u64>,
    left_out: BTreeMap<Fault, u64>,
    damage_left_out: u64,
}

impl Findings {
    fn add(&mut self, finding: Finding) {
        let count = self.counts.entry(finding.fault).or_default();
        *count += 1;
        if *count <= FINDINGS_MAX {
            self.listed.push(finding);
        } else {
            self.leave_out(finding.severity, finding.fault, 1);
        }
    }

    /// The objects with this fault.
    fn keys_of(&self, fault: Fault) -> impl Iterator<Item = &str> {
        self.listed.iter().filter(move |finding| finding.fault == fault).map(|finding| finding.key.as_str())
    }

    /// So many more of a fault, of which nothing else is known.
    fn leave_out(&mut self, severity: Severity, fault: Fault, count: u64) {
        if count == 0 {
            return;
        }
        *self.left_out.entry(fault).or_default() += count;
        if severity == Severity::Damage {
            self.damage_left_out += count;
        }
    }
}

/// The answer.
#[derive(Debug, Default)]
pub struct Report {
    /// What was found, the worst first.
    pub findings: Vec<Finding>,
    /// How many more there are of a fault.
    pub left_out: BTreeMap<Fault, u64>,
    /// Damage that is left.
    pub damage: u64,
    /// Log entries that were read.
    pub entries: u64,
    /// The last of them.
    pub last_entry: u64,
    /// Data files that count.
    pub files: u64,
    /// Their bytes, as logged.
    pub bytes: u64,
    /// Data files whose content was read.
    pub files_read: u64,
}

/// Checks the lake; `None` if it has no log.
pub async fn check(store: &dyn Store, options: Options) -> Result<Option<Report>, Error> {
    let mut findings = Findings::default();
    let mut chain = Chain::read(store, options.log_from, &mut findings).await?;
    if chain.is_empty() {
        return Ok(None);
    }
    let odd = objects::list(store, &mut chain, &mut findings).await?;
    objects::list_documents(store, &mut chain).await?;
    let early = watermark::read(store).await?;
    // Whatever was visible is named by now.
    chain.follow(store, &mut findings).await?;
    chain.finish(store, &mut findings).await?;
    let late = watermark::read(store).await?;
    chain.published_to(watermark::seq(&early).max(watermark::seq(&late)));
    chain.end_at(watermark::seq(&early), odd.newest(), &mut findings);
    odd.settle(store, &mut chain, &mut findings).await?;
    let unfinished = uploads::list(store, &mut findings).await?;
    objects::report_missing(store, &chain, unfinished.as_deref(), &mut findings).await?;
    objects::report_missing_documents(store, &chain, &mut findings).await?;
    if let Some(unfinished) = &unfinished {
        uploads::report(store, &chain, unfinished, &mut findings).await?;
    }
    watermark::report(store, &chain, &early, &late, &mut findings).await?;
    let files_read = match options.deep {
        true => contents::check(store, &chain, &mut findings).await?,
        false => 0,
    };
    if options.repair {
        repair::run(store, &mut findings.listed).await?;
    }
    Ok(Some(report(&chain, findings, files_read)))
}

fn report(chain: &Chain, findings: Findings, files_read: u64) -> Report {
    let Findings { mut listed, counts: _, left_out, damage_left_out } = findings;
    listed.sort_by(|a, b| (a.severity, a.fault, &a.key).cmp(&(b.severity, b.fault, &b.key)));
    let damage = listed.iter().filter(|finding| finding.severity == Severity::Damage && !finding.repaired);
    let counted = chain.counted();
    Report {
        damage: damage_left_out + u64::try_from(damage.count()).unwrap_or(u64::MAX),
        entries: chain.entries,
        last_entry: chain.last,
        files: counted.files,
        bytes: counted.bytes,
        files_read,
        findings: listed,
        left_out,
    }
}

/// Of a file that an entry speaks of which was changed.
const KEEP: Mend =
    Mend::Say("keep it, and mend its log entry first: what that says of the file is not to be trusted");

/// Findings of one fault that are listed; more than a person reads, and some hundred kilobytes.
const FINDINGS_MAX: u64 = 1_000;
/// Log entries a listing asks for at once: ten pages of S3, some megabytes. A folder is read anew for each.
const LIST_LIMIT: usize = 10_000;
/// Small requests at once.
const REQUESTS_IN_FLIGHT: usize = 32;

#[cfg(test)]
mod tests;

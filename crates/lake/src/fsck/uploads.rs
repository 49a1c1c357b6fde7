//! Uploads that were begun and are not finished.
//!
//! Owns: whether one can still become a file.
//! Does not: complete or abort; `repair` does.
//! Holds: an upload is called abandoned only if nobody can log it any more: its number is not behind the newest `open` entry, so that
//! who began it was fenced by that entry; and every entry that could name it was read and does not.
//! Fails: as the store does; a store that lists no uploads, or a role that may not, is a finding.

use std::collections::HashSet;

use super::chain::{self, Chain};
use super::repair::Action;
use super::{Fault, Finding, Findings, Mend, Severity};
use crate::error::Error;
use crate::layout;
use crate::retry::transient;
use crate::store::{Store, StoreError, Unfinished};

/// All of them; `None` where they cannot be listed.
pub(super) async fn list(
    store: &dyn Store,
    findings: &mut Findings,
) -> Result<Option<Vec<Unfinished>>, Error> {
    match transient(|| store.list_uploads("")).await {
        Ok(unfinished) => Ok(Some(unfinished)),
        Err(error @ (StoreError::Unsupported { .. } | StoreError::Refused { .. })) => {
            findings.add(Finding::new(
                Severity::Warning,
                Fault::UploadsUnknown,
                layout::CONTROL_PREFIX,
                format!("unfinished uploads cannot be listed: {error}"),
                Mend::Say("allow s3:ListBucketMultipartUploads if the store has it; let a lifecycle rule abort what is left after 7 days"),
            ));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Says which can become no file any more.
pub(super) async fn report(
    store: &dyn Store,
    chain: &Chain,
    unfinished: &[Unfinished],
    findings: &mut Findings,
) -> Result<(), Error> {
    let mut open = 0_u64;
    let mut first = None;
    let mut entries = LastEntry::default();
    for upload in unfinished {
        match fate(store, chain, &mut entries, upload).await? {
            Fate::Logged => {}
            Fate::Open => {
                open += 1;
                first.get_or_insert(&upload.key);
            }
            Fate::Abandoned(what) => {
                let action = Action::Abort { upload_id: upload.upload_id.clone() };
                findings.add(Finding::repairable(
                    Severity::Warning,
                    Fault::UploadAbandoned,
                    &upload.key,
                    format!("upload {} {what}", upload.upload_id),
                    action,
                ));
            }
        }
    }
    if let Some(first) = first {
        findings.add(Finding::new(
            Severity::Note,
            Fault::UploadOpen,
            first,
            format!(
                "is the first of {open} files that are being written, or that a daemon left when it ended"
            ),
            Mend::Say("the next start of `tributary run` aborts what was left"),
        ));
    }
    Ok(())
}

/// What can become of an upload.
enum Fate {
    /// A file of an entry that counts.
    Logged,
    /// Somebody may log it.
    Open,
    /// Nothing.
    Abandoned(&'static str),
}

async fn fate(
    store: &dyn Store,
    chain: &Chain,
    entries: &mut LastEntry,
    upload: &Unfinished,
) -> Result<Fate, Error> {
    let Some(number) = layout::data_seq(&upload.key) else { return Ok(Fate::Open) };
    for seq in chain.files.named_by(&upload.key) {
        if entries.uploads_of(store, seq).await?.contains(&upload.upload_id) {
            return Ok(match chain.counts(seq) {
                true => Fate::Logged,
                false => Fate::Abandoned("is of a log entry that counts no more: nobody must complete it"),
            });
        }
    }
    let is_fenced = number <= chain.newest_open && !chain.may_name(number);
    Ok(match is_fenced {
        true => Fate::Abandoned("is named by no log entry, and who began it can log nothing any more"),
        false => Fate::Open,
    })
}

/// The uploads of the entry that was asked for last: most are of one.
#[derive(Default)]
struct LastEntry {
    seq: u64,
    uploads: HashSet<String>,
}

impl LastEntry {
    async fn uploads_of(&mut self, store: &dyn Store, seq: u64) -> Result<&HashSet<String>, Error> {
        if self.seq != seq {
            let entry = chain::again(store, seq).await?;
            let files = entry.into_iter().flat_map(|entry| entry.tables).flat_map(|table| table.files);
            *self = LastEntry { seq, uploads: files.map(|file| file.upload_id).collect() };
        }
        Ok(&self.uploads)
    }
}

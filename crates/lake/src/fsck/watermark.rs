//! The watermark against the log.
//!
//! Owns: whether it stands for a cut that is published, and for the newest such.
//! Does not: decide what is published; the log does.
//! Holds: it may be one cut behind the log, while that is published or since a daemon ended before it was.
//! Fails: as the store does.

use super::chain::{self, Chain};
use super::repair::Action;
use super::{Fault, Finding, Findings, Mend, Severity};
use crate::error::Error;
use crate::layout;
use crate::retry::transient;
use crate::store::Store;
use crate::watermark::Watermark;

/// It, as it was found.
pub(super) enum Found {
    Absent,
    Unreadable(String),
    Says(Watermark),
}

pub(super) async fn read(store: &dyn Store) -> Result<Found, Error> {
    let Some(object) = transient(|| store.get(layout::WATERMARK)).await? else { return Ok(Found::Absent) };
    Ok(match serde_json::from_slice(&object.bytes) {
        Ok(watermark) => Found::Says(watermark),
        Err(error) => Found::Unreadable(error.to_string()),
    })
}

/// The entry that it stands for.
pub(super) fn seq(found: &Found) -> Option<u64> {
    match found {
        Found::Says(watermark) => Some(watermark.seq),
        Found::Absent | Found::Unreadable(_) => None,
    }
}

/// `early` was read before the end of the log, and cannot be ahead of it; `late` behind it, and is no older.
pub(super) async fn report(
    store: &dyn Store,
    chain: &Chain,
    early: &Found,
    late: &Found,
    findings: &mut Findings,
) -> Result<(), Error> {
    let target = &chain.published;
    let found = match early {
        Found::Says(watermark) => Some(watermark.clone()),
        Found::Absent | Found::Unreadable(_) => None,
    };
    let behind = |severity, fault, what: String| match target.clone() {
        Some(target) => {
            let action = Action::Watermark { found: found.clone(), target };
            Finding::repairable(severity, fault, layout::WATERMARK, what, action)
        }
        None => {
            Finding::new(severity, fault, layout::WATERMARK, what, Mend::Say("the next cut writes it anew"))
        }
    };
    let early = match early {
        Found::Says(watermark) => watermark,
        Found::Absent => {
            if target.is_some() && matches!(late, Found::Absent) {
                let what = "is not there, and there are cuts that are published".to_owned();
                findings.add(behind(Severity::Damage, Fault::WatermarkMissing, what));
            }
            return Ok(());
        }
        Found::Unreadable(reason) => {
            let what = format!("cannot be read: {reason}");
            findings.add(behind(Severity::Damage, Fault::WatermarkUnreadable, what));
            return Ok(());
        }
    };
    if early.seq > chain.last {
        let what = format!("stands for log entry {}, and the log ends at {}", early.seq, chain.last);
        let mend = Mend::Say(
            "the end of the log is gone: restore it from a backup or an earlier version of the bucket",
        );
        findings.add(Finding::new(Severity::Damage, Fault::WatermarkAhead, layout::WATERMARK, what, mend));
        return Ok(());
    }
    if let Some(what) = disagreement(store, chain, early).await? {
        findings.add(behind(Severity::Damage, Fault::WatermarkDiffers, what));
        return Ok(());
    }
    if let (Found::Says(late), Some(target)) = (late, target)
        && late.seq < target.seq
    {
        let what = format!("stands for log entry {}, and entry {} is published", late.seq, target.seq);
        findings.add(behind(Severity::Warning, Fault::WatermarkBehind, what));
    }
    Ok(())
}

/// In what it differs from the entry that it names.
async fn disagreement(store: &dyn Store, chain: &Chain, found: &Watermark) -> Result<Option<String>, Error> {
    if !chain.counts(found.seq) {
        return Ok(Some(format!("stands for log entry {}, which counts no more", found.seq)));
    }
    let Some(entry) = chain::again(store, found.seq).await? else { return Ok(None) };
    // The commit time may be that of an entry before.
    let commit_ts = entry.to_commit_ts.clone().or_else(|| found.to_commit_ts.clone());
    let logged = Watermark::of(&entry, commit_ts);
    Ok((logged != *found).then(|| {
        format!(
            "says other things than log entry {}: up to {}, and the log up to {}",
            found.seq, found.to_lsn, logged.to_lsn
        )
    }))
}

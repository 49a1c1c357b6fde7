//! The lake: is it reachable, does it keep its promises, and has it a log?
//!
//! Owns: the checks of the store.
//! Does not: look at Postgres (`source_side`).
//! Holds: leaves no object behind where deleting is allowed.
//! Fails: never; failures go to the report.

use std::sync::Arc;

use lake::log::{self, State};
use lake::store::Store;

use super::Report;
use crate::config::Config;
use crate::error::Kind;
use crate::pipeline;

/// What is known of the log.
pub(super) enum Log {
    /// The lake cannot be read.
    Unknown,
    /// There is none: the first `setup --apply` or `run` begins it.
    None,
    Found {
        state: Box<State>,
        store: Arc<dyn Store>,
    },
}

pub(super) async fn look(report: &mut Report, config: &Config) -> Log {
    let Some(store) = report.take("lake", pipeline::open_store(config).await) else { return Log::Unknown };
    match store::probe(store.as_ref()).await.map_err(lake::Error::from) {
        Ok(probe) => {
            report.ok("lake", format!("{}: creates an object once only, whoever asks", store.url()));
            if !probe.lists_uploads {
                report.warn(
                    "lake uploads",
                    "unfinished uploads cannot be listed, so those that a crash leaves stay",
                    "give the bucket a lifecycle rule that aborts incomplete uploads after 7 days or more; on AWS, allow s3:ListBucketMultipartUploads",
                );
            }
            if !probe.deletes {
                report.warn(
                    "lake deletes",
                    "objects cannot be deleted; the probe left some under _tributary/probe/",
                    "nothing needs it but the probe, old folded states and `tributary repair`: allow s3:DeleteObject on the prefix, or live with it",
                );
            }
        }
        Err(error) => {
            report.error("lake", &error.into());
            return Log::Unknown;
        }
    }
    match log::load(store.as_ref()).await {
        Ok(Some(state)) if state.slot != config.source.slot => {
            report.fail(
                "log",
                Kind::Config,
                format!(
                    "it is written from slot `{}`, and `source.slot` is `{}`",
                    state.slot, config.source.slot
                ),
                "every pipeline needs a `lake.url` prefix of its own",
            );
            Log::Unknown
        }
        Ok(Some(state)) => {
            report.ok("log", format!("{} entries, complete up to {}", state.seq, state.to_lsn));
            Log::Found { state: Box::new(state), store }
        }
        Ok(None) => {
            report.ok("log", "none yet: the first `setup --apply` or `run` begins it");
            Log::None
        }
        Err(error) => {
            report.error("log", &error.into());
            Log::Unknown
        }
    }
}

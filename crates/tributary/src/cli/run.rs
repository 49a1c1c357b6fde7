//! `tributary run`: the daemon.
//!
//! Owns: signals, the HTTP server beside the pipeline, and the end of both.
//! Does not: stream; `pipeline` does.
//! Holds: the first SIGTERM or SIGINT asks the pipeline to finish, the second ends the process at once.
//! Fails: as the pipeline does; `Config` when `http.listen` cannot be listened on.

use std::str::FromStr;
use std::sync::Arc;

use indicatif::MultiProgress;
use pgoutput::Lsn;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::{Answer, progress, text};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::http;
use crate::pipeline::{self, Until};
use crate::status::{Shared, VERSION};
use crate::supervisor::Supervisor;

/// Arguments of `run`.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// Exit 0 once everything up to there is published: `now`, or an LSN
    #[arg(long, value_name = "now|LSN", value_parser = parse_until)]
    pub until: Option<Until>,
}

/// Runs until it is told to stop, `--until` is reached, or a person is needed.
pub(super) async fn run(args: &RunArgs, config: &Config, bars: Option<MultiProgress>) -> Result<Answer> {
    let shared = Shared::new(config);
    let pipeline = serve(args.until.unwrap_or(Until::Forever), config, &shared);
    if let Some(bars) = bars {
        tokio::select! {
            outcome = pipeline => outcome?,
            // It ends only with us.
            () = progress::follow(bars, Arc::clone(&shared)) => {}
        }
    } else {
        pipeline.await?;
    }
    let document = shared.snapshot();
    let published = document.positions.published;
    let line = format!("published up to {published}; {} rows in the lake\n", text::grouped(document.rows));
    // A daemon that was told to stop has said so in its log.
    let text = if args.until.is_some() { line } else { String::new() };
    Ok(Answer::new(text, shared.document()))
}

async fn serve(until: Until, config: &Config, shared: &Arc<Shared>) -> Result<()> {
    let (stop, shutdown) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let supervisor = Supervisor::from_environment();
    if let Some(supervisor) = supervisor.clone() {
        let following = supervisor.follow(Arc::clone(shared), shutdown.clone());
        tasks.spawn(async move {
            following.await;
            Ok(())
        });
    }
    tasks.spawn(obey_signals(stop)?);
    if let Some(listener) = http::bind(&config.http.listen).await? {
        info!(version = VERSION, listen = config.http.listen, "started");
        tasks.spawn(http::serve(listener, Arc::clone(shared)));
    } else {
        info!(version = VERSION, "started, without HTTP");
    }
    let pipeline = Box::pin(pipeline::run(config, Arc::clone(shared), until, shutdown));
    let outcome = tokio::select! {
        outcome = pipeline => outcome,
        // None ends by itself: a task that does must not be missed.
        Some(ended) = tasks.join_next() => {
            ended.map_err(|error| Error::bug("a task of the daemon ended").caused_by(error))?
        }
    };
    if let (Some(supervisor), Err(error)) = (&supervisor, &outcome) {
        supervisor.ended(&format!("{}: {}", error.kind().label().replace('_', " "), error.chain()));
    }
    outcome
}

/// A task that ends only with the process.
fn obey_signals(stop: watch::Sender<bool>) -> Result<impl Future<Output = Result<()>> + Send> {
    let listen =
        |kind| signal(kind).map_err(|error| Error::bug("signals cannot be received").caused_by(error));
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    Ok(async move {
        let mut is_second = false;
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if is_second {
                warn!(
                    signal = name,
                    "told to stop twice, leaving at once; what is not published is streamed again next time"
                );
                std::process::exit(1);
            }
            is_second = true;
            info!(signal = name, "told to stop");
            stop.send_replace(true);
        }
    })
}

fn parse_until(text: &str) -> Result<Until, String> {
    if text == "now" {
        return Ok(Until::Now);
    }
    Lsn::from_str(text).map(Until::Lsn).map_err(|error| error.to_string())
}

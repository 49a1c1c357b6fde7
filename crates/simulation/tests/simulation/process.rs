//! A daemon, and how it ends.
//!
//! Owns: the task that is the process.
//! Does not: look into it.
//! Holds: killed, it is gone between two of its awaits, with everything that it had begun.
//! Fails: as the daemon does; its error is told.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tributary::config::Config;
use tributary::error::Kind;
use tributary::pipeline::{self, Until};
use tributary::status::Shared;

use crate::network::Network;
use crate::random::Random;
use crate::store::{Bucket, Faulty};
use crate::trace::Trace;

/// A process that runs, or did.
pub(crate) struct Process {
    pub(crate) host: String,
    store: Faulty,
    stop: watch::Sender<bool>,
    task: JoinHandle<Ended>,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Stopped,
    Killed,
    Failed { kind: Kind, message: String },
}

/// Dies at one of its awaits.
struct Mortal<F> {
    inner: Option<Pin<Box<F>>>,
    polls_left: Option<u64>,
}

impl<F: Future<Output = Ended>> Future for Mortal<F> {
    type Output = Ended;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Ended> {
        let Mortal { inner, polls_left } = self.get_mut();
        if let Some(left) = polls_left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                *inner = None;
            }
        }
        match inner {
            Some(inner) => inner.as_mut().poll(context),
            None => Poll::Ready(Ended::Killed),
        }
    }
}

impl Process {
    pub(crate) fn start(
        host: &str,
        config: &Config,
        bucket: &Bucket,
        polls: Option<u64>,
        trace: &Trace,
    ) -> Process {
        let store = bucket.of_process(host);
        let (stop, told) = watch::channel(false);
        let (config, shared) = (config.clone(), Shared::new(config));
        let opened = Arc::new(store.clone());
        let run = async move {
            match Box::pin(pipeline::run_on(opened, &config, shared, Until::Forever, told)).await {
                Ok(()) => Ended::Stopped,
                Err(error) => Ended::Failed { kind: error.kind(), message: error.chain() },
            }
        };
        trace.say(format!(
            "{host}: started{}",
            polls.map_or(String::new(), |polls| format!(", and dies at await {polls}"))
        ));
        let task = tokio::spawn(Mortal { inner: Some(Box::pin(run)), polls_left: polls });
        Process { host: host.to_owned(), store, stop, task }
    }

    /// SIGKILL.
    pub(crate) fn kill(self) {
        self.task.abort();
    }

    /// SIGTERM.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// SIGSTOP, and SIGCONT after a while. What it had sent arrives.
    pub(crate) fn freeze(&self, network: &Network, length: Duration) {
        let until = Instant::now() + length;
        self.store.freeze(until);
        network.freeze(&self.host, until);
    }

    /// It froze by itself: the server forgets it as well. Told once.
    pub(crate) fn has_lapsed(&self, network: &Network) -> bool {
        let lapse = self.store.take_lapse();
        if let Some(until) = lapse {
            network.freeze(&self.host, until);
        }
        lapse.is_some()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    pub(crate) async fn ended(self) -> Result<Ended, String> {
        self.task.await.map_err(|error| format!("{} panicked: {error}", self.host))
    }
}

/// The configuration of a daemon on a host.
pub(crate) fn configuration(host: &str, random: &mut Random) -> Config {
    let interval = random.pick(&["1s", "3s", "10s"]);
    let format = random.pick(&["auto", "text", "text", "text"]);
    let streaming = random.pick(&["off", "on"]);
    let file_size = random.pick(&["1MiB", "128MiB"]);
    let text = format!(
        r#"
        [source]
        url = "postgresql://cdc@{host}:5432/shop?sslmode=disable"
        format = "{format}"
        streaming = "{streaming}"
        [lake]
        url = "file:///nowhere"
        [snapshot]
        mode = "never"
        [cut]
        interval = "{interval}"
        file_size = "{file_size}"
        "#
    );
    Config::parse("simulation.toml", &text).expect("a configuration")
}

//! What happened, in order.
//!
//! Owns: the lines, and the time of each.
//! Does not: judge them.
//! Holds: the same seed writes the same lines.
//! Fails: never.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

/// A trace that everybody writes to.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    lines: Arc<Mutex<Vec<String>>>,
    begun: Instant,
}

impl Trace {
    pub(crate) fn new() -> Trace {
        Trace { lines: Arc::default(), begun: Instant::now() }
    }

    pub(crate) fn say(&self, line: impl AsRef<str>) {
        let mut text = String::new();
        let seconds = self.begun.elapsed().as_secs_f64();
        write!(text, "{seconds:9.3} {}", line.as_ref()).expect("a string takes everything");
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The daemon's own words are part of the trace.
impl Trace {
    pub(crate) fn listen(&self) -> tracing::subscriber::DefaultGuard {
        let trace = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::INFO)
            .with_ansi(false)
            .with_target(false)
            .without_time()
            .with_writer(move || Line(trace.clone()))
            .finish();
        tracing::subscriber::set_default(subscriber)
    }
}

/// Writes a line of the daemon.
struct Line(Trace);

impl std::io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.say(format!("    {}", String::from_utf8_lossy(bytes).trim_end()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

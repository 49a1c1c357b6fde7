//! Where log lines go, and how they look.
//!
//! Owns: the subscriber: text with colours on a terminal, JSON lines otherwise; always to stderr, so that stdout is the
//! command's answer alone.
//! Does not: decide what is logged; every module does. Draw bars; it writes above those that are there.
//! Holds: installed once, before anything else runs. A line is never torn by a bar.
//! Fails: `Config` for a filter that is none.

use std::io::{self, IsTerminal, Stderr, Write};

use indicatif::MultiProgress;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::error::{Error, Result};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Begins logging; says whether lines are JSON. The filter is `RUST_LOG`'s: `info`, `tributary=debug,lake=trace`.
///
/// Lines of text stay above what is drawn on `bars`.
pub fn install(filter: &str, format: LogFormat, bars: &MultiProgress) -> Result<bool> {
    let is_terminal = io::stderr().is_terminal();
    let registry = tracing_subscriber::registry().with(parse(filter)?);
    let json = match format {
        LogFormat::Auto => !is_terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let installed = if json {
        let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_current_span(true);
        registry.with(lines.with_span_list(false).with_writer(io::stderr)).try_init()
    } else {
        let lines = tracing_subscriber::fmt::layer().with_ansi(is_terminal && !has_no_color());
        registry.with(lines.with_writer(Above { bars: bars.clone(), out: io::stderr() })).try_init()
    };
    installed.map_err(|error| Error::bug("logging was begun twice").caused_by(error))?;
    Ok(json)
}

/// Writes above bars: they are taken away meanwhile.
struct Above {
    bars: MultiProgress,
    out: Stderr,
}

impl<'a> MakeWriter<'a> for Above {
    type Writer = &'a Above;

    fn make_writer(&'a self) -> &'a Above {
        self
    }
}

impl Write for &Above {
    /// A line of the log comes at once, and is written at once.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.bars.suspend(|| (&self.out).write_all(line)).map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        (&self.out).flush()
    }
}

fn parse(filter: &str) -> Result<EnvFilter> {
    EnvFilter::try_new(filter).map_err(|error| {
        Error::config(format!("`{filter}` is not a log filter"))
            .caused_by(error)
            .hint("--log info, --log debug, or --log tributary=debug,lake=trace")
    })
}

/// <https://no-color.org>
fn has_no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_filter_is_refused() {
        assert!(parse("tributary=debug,lake=trace").is_ok());
        let error = parse("tributary=loud").expect_err("no such level");
        assert_eq!(error.to_string(), "`tributary=loud` is not a log filter");
    }
}

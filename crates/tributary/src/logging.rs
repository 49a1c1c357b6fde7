//! Where log lines go, and how they look.
//!
//! Owns: the subscriber: text with colours on a terminal, JSON lines otherwise; always to stderr, so that stdout is the
//! command's answer alone.
//! Does not: decide what is logged; every module does.
//! Holds: installed once, before anything else runs.
//! Fails: `Config` for a filter that is none.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
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
pub fn install(filter: &str, format: LogFormat) -> Result<bool> {
    let is_terminal = std::io::stderr().is_terminal();
    let registry = tracing_subscriber::registry().with(parse(filter)?);
    let json = match format {
        LogFormat::Auto => !is_terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let installed = if json {
        let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_current_span(true);
        registry.with(lines.with_span_list(false).with_writer(std::io::stderr)).try_init()
    } else {
        let lines = tracing_subscriber::fmt::layer().with_ansi(is_terminal && !has_no_color());
        registry.with(lines.with_writer(std::io::stderr)).try_init()
    };
    installed.map_err(|error| Error::bug("logging was begun twice").caused_by(error))?;
    Ok(json)
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

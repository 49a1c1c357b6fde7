//! The command line: what can be asked for, and how the answer is given.
//!
//! Owns: the arguments, the runtime, the panic hook, the exit code, and how answers and errors print.
//! Does not: hold any logic of a command; each has a module.
//! Holds: stdout is the answer alone, log lines go to stderr; with `--json` stdout is one JSON document, errors included.
//! Fails: never; every error becomes text and an exit code: 0 done, 1 failed for good, 2 configuration, 3 fenced,
//! 4 source halted, 70 bug.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use indicatif::MultiProgress;
use serde_json::{Value, json};

use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::logging::{self, LogFormat};
use crate::source;

pub mod adopt;
pub mod check;
pub mod completions;
pub mod demo;
pub mod fsck;
pub mod inspect;
pub mod man;
pub mod repair;
pub mod resync;
pub mod run;
pub mod setup;
pub mod sql;
pub mod status;
pub mod teardown;
pub mod verify;

mod progress;
pub(crate) mod text;

/// Streams a Postgres database into a Parquet lake, exactly once.
#[derive(Debug, Parser)]
#[command(name = "tributary", version, about, max_term_width = 100)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// The configuration; else ./tributary.toml, then /etc/tributary/tributary.toml, then the environment alone
    #[arg(short, long, global = true, value_name = "PATH", env = "TRIBUTARY_CONFIG")]
    pub config: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// What is logged: `info`, `debug`, or by module as RUST_LOG has it
    #[arg(long, global = true, value_name = "FILTER", env = "RUST_LOG")]
    pub log: Option<String>,
    /// How log lines look
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub log_format: LogFormat,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Stream changes into the lake until told to stop
    Run(run::RunArgs),
    /// Look at everything that the daemon needs, and say what mends each failure
    Check(check::CheckArgs),
    /// Print the SQL that Postgres needs; with --apply, create what is missing
    Setup(setup::SetupArgs),
    /// Say how far the daemon, or without one the lake, has got
    Status(status::StatusArgs),
    /// Look into the lake's log
    Inspect(inspect::InspectArgs),
    /// Check the lake against its log, without Postgres and beside a running daemon
    Fsck(fsck::FsckArgs),
    /// Prove that the lake equals its source, at one point and beside a running daemon
    Verify(verify::VerifyArgs),
    /// Take back a last cut whose files can be published no more
    Repair,
    /// Read tables again, beside the stream: the rows of before count no more once that is done
    Resync(resync::ResyncArgs),
    /// Make a table of the lake a partition of another one: the catalogs did not know it any more when its rows came
    Adopt(adopt::AdoptArgs),
    /// Print the SQL with which a query engine reads the lake: a table over the files, and a view of the current state
    Sql(sql::SqlArgs),
    /// Drop the replication slot
    Teardown(teardown::TeardownArgs),
    /// See it work, on a throw-away Postgres
    Demo(demo::DemoArgs),
    /// Print what lets a shell complete commands and options
    Completions(completions::CompletionsArgs),
    /// Print the manual page
    Man(man::ManArgs),
}

/// What a command says at its end.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// For people; may be empty.
    pub(crate) text: String,
    /// For machines; null for none.
    pub(crate) document: Value,
    /// The exit code.
    pub(crate) code: u8,
}

impl Answer {
    /// A success.
    pub(crate) fn new(text: impl Into<String>, document: Value) -> Answer {
        Answer { text: text.into(), document, code: 0 }
    }
}

/// The program.
pub fn main() -> ExitCode {
    install_panic_hook();
    let cli = Cli::parse();
    let json = cli.global.json;
    ExitCode::from(match run_to_end(cli) {
        Ok(answer) => {
            if json && !answer.document.is_null() {
                print(&format!("{:#}\n", answer.document));
            } else if !json {
                print(&answer.text);
            }
            answer.code
        }
        Err(failure) => {
            report(&failure, json);
            failure.error.kind().exit_code()
        }
    })
}

/// An error, and how it is to be said.
struct Failure {
    error: Error,
    /// Whoever reads the log of a daemon reads JSON lines, and nothing in between.
    as_log_line: bool,
}

fn run_to_end(cli: Cli) -> Result<Answer, Failure> {
    let is_daemon = matches!(cli.command, Command::Run(_));
    let default_filter = if is_daemon { DAEMON_FILTER } else { COMMAND_FILTER };
    let filter = cli.global.log.as_deref().unwrap_or(default_filter);
    let bars = progress::target();
    let logs_json = logging::install(filter, cli.global.log_format, &bars)
        .map_err(|error| Failure { error, as_log_line: false })?;
    source::install_crypto();
    // Lines of JSON are for machines, whoever looks at them.
    let bars = Some(bars).filter(|_| !logs_json);
    run_on_runtime(cli, bars).map_err(|error| Failure { error, as_log_line: is_daemon && logs_json })
}

fn run_on_runtime(cli: Cli, bars: Option<MultiProgress>) -> Result<Answer> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::bug("the runtime cannot be started").caused_by(error))?;
    let outcome = runtime.block_on(dispatch(cli, bars));
    // A blocking task that is stuck in the kernel must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// Boxed, each: these are the largest futures of the program.
async fn dispatch(cli: Cli, bars: Option<MultiProgress>) -> Result<Answer> {
    let Cli { global, command } = cli;
    let load = || {
        let config = Config::load(global.config.as_deref())?;
        for warning in config.warnings() {
            tracing::warn!("{warning}");
        }
        Ok::<Config, Error>(config)
    };
    match command {
        Command::Run(args) => Box::pin(run::run(&args, &load()?, bars)).await,
        Command::Check(args) => Box::pin(check::run(&args, &load()?)).await,
        Command::Setup(args) => Box::pin(setup::run(&args, &load()?)).await,
        Command::Status(args) => Box::pin(status::run(&args, &load()?, global.json)).await,
        Command::Inspect(args) => Box::pin(inspect::run(&args, &load()?)).await,
        Command::Fsck(args) => Box::pin(fsck::run(&args, &load()?)).await,
        Command::Verify(args) => Box::pin(verify::run(&args, &load()?, bars)).await,
        Command::Repair => Box::pin(repair::run(&load()?)).await,
        Command::Resync(args) => Box::pin(resync::run(&args, &load()?)).await,
        Command::Adopt(args) => Box::pin(adopt::run(&args, &load()?)).await,
        Command::Sql(args) => Box::pin(sql::run(&args, &load()?)).await,
        Command::Teardown(args) => Box::pin(teardown::run(&args, &load()?, global.json)).await,
        Command::Demo(args) => Box::pin(demo::run(&args)).await.map(|()| Answer::default()),
        Command::Completions(args) => Ok(completions::run(&args)),
        Command::Man(args) => man::run(&args),
    }
}

/// Says an error as people or machines read it.
fn report(failure: &Failure, json: bool) {
    let error = &failure.error;
    if failure.as_log_line {
        let (kind, hint) = (error.kind().label(), error.hint_text());
        tracing::error!(kind, hint, exit_code = error.kind().exit_code(), error = error.chain(), "ended");
    }
    if json {
        print(&format!("{:#}\n", error_document(error)));
    } else if !failure.as_log_line {
        let text = error_text(error, std::io::stderr().is_terminal());
        // A reader that is gone is no reason to fail differently.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

/// `error:`, then a line for each cause, then `hint`.
fn error_text(error: &Error, color: bool) -> String {
    let (red, bold, plain) = if color { ("\x1b[1;31m", "\x1b[1m", "\x1b[0m") } else { ("", "", "") };
    let mut text = format!("{red}error{plain}: {error}\n");
    for cause in causes(error) {
        text.push_str(&format!("  {bold}where{plain}  {cause}\n"));
    }
    if let Some(hint) = error.hint_text() {
        let hint = hint.replace('\n', "\n         ");
        text.push_str(&format!("  {bold}hint{plain}   {hint}\n"));
    }
    text
}

fn error_document(error: &Error) -> Value {
    json!({"error": {
        "kind": error.kind().label(),
        "message": error.to_string(),
        "causes": causes(error),
        "hint": error.hint_text(),
        "exit_code": error.kind().exit_code(),
    }})
}

fn causes(error: &Error) -> Vec<String> {
    let first = std::error::Error::source(error);
    std::iter::successors(first, |cause| cause.source()).map(ToString::to_string).collect()
}

/// Writes to stdout. A reader that closed it (`| head`) is no error.
pub(crate) fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes());
    let _ = stdout.flush();
}

/// A panic is a bug of ours: a task that is gone would leave a daemon that does half its work, so the process ends.
fn install_panic_hook() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        default(panic);
        let place = panic
            .location()
            .map_or_else(String::new, |place| format!(" at {}:{}", place.file(), place.line()));
        let _ = writeln!(
            std::io::stderr(),
            "error: tributary has a bug{place}\n  hint   nothing is lost: start it again; please report the lines above"
        );
        std::process::exit(i32::from(Kind::Bug.exit_code()));
    }));
}

const DAEMON_FILTER: &str = "info,aws_config=warn,aws_runtime=warn,aws_smithy_runtime=warn,hyper=warn";
const COMMAND_FILTER: &str = "warn";

#[cfg(test)]
mod tests;

//! `tributary completions`: what lets a shell complete commands and options.
//!
//! Owns: nothing; it is made of the arguments themselves.
//! Does not: install it.
//! Holds: every command and option is in it.
//! Fails: never.

use clap::CommandFactory as _;
use clap_complete::Shell;
use serde_json::json;

use super::{Answer, Cli};

/// Arguments of `completions`.
#[derive(Clone, Debug, clap::Args)]
pub struct CompletionsArgs {
    /// The shell; for bash: tributary completions bash > /etc/bash_completion.d/tributary
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs) -> Answer {
    let script = script(args.shell);
    Answer::new(script.as_str(), json!({"shell": args.shell.to_string(), "script": script}))
}

fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tributary", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests;

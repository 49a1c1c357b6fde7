//! `tributary man`: the manual pages.
//!
//! Owns: the parts of the main page that no argument tells: exit codes, environment, files.
//! Does not: install them.
//! Holds: every command has a page, those below another one too, and no page names one that there is not.
//! Fails: `Definite` when a page cannot be written.

use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap_mangen::{Man, roff::Roff};
use serde_json::json;

use super::{Answer, Cli};
use crate::error::{Error, Result};
use crate::status::VERSION;

/// Arguments of `man`.
#[derive(Clone, Debug, clap::Args)]
pub struct ManArgs {
    /// Write the pages of all commands into this folder, instead of printing the main one
    #[arg(value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
}

pub(super) fn run(args: &ManArgs) -> Result<Answer> {
    let command = command();
    let main = main_page(&command)?;
    let Some(folder) = &args.folder else {
        return Ok(Answer::new(main.as_str(), json!({"page": main})));
    };
    let mut names = vec![write(folder, command.get_name(), &main)?];
    write_below(folder, &command, &mut names)?;
    let text = names.iter().map(|name| format!("{name}\n")).collect::<String>();
    Ok(Answer::new(text, json!({"pages": names})))
}

/// Every page lists what is below it, and `help` has no page of its own.
fn command() -> clap::Command {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    command
}

/// The pages of all commands below one, each under the name that its parent's page gives it.
fn write_below(folder: &Path, command: &clap::Command, names: &mut Vec<String>) -> Result<()> {
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        let name = subcommand.get_display_name().unwrap_or_else(|| subcommand.get_name());
        names.push(write(folder, name, &page(subcommand)?)?);
        write_below(folder, subcommand, names)?;
    }
    Ok(())
}

fn main_page(command: &clap::Command) -> Result<String> {
    let mut page = page(command)?;
    let mut more = Roff::default();
    for (heading, lines) in MORE {
        more.control("SH", [*heading]);
        for (name, what) in *lines {
            more.control("TP", []);
            more.text([clap_mangen::roff::bold(*name)]);
            more.text([clap_mangen::roff::roman(*what)]);
        }
    }
    page.push_str(&more.to_roff());
    Ok(page)
}

fn page(command: &clap::Command) -> Result<String> {
    let man = Man::new(command.clone()).source(format!("tributary {VERSION}"));
    let mut page = Vec::new();
    man.render(&mut page).map_err(|error| Error::bug("a manual page").caused_by(error))?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

fn write(folder: &Path, name: &str, page: &str) -> Result<String> {
    let path = folder.join(format!("{name}.1"));
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&path, page))
        .map_err(|error| Error::definite(format!("{} cannot be written", path.display())).caused_by(error))?;
    Ok(path.display().to_string())
}

/// What the arguments do not tell.
const MORE: &[(&str, &[(&str, &str)])] = &[
    (
        "EXIT STATUS",
        &[
            ("0", "done"),
            ("1", "failed for good, or the limit of retries was reached"),
            ("2", "the configuration or the command line is wrong"),
            ("3", "another daemon owns the lake now"),
            ("4", "a doubt about the source: slot, gap, timeline"),
            ("70", "a bug"),
        ],
    ),
    (
        "ENVIRONMENT",
        &[
            ("TRIBUTARY_SECTION__KEY", "any key of the configuration: TRIBUTARY_LAKE__URL is lake.url"),
            ("TRIBUTARY_CONFIG", "the file of the configuration, as --config"),
            ("PGPASSWORD", "the password of the source, if no file has it"),
            ("AWS_...", "credentials and region, as the AWS SDK finds them"),
            ("RUST_LOG", "what is logged, as --log"),
        ],
    ),
    (
        "FILES",
        &[
            ("./tributary.toml, /etc/tributary/tributary.toml", "the configuration, where none is named"),
            ("/var/tmp", "open transactions with source.streaming, unless configured otherwise"),
        ],
    ),
];

#[cfg(test)]
mod tests;

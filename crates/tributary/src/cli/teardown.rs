//! `tributary teardown`: drops the slot, so that Postgres keeps nothing for us any more.
//!
//! Owns: asking before, and saying what stays.
//! Does not: touch the publication, the role or the lake.
//! Holds: a slot that a session uses is not dropped.
//! Fails: `Config` when nobody confirmed.

use std::io::{BufRead, IsTerminal, Write};

use serde_json::json;

use super::{Answer, setup};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::pipeline::offline;
use crate::source::sql::quote_identifier;
use crate::source::{connect_sql, slot};

/// Arguments of `teardown`.
#[derive(Clone, Debug, clap::Args)]
pub struct TeardownArgs {
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

pub(super) async fn run(args: &TeardownArgs, config: &Config, json: bool) -> Result<Answer> {
    let name = &config.source.slot;
    let options = config.source_options()?;
    let sql = connect_sql(&options).await?;
    let exists = slot::slot(&sql, name).await?.is_some();
    // Before anything is dropped: whoever asks and fails behind it would seem to have done nothing.
    let tells_ddl = setup::ddl_events(&sql).await? != setup::DdlEvents::None;
    if exists {
        offline::refuse_while_active(&sql, name).await?;
        if !args.yes && !confirm(name, &options.address(), json)? {
            return Ok(Answer::new("nothing was done\n", json!({"dropped": false})));
        }
        slot::drop_slot(&sql, name).await?;
    }
    let publications: Vec<String> =
        config.source.publication.iter().map(|name| quote_identifier(name)).collect();
    let drop_publication = format!("DROP PUBLICATION {};", publications.join(", "));
    let events = match tells_ddl {
        true => format!("  event triggers  (to remove: {})\n", setup::drop_ddl_events()),
        false => String::new(),
    };
    let done = if exists { "dropped" } else { "does not exist: nothing to drop" };
    let text = format!(
        "slot `{name}` {done}\n\nwhat stays:\n  \
         the lake      {}  (it can be read for ever; without the slot it gets no more rows)\n  \
         publication   {}  (to remove: {drop_publication})\n  \
         role          {}\n{events}",
        config.lake.url,
        config.source.publication.join(", "),
        options.user
    );
    let document = json!({
        "dropped": exists, "slot": name,
        "stays": {"lake": config.lake.url, "publication": config.source.publication, "role": options.user, "ddl_events": tells_ddl},
    });
    Ok(Answer::new(text, document))
}

/// Asks on the terminal; without one the answer has to be on the command line.
fn confirm(name: &str, address: &str, json: bool) -> Result<bool> {
    if json || !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Error::config("dropping a slot is for good, and nobody can be asked here")
            .hint("tributary teardown --yes"));
    }
    let mut stderr = std::io::stderr().lock();
    let _ =
        write!(stderr, "Drop slot `{name}` at {address}? The lake cannot be continued after that. [y/N] ");
    let _ = stderr.flush();
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Error::definite("the answer cannot be read").caused_by(error))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

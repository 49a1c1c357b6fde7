//! The first steps of a lake: publication, slot, first log entry, in that order.
//!
//! Owns: the identity document `_tributary/lake.json`, creating or adopting the slot, and log entry 1.
//! Does not: create publications or roles (`cli::setup` does), or stream.
//! Holds: a slot is created only for a lake without a log. The intent is stored before the slot is made, so that a crash in
//! between is told from a slot of somebody else (T51, design: "this pipeline just created it").
//! Fails: `SourceHalted` when a slot exists that this lake did not make.

use std::time::Duration;

use bytes::Bytes;
use lake::kill_points::{kill_point, within};
use lake::layout;
use lake::log::{self, Entry, Event, FORMAT, State};
use lake::retry::transient;
use lake::store::{Created, Store};
use pgoutput::Lsn;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::{startup, whole};
use crate::clock;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::source::{ConnectOptions, Session, Sql, catalog, connect_sql, partitions, slot, standby};

/// `_tributary/lake.json`: who writes here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The version of this form.
    pub format: u32,
    /// Random; tells this lake from any other that ever had its prefix.
    pub pipeline: String,
    /// The source's system identifier.
    pub system_id: String,
    /// The database.
    pub database: String,
    /// The replication slot.
    pub slot: String,
    /// When it was made, RFC 3339.
    pub created_at: String,
}

/// What was done; each is said to the user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// The slot was created, with its consistent point.
    pub slot_created: Option<Lsn>,
    /// An existing slot was taken over at its position.
    pub slot_adopted: Option<Lsn>,
    /// Log entry 1 was written.
    pub log_created: bool,
}

/// Makes what is missing of slot and log. Repeated, it changes nothing.
///
/// `adopt` allows to take over a slot that this lake did not make; the lake then begins at the slot's position.
pub async fn create(
    store: &dyn Store,
    config: &Config,
    options: &ConnectOptions,
    sql: &Sql,
    adopt: bool,
) -> Result<Done> {
    if log::load(store).await?.is_some() {
        return Ok(Done::default());
    }
    let mut session = Session::connect(options).await?;
    let system = session.identify_system().await?;
    let name = &config.source.slot;
    let found = slot::slot(sql, name).await?;
    let mut done = Done::default();
    let mut is_adopted = false;
    let start = match found {
        Some(found) => {
            startup::refuse_foreign(name, &found, &options.database)?;
            let identity = read_identity(store).await?;
            let is_ours =
                identity.is_some_and(|identity| identity.slot == *name && identity.system_id == system.id);
            if !is_ours && !adopt {
                return Err(Error::halted(format!("slot `{name}` exists, and the lake at {} has no log: its changes may belong to somebody else", store.url()))
                    .hint(format!("to begin the lake at the slot's position, run `tributary setup --apply --adopt-slot`; to begin anew, drop it: select pg_drop_replication_slot('{name}')")));
            }
            let position = found.confirmed_flush.ok_or_else(|| {
                Error::transient(format!(
                    "slot `{name}` is still being created: it waits for older transactions to end"
                ))
            })?;
            is_adopted = !is_ours;
            done.slot_adopted = Some(position);
            position
        }
        None => {
            refuse_missing_publications(sql, config).await?;
            kill_point("publication-checked");
            write_identity(store, config, options, &system.id).await?;
            kill_point("identity-written");
            let created = within("slot-creating", create_slot(&mut session, sql, config)).await?;
            kill_point("slot-created");
            info!(slot = name, consistent_point = %created, "created the slot");
            done.slot_created = Some(created);
            created
        }
    };
    if read_identity(store).await?.is_none() {
        write_identity(store, config, options, &system.id).await?;
    }
    let mut events = vec![publication_event(sql, &config.source.publication).await?];
    // What was attached since is read by itself.
    let mut found = partitions::attached_before(sql, name).await?;
    let folding = config.partitions.folding(None)?;
    found.extend(partitions::folded(sql, &config.source.publication, &folding, Some(name)).await?);
    let attached = found.iter().map(|found| (found.partition.0, found.by)).collect();
    events.push(Event::Partitions { attached, gone: Vec::new() });
    events.extend(whole::ends(sql, config, start, is_adopted).await);
    done.log_created = write_first_entry(store, config, &system.id, system.timeline, start, events).await?;
    Ok(done)
}

/// The publications as they are now, for the log.
pub async fn publication_event(sql: &Sql, names: &[String]) -> Result<Event> {
    let found = catalog::publication(sql, names).await?;
    let definition =
        found.iter().map(|publication| publication.definition_hash.as_str()).collect::<Vec<_>>().join("+");
    let members = catalog::publication_members(sql, names).await?;
    Ok(Event::Publication { names: names.to_vec(), definition, members })
}

/// Halts when a publication is not there: a slot made before it could never be read (T51), and Postgres 18 only warns (T52).
pub async fn refuse_missing_publications(sql: &Sql, config: &Config) -> Result<()> {
    let found = catalog::publication(sql, &config.source.publication).await?;
    for name in &config.source.publication {
        if !found.iter().any(|publication| publication.name == *name) {
            return Err(Error::halted(format!("publication `{name}` does not exist in this database"))
                .hint("run `tributary setup` for the SQL that creates it, or `tributary setup --apply`"));
        }
    }
    Ok(())
}

async fn create_slot(session: &mut Session, sql: &Sql, config: &Config) -> Result<Lsn> {
    let name = &config.source.slot;
    let server = catalog::server(sql).await?;
    if let Some(error) = standby::unfit(&server) {
        return Err(error);
    }
    if server.in_recovery {
        return create_slot_on_standby(session, config).await;
    }
    let created = if config.source.failover && server.version >= FIRST_WITH_FAILOVER {
        session.create_failover_slot(name, SLOT_TIMEOUT).await
    } else {
        session.create_slot(name, SLOT_TIMEOUT).await
    };
    match created {
        Ok(created) => Ok(created.consistent_point),
        Err(error) => Err(naming_the_oldest(sql, error).await),
    }
}

/// T82: a slot on a standby waits until its primary has logged which transactions run.
async fn create_slot_on_standby(session: &mut Session, config: &Config) -> Result<Lsn> {
    let name = &config.source.slot;
    let primary = match config.primary_options()? {
        Some(primary) => Some(connect_sql(&primary).await?),
        None => None,
    };
    let Some(primary) = primary else {
        warn!(slot = name, hint = LOG_STANDBY_SNAPSHOT, "{WAITS_FOR_PRIMARY}");
        let created = session.create_slot(name, SLOT_TIMEOUT).await;
        return created.map(|created| created.consistent_point).map_err(|error| {
            Error::new(error.kind(), WAITS_FOR_PRIMARY).caused_by(error).hint(LOG_STANDBY_SNAPSHOT)
        });
    };
    info!(
        slot = name,
        "creating a slot on a standby, and asking its primary for the record that it waits for"
    );
    let created = tokio::select! {
        created = session.create_slot(name, SLOT_TIMEOUT) => created,
        never = standby::log_running_transactions(&primary) => never,
    };
    match created {
        Ok(created) => Ok(created.consistent_point),
        Err(error) => Err(naming_the_oldest(&primary, error).await),
    }
}

/// T70: creation waits for every older transaction; says which. `sql` is with the server that transactions write to.
async fn naming_the_oldest(sql: &Sql, error: Error) -> Error {
    match catalog::oldest_transaction(sql).await {
        Ok(Some(oldest)) => {
            error.hint(format!("creating a slot waits for older transactions to end; the oldest: {oldest:?}"))
        }
        Ok(None) | Err(_) => error,
    }
}

async fn write_first_entry(
    store: &dyn Store,
    config: &Config,
    system_id: &str,
    timeline: u32,
    start: Lsn,
    events: Vec<Event>,
) -> Result<bool> {
    let entry = Entry {
        written_at: Some(lake::time::rfc3339(clock::unix_micros())),
        events,
        ..Entry::first(super::owner(), system_id, timeline, &config.source.slot, start)?
    };
    match log::append(store, &entry).await {
        Ok(()) => {
            kill_point("log-begun");
            Ok(true)
        }
        // Another start of this pipeline was quicker; its entry is as good as ours.
        Err(lake::Error::Fenced { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The identity document, if there is one.
pub async fn read_identity(store: &dyn Store) -> Result<Option<Identity>> {
    let Some(object) = transient(|| store.get(layout::LAKE)).await.map_err(lake::Error::from)? else {
        return Ok(None);
    };
    serde_json::from_slice(&object.bytes).map(Some).map_err(|error| {
        Error::definite(format!("`{}` is not an identity document of a lake", layout::LAKE))
            .caused_by(error)
            .hint("is the prefix of `lake.url` used by something else?")
    })
}

async fn write_identity(
    store: &dyn Store,
    config: &Config,
    options: &ConnectOptions,
    system_id: &str,
) -> Result<()> {
    let identity = Identity {
        format: FORMAT,
        pipeline: log::nonce()?,
        system_id: system_id.to_owned(),
        database: options.database.clone(),
        slot: config.source.slot.clone(),
        created_at: lake::time::rfc3339(clock::unix_micros()),
    };
    let bytes = Bytes::from(log::to_json(&identity)?);
    let created =
        transient(|| store.put_if_absent(layout::LAKE, bytes.clone())).await.map_err(lake::Error::from)?;
    if created == Created::New {
        return Ok(());
    }
    match read_identity(store).await? {
        Some(found) if found.slot == identity.slot && found.system_id == identity.system_id => Ok(()),
        Some(found) => Err(Error::halted(format!(
            "the lake at {} belongs to slot `{}` of the cluster {}, and has no log",
            store.url(),
            found.slot,
            found.system_id
        ))
        .hint("every pipeline needs a `lake.url` prefix of its own")),
        None => Err(Error::transient(format!("`{}` was there and is gone", layout::LAKE))),
    }
}

/// The state of a lake that must have a log.
pub async fn require_log(store: &dyn Store) -> Result<State> {
    let without = || Error::definite(format!("the lake at {} has no log", store.url()));
    log::load(store).await?.ok_or_else(without)
}

/// How long creating a slot may wait for older transactions before it is told to the user.
const SLOT_TIMEOUT: Duration = Duration::from_secs(60);
/// The first version whose standbys keep copies of slots.
pub(crate) const FIRST_WITH_FAILOVER: u32 = 170_000;
const WAITS_FOR_PRIMARY: &str =
    "a slot on a standby is created once its primary has logged which transactions run";
const LOG_STANDBY_SNAPSHOT: &str = "SELECT pg_log_standby_snapshot();  -- on the primary, while this waits; with `source.primary_url` it is asked by itself";

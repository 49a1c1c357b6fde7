//! Postgres: its version and settings, our role, the publication, every table's replica identity, and the slot.
//!
//! Owns: the checks of the source, and which values are worth a warning.
//! Does not: decide whether slot and log fit; `pipeline::startup` does, here as at the real start.
//! Holds: reads only; works for an ordinary REPLICATION role.
//! Fails: never; failures go to the report.

use std::collections::BTreeMap;
use std::time::Duration;

use lake::log;
use lake::store::Store;
use pgoutput::Lsn;
use tables::lineage::{Facts, Link, RootFacts};

use super::lake_side::Log;
use super::{CheckArgs, Report, old_rows, omissions, rows, standbys};
use crate::cli::{setup, text};
use crate::config::{Config, OnWalBudget, SnapshotMode};
use crate::error::{Error, Kind, Result};
use crate::pipeline::mapping::{self, Mapped};
use crate::pipeline::publication::Difference;
use crate::pipeline::{bootstrap, publication, startup};
use crate::snapshot::replica::Replica;
use crate::source::catalog::{self, OpenTransaction, ServerFacts};
use crate::source::held::{self, By};
use crate::source::slot::{self, Slot};
use crate::source::{ConnectOptions, Session, Sql, connect_sql};

pub(super) async fn look(report: &mut Report, args: &CheckArgs, config: &Config, log: Log) {
    let Some(options) = report.take("source", config.source_options()) else { return };
    let Some(sql) = report.take("source", connect_sql(&options).await) else { return };
    report.ok("source", format!("signed in at {} as {}", options.address(), options.user));
    let Some(server) = report.take("settings", catalog::server(&sql).await) else { return };
    let slot = report.take("slot", slot::slot(&sql, &config.source.slot).await).flatten();
    version(report, server.version);
    settings(report, &server, slot.is_some());
    role(report, &server, &options);
    senders(report, &sql, &server).await;
    synchronous(report, &sql, &options.application_name).await;
    let has_publication = publications(report, &sql, config, &log).await;
    if has_publication {
        let has_begun = matches!(&log, Log::Found { state, .. } if !state.snapshots.is_empty());
        let reads_rows = config.snapshot.mode == SnapshotMode::Initial && !has_begun;
        let known = match &log {
            Log::Found { state, .. } => Some(&**state),
            Log::Unknown | Log::None => None,
        };
        tables(report, &sql, config, reads_rows, known).await;
        partitions(report, &sql, config).await;
    }
    replica(report, &sql, config, &options, &server).await;
    slot_and_log(report, &sql, config, &options, &server, slot.as_ref(), log).await;
    if slot.is_none() {
        transactions(report, &sql).await;
    }
    if server.in_recovery {
        standbys::source(report, &sql, config, &options, &server).await;
    }
    budget(report, config, &server);
    kept(report, &sql, config, slot.as_ref()).await;
    let named = report.take("failover", named_standbys(args, config, &options)).unwrap_or_default();
    standbys::failover(report, &sql, config, &server, slot.as_ref(), &named).await;
}

/// Those that may be promoted: of the command line, and those that are read from.
fn named_standbys(args: &CheckArgs, config: &Config, source: &ConnectOptions) -> Result<Vec<ConnectOptions>> {
    let mut named = vec![config.catalog_options()?, config.snapshot_options()?];
    for url in &args.standby {
        named.push(ConnectOptions::parse(url, config.source.password_file.as_deref())?);
    }
    let mut standbys: Vec<ConnectOptions> = Vec::new();
    for options in named {
        if options != *source && !standbys.contains(&options) {
            standbys.push(options);
        }
    }
    Ok(standbys)
}

/// The bound that we set ourselves, against that of the server.
fn budget(report: &mut Report, config: &Config, server: &ServerFacts) {
    let Some(budget) = config.source.wal_budget() else { return };
    let what = match config.source.on_wal_budget {
        OnWalBudget::Halt => "the daemon halts and the slot stays",
        OnWalBudget::DropSlot => "the daemon drops the slot and halts",
    };
    match server.max_slot_wal_keep_bytes {
        Some(limit) if limit <= budget => report.warn(
            "wal budget",
            format!(
                "max_slot_wal_keep_size is {}: the slot is lost before `source.wal_budget` of {} is used up",
                text::bytes(limit),
                text::bytes(budget)
            ),
            "make `source.wal_budget` smaller than max_slot_wal_keep_size, or that larger",
        ),
        Some(_) | None => {
            report.ok(
                "wal budget",
                format!("the slot may keep {} of log; beyond it {what}", text::bytes(budget)),
            );
        }
    }
}

/// Why log is kept, and what a drop of our slot would free.
async fn kept(report: &mut Report, sql: &Sql, config: &Config, slot: Option<&Slot>) {
    let Some(primary) = report.take("log", config.primary_options()) else { return };
    let name = &config.source.slot;
    let Some(holders) = report.take("log", held::holders(sql, primary.as_ref(), name).await) else { return };
    let ours = slot.cloned().unwrap_or_default();
    let held = held::why(config.source.wal_budget(), &ours, &holders, None);
    for reason in &held {
        let found = match reason.bytes {
            Some(bytes) => format!("{} of log are held by {reason}", text::bytes(bytes)),
            None => reason.to_string(),
        };
        let frees = holders.freed_without(&ours);
        let remedy = match (reason.by, slot) {
            (By::Daemon | By::Nobody | By::Pending, Some(_)) if frees > 0 => format!(
                "let the daemon catch up. `tributary teardown` frees at most {}, and the lake cannot be continued behind it",
                text::bytes(frees)
            ),
            (By::Daemon | By::Nobody | By::Pending, _) => {
                "let the daemon catch up; to drop our slot would free nothing, since another one keeps as much".to_owned()
            }
            _ => "our slot has no part in it: to drop it would not help".to_owned(),
        };
        match reason.by {
            By::Pending => report.ok("log", found),
            By::Transaction | By::PreparedTransaction => {
                report.warn("log", found, "it ends with that transaction")
            }
            By::Daemon | By::Nobody | By::Slot | By::Feedback => report.warn("log", found, remedy),
        }
    }
}

/// T50: older minor versions lose or split transactions.
fn version(report: &mut Report, version: u32) {
    let (major, minor) = (version / 10_000, version % 100);
    let found = format!("Postgres {major}.{minor}");
    match FIRST_GOOD_MINOR.iter().find(|(of, _)| *of == major) {
        Some((_, good)) if minor < *good => report.warn(
            "version",
            format!("{found} has known faults in logical decoding that can lose changes when a publication is altered"),
            format!("update to {major}.{good} or newer"),
        ),
        Some(_) => report.ok("version", found),
        None if major > NEWEST_MAJOR => {
            report.warn("version", format!("{found} is newer than this version knows"), "update tributary");
        }
        None => report.fail("version", Kind::Config, format!("{found} is too old"), "Postgres 14 and newer are supported"),
    }
}

fn settings(report: &mut Report, server: &ServerFacts, has_slot: bool) {
    if server.wal_level == "logical" {
        report.ok("wal_level", "logical");
    } else {
        report.fail(
            "wal_level",
            Kind::SourceHalted,
            format!("{}; nothing can be decoded from that", server.wal_level),
            "ALTER SYSTEM SET wal_level = 'logical';  -- then restart the server",
        );
    }
    let used = format!(
        "{} of {} replication slots are in use",
        server.replication_slots, server.max_replication_slots
    );
    if has_slot || server.replication_slots < server.max_replication_slots {
        report.ok("slots", used);
    } else {
        let more = server.max_replication_slots + 4;
        report.fail(
            "slots",
            Kind::SourceHalted,
            used,
            format!("ALTER SYSTEM SET max_replication_slots = {more};  -- then restart the server; or drop slots that nobody uses"),
        );
    }
    limits(report, server);
}

/// What can cost us the slot, and what a slot can cost the server (T68, T69).
fn limits(report: &mut Report, server: &ServerFacts) {
    match server.max_slot_wal_keep_bytes {
        None => report.warn(
            "slot limit",
            "max_slot_wal_keep_size is unlimited: a daemon that is down for long fills the server's disk",
            "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB';  -- what the disk can spare; beyond it the slot is lost, not the server. `source.wal_budget` acts before, while the daemon runs",
        ),
        Some(bytes) if bytes < KEEP_AT_LEAST => report.warn(
            "slot limit",
            format!("max_slot_wal_keep_size is {}: the slot is lost when the daemon is down while that much is written", text::bytes(bytes)),
            "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB';  -- what the disk can spare",
        ),
        Some(bytes) => report.ok("slot limit", format!("max_slot_wal_keep_size is {}", text::bytes(bytes))),
    }
    if let Some(timeout) = server.idle_replication_slot_timeout {
        let found = format!(
            "idle_replication_slot_timeout is {} s: a daemon that is down for longer loses the slot",
            timeout.as_secs()
        );
        if timeout < IDLE_AT_LEAST {
            report.warn(
                "slot idle timeout",
                found,
                "ALTER SYSTEM SET idle_replication_slot_timeout = 0;  -- or days",
            );
        } else {
            report.ok("slot idle timeout", found);
        }
    }
    if let Some(timeout) = server.wal_sender_timeout.filter(|timeout| *timeout < SENDER_AT_LEAST) {
        report.warn(
            "wal_sender_timeout",
            format!("{} ms: a short pause of the network ends the stream", timeout.as_millis()),
            "ALTER SYSTEM SET wal_sender_timeout = '60s';",
        );
    }
    if server.encoding == "SQL_ASCII" {
        report.warn(
            "encoding",
            "SQL_ASCII: the database does not know what its bytes mean; text that is not UTF-8 goes to _cdc_raw",
            "nothing is lost; convert the database to UTF8 to have such text in its columns",
        );
    }
}

fn role(report: &mut Report, server: &ServerFacts, options: &ConnectOptions) {
    if server.may_replicate || server.is_superuser {
        report.ok("role", format!("{} may replicate", options.user));
    } else {
        let role = crate::source::sql::quote_identifier(&options.user);
        let remedy = format!("ALTER ROLE {role} REPLICATION;  -- as an administrator");
        report.fail("role", Kind::Config, format!("{} may not replicate", options.user), remedy);
    }
}

async fn senders(report: &mut Report, sql: &Sql, server: &ServerFacts) {
    let count = async || -> Result<i64> {
        let rows = sql.query("replication sessions", "SELECT count(*) FROM pg_stat_replication", &[]).await?;
        Ok(rows.first().and_then(|row| row.try_get(0).ok()).unwrap_or(0))
    };
    let Some(count) = report.take("walsenders", count().await) else { return };
    let found = format!("{count} of {} replication sessions are in use", server.max_wal_senders);
    if count < i64::from(server.max_wal_senders) {
        report.ok("walsenders", found);
    } else {
        let more = server.max_wal_senders + 4;
        let remedy = format!("ALTER SYSTEM SET max_wal_senders = {more};  -- then restart the server");
        report.fail("walsenders", Kind::SourceHalted, found, remedy);
    }
}

/// Commits would wait for the lake, and we for the commit of a partition that nobody sees before.
async fn synchronous(report: &mut Report, sql: &Sql, application: &str) {
    let names = async || -> Result<String> {
        let rows = sql
            .query("synchronous standbys", "SELECT current_setting('synchronous_standby_names')", &[])
            .await?;
        Ok(rows.first().and_then(|row| row.try_get(0).ok()).unwrap_or_default())
    };
    let Some(names) = report.take("synchronous standbys", names().await) else { return };
    if may_be_synchronous(&names, application) {
        report.fail(
            "synchronous standbys",
            Kind::SourceHalted,
            format!("synchronous_standby_names = '{names}' means our stream ({application}) as well: commits would wait until the lake has them"),
            "ALTER SYSTEM SET synchronous_standby_names = …;  -- to the application_name of each standby; or give `source.url` another application_name",
        );
    }
}

/// Whether `synchronous_standby_names` means a session of this name.
fn may_be_synchronous(names: &str, application: &str) -> bool {
    let list = names.split_once('(').map_or(names, |(_, list)| list.trim_end().trim_end_matches(')'));
    list.split(',')
        .map(|name| name.trim().trim_matches('"'))
        .any(|name| name == "*" || (!name.is_empty() && name.eq_ignore_ascii_case(application)))
}

/// Whether all are there.
async fn publications(report: &mut Report, sql: &Sql, config: &Config, log: &Log) -> bool {
    let names = &config.source.publication;
    let Some(found) = report.take("publication", catalog::publication(sql, names).await) else {
        return false;
    };
    let missing: Vec<&String> =
        names.iter().filter(|name| !found.iter().any(|found| found.name == **name)).collect();
    for name in &missing {
        let remedy = match setup::publication_statement(sql, config, name).await {
            Ok(statement) if statement.lines().count() <= SHOWN => format!("{statement}\n{RUN_SETUP}"),
            // Too long for a list, or no table is included, which `setup` says.
            Ok(_) | Err(_) => RUN_SETUP.to_owned(),
        };
        report.fail("publication", Kind::SourceHalted, format!("{name} does not exist"), remedy);
    }
    if !missing.is_empty() {
        return false;
    }
    for publication in &found {
        let name = crate::source::sql::quote_identifier(&publication.name);
        let actions = [
            ("insert", publication.insert),
            ("update", publication.update),
            ("delete", publication.delete),
            ("truncate", publication.truncate),
        ];
        let left_out: Vec<&str> = actions.iter().filter(|(_, has)| !has).map(|(action, _)| *action).collect();
        if left_out.is_empty() {
            let via = if publication.via_root {
                "via the partition root: rows do not tell their partition, so TRUNCATE, DETACH and DROP of one leave its rows in the lake, and `tributary resync` of one reads its whole table"
            } else {
                "by partition"
            };
            report.ok("publication", format!("{} publishes every action, {via}", publication.name));
        } else {
            report.warn(
                "publication",
                format!(
                    "{} does not publish {}: the lake will differ from the tables",
                    publication.name,
                    left_out.join(", ")
                ),
                format!("ALTER PUBLICATION {name} SET (publish = 'insert, update, delete, truncate');"),
            );
        }
    }
    if let Log::Found { state, .. } = log {
        let found = bootstrap::publication_event(sql, names).await;
        match found.and_then(|found| publication::compare_with_log(state, &found)) {
            Ok(Difference::None) => {}
            Ok(Difference::Added(members)) => report.warn(
                "publication",
                format!(
                    "{members} tables or schemas were added: rows that they have already are not exported"
                ),
                "nothing needs to be done if that is meant".to_owned(),
            ),
            Err(error) => report.error("publication", &error),
        }
    }
    true
}

/// How soon a change of partitions is found.
async fn partitions(report: &mut Report, sql: &Sql, config: &Config) {
    let Some(events) = report.take("partitions", setup::ddl_events(sql).await) else { return };
    let refresh = config.partitions.refresh;
    let found = match events {
        setup::DdlEvents::All => format!(
            "that are attached, detached or dropped are found within a second as a rule, since event triggers tell the stream, and within {refresh:?} (`partitions.refresh`) at the latest"
        ),
        setup::DdlEvents::None | setup::DdlEvents::Some => format!(
            "that are attached, detached or dropped are found within {refresh:?} (`partitions.refresh`); at once with `tributary setup --ddl-events`"
        ),
    };
    report.ok("partitions", found);
}

async fn tables(
    report: &mut Report,
    sql: &Sql,
    config: &Config,
    reads_rows: bool,
    known: Option<&log::State>,
) {
    let names = &config.source.publication;
    let Some(folding) = report.take("tables", config.partitions.folding(known)) else { return };
    let facts = catalog::facts_all(sql, names, &folding).await;
    let (Some(facts), Ok(selection)) = (report.take("tables", facts), config.tables.selection()) else {
        return;
    };
    report.take("tables", mapping::refuse_groups(sql, &folding, &facts).await);
    let wanted = facts.roots.iter().filter(|root| selection.includes(&root.schema, &root.name)).count();
    let found = format!("{wanted} published tables are included, with {} partitions", facts.leaves.len());
    if wanted == 0 {
        report.warn(
            "tables",
            found,
            "ALTER PUBLICATION … ADD TABLE …;  -- or look at tables.include and tables.exclude",
        );
    } else {
        report.ok("tables", found);
    }
    identities(report, sql, names).await;
    mixed_identities(report, &facts);
    if let Some(before) = report.take("old rows", config.tables.with_before()) {
        old_rows::look(report, &before, &selection, &facts);
    }
    omissions::look(report, sql, names, &selection).await;
    if reads_rows && let Some(host) = report.take("snapshot", config.snapshot_options()) {
        rows::look(report, sql, &host.address(), &selection, &facts).await;
    }
    types(report, sql, config, facts, known).await;
}

/// What `[[tables.override]]` says, against the tables that there are.
async fn layouts(
    report: &mut Report,
    sql: &Sql,
    config: &Config,
    tables: &[Mapped],
    known: Option<&log::State>,
) {
    let Some(rules) = report.take("layout", config.tables.layouts()) else { return };
    let names = |root: &RootFacts| format!("{}.{}", root.schema, root.name);
    for rule in rules.iter() {
        if !tables.iter().any(|table| rule.selection.includes(&table.root.schema, &table.root.name)) {
            report.warn(
                "layout",
                format!("`{}` in [[tables.override]] names no published table", rule.glob),
                "look at tables.override, and at what is published",
            );
        }
    }
    if report.take("layout", mapping::refuse_layouts(sql, config, tables, known).await).is_none() {
        return;
    }
    for Mapped { root, .. } in tables {
        if let Some(rule) = rules.of(std::iter::once((root.schema.as_str(), root.name.as_str()))) {
            let by: Vec<String> = rule.partition_by.iter().map(ToString::to_string).collect();
            report.ok("layout", format!("{} is laid out by {}", names(root), by.join(", ")));
        }
    }
}

/// What [types] says, against the columns that there are.
async fn types(report: &mut Report, sql: &Sql, config: &Config, facts: Facts, known: Option<&log::State>) {
    let (Some(tables), Some(rules)) = (
        report.take("types", mapping::of_published(sql, config, facts).await),
        report.take("types", config.types.rules()),
    ) else {
        return;
    };
    layouts(report, sql, config, &tables, known).await;
    let unused = mapping::unused(&rules, &tables);
    for key in &unused {
        report.warn(
            "types",
            format!("`{key}` in [types.columns] names no published column"),
            "`tributary inspect types` lists them",
        );
    }
    match mapping::refuse_misfits(config, &tables) {
        Err(error) => report.error("types", &error),
        Ok(()) if unused.is_empty() => {
            let columns: usize = tables.iter().map(|table| table.columns.len()).sum();
            report.ok(
                "types",
                format!("{columns} columns have a lake type; `tributary inspect types` lists them"),
            );
        }
        Ok(()) => {}
    }
}

/// T47
async fn identities(report: &mut Report, sql: &Sql, names: &[String]) {
    let Some(broken) = report.take("replica identity", setup::remedies(sql, names, None).await) else {
        return;
    };
    if broken.is_empty() {
        report.ok("replica identity", "every table can be updated and deleted from");
    }
    for remedy in broken.iter().take(SHOWN) {
        report.warn(
            "replica identity",
            format!("UPDATE and DELETE fail at the source on {}", remedy.what),
            &remedy.sql,
        );
    }
    if broken.len() > SHOWN {
        let found = format!("and {} more tables", broken.len() - SHOWN);
        report.warn("replica identity", found, "tributary setup --json  -- lists them all");
    }
}

/// T24: with another identity than its root's, a leaf's old rows are announced as what they are not.
fn mixed_identities(report: &mut Report, facts: &Facts) {
    let roots: BTreeMap<_, _> = facts.roots.iter().map(|root| (root.oid, root)).collect();
    let mut mixed: BTreeMap<String, (u64, String)> = BTreeMap::new();
    // Rows of others never come under the name of their root.
    for leaf in facts.leaves.iter().filter(|leaf| leaf.link == Link::Partition) {
        let Some(root) = roots.get(&leaf.root).filter(|root| root.replica_identity != leaf.replica_identity)
        else {
            continue;
        };
        let of_root = mixed.entry(format!("{}.{}", root.schema, root.name)).or_default();
        of_root.0 += 1;
        of_root.1 = format!("{}.{}", leaf.schema, leaf.name);
    }
    if mixed.is_empty() {
        report.ok("partition identity", "every partition has its root's replica identity");
    }
    for (root, (count, example)) in mixed.iter().take(SHOWN) {
        report.warn(
            "partition identity",
            format!("{count} partitions of {root} have another replica identity than it ({example} …)"),
            "old rows may lack values, which the lake then marks as unchanged; give all of them the same REPLICA IDENTITY",
        );
    }
}

async fn slot_and_log(
    report: &mut Report,
    sql: &Sql,
    config: &Config,
    options: &ConnectOptions,
    server: &ServerFacts,
    slot: Option<&Slot>,
    log: Log,
) {
    let name = &config.source.slot;
    match (slot, log) {
        (None, Log::None) => report.ok(
            "slot",
            format!("`{name}` does not exist yet: the first `setup --apply` or `run` creates it"),
        ),
        (None, Log::Unknown) => {}
        (slot, Log::Found { state, store }) => {
            let fits = fits(sql, options, server, *state, store.as_ref()).await;
            if let (Some(lake_lsn), Some(slot)) = (report.take("slot", fits), slot) {
                report.ok("slot", describe(name, slot, lake_lsn));
            }
        }
        (Some(slot), Log::None) => {
            let refused = startup::refuse_foreign(name, slot, &options.database);
            if report.take("slot", refused).is_some() {
                report.fail(
                    "slot",
                    Kind::SourceHalted,
                    format!("`{name}` exists, and the lake has no log: its changes may belong to somebody else"),
                    format!("tributary setup --apply --adopt-slot  -- begins the lake at the slot's position\nSELECT pg_drop_replication_slot('{name}');  -- begins anew"),
                );
            }
        }
        (Some(_), Log::Unknown) => {
            report.ok("slot", format!("`{name}` exists; whether it fits the log is unknown"))
        }
    }
    if let Some(slot) = slot {
        danger(report, slot);
    }
}

/// The same decision as at the real start; the position of the lake if it is to go on.
///
/// Slot, log, server, in that order: beside a daemon that runs, each may only be further than the one before.
async fn fits(
    sql: &Sql,
    options: &ConnectOptions,
    server: &ServerFacts,
    state: log::State,
    store: &dyn Store,
) -> Result<Lsn> {
    let slot = slot::slot(sql, &state.slot).await?;
    let mut state = Some(state);
    log::follow(store, &mut state).await?;
    let state = state.ok_or_else(|| Error::bug("a log that was read is gone"))?;
    let mut session = Session::connect(options).await?;
    let system = session.identify_system().await?;
    let history = if system.timeline > state.timeline {
        session.timeline_history(system.timeline).await?
    } else {
        Vec::new()
    };
    let situation = startup::Situation {
        log: &state,
        system: &system,
        server_lsn: server.current_lsn.unwrap_or(Lsn::ZERO).max(system.wal_lsn),
        slot: slot.as_ref(),
        history: &history,
        database: &options.database,
    };
    startup::decide(&situation, server.in_recovery).map(|_| state.to_lsn)
}

fn describe(name: &str, slot: &Slot, lake_lsn: Lsn) -> String {
    let user = match slot.active_pid {
        Some(pid) if slot.active => format!("in use by process {pid}"),
        Some(_) | None => "not in use".to_owned(),
    };
    let kept = slot
        .retained_bytes
        .map_or_else(String::new, |bytes| format!(", keeps {} of log", text::bytes(bytes)));
    format!("`{name}` fits the lake's log at {lake_lsn}; {user}{kept}")
}

/// How near the slot is to being lost, and what it costs the server.
fn danger(report: &mut Report, slot: &Slot) {
    if let Some(safe) = slot.safe_wal_size.and_then(|bytes| u64::try_from(bytes).ok()) {
        let retained = slot.retained_bytes.unwrap_or(0);
        if safe < retained.saturating_add(safe) / 5 {
            report.warn(
                "slot danger",
                format!("the slot is lost after another {} of log", text::bytes(safe)),
                "let the daemon catch up, or raise max_slot_wal_keep_size",
            );
        }
    }
    if let Some(age) = slot.catalog_xmin_age.filter(|age| *age > XMIN_AGE_MAX) {
        report.warn(
            "slot age",
            format!("the slot keeps catalog rows that are {age} transactions old: vacuum cannot remove them"),
            "let the daemon run, or drop the slot: tributary teardown",
        );
    }
}

/// T70: a new slot waits for every transaction that is open.
async fn transactions(report: &mut Report, sql: &Sql) {
    let Some(oldest) = report.take("transactions", catalog::oldest_transaction(sql).await).flatten() else {
        return;
    };
    let remedy = "creating the slot waits until it ends";
    match oldest {
        OpenTransaction::Prepared { gid, open_seconds } => report.warn(
            "transactions",
            format!("transaction `{gid}` was prepared {open_seconds:.0} s ago and is still open"),
            format!("{remedy}: COMMIT PREPARED or ROLLBACK PREPARED"),
        ),
        OpenTransaction::Session { pid, application, open_seconds } => {
            let seconds = open_seconds.unwrap_or(0.0);
            if seconds > LONG_TRANSACTION.as_secs_f64() {
                let application = application.unwrap_or_default();
                report.warn(
                    "transactions",
                    format!("a transaction of process {pid} ({application}) is open since {seconds:.0} s"),
                    remedy,
                );
            }
        }
    }
}

/// Where rows are read, if not at the source.
async fn replica(
    report: &mut Report,
    source: &Sql,
    config: &Config,
    options: &ConnectOptions,
    server: &ServerFacts,
) {
    let is_read = config.snapshot.mode == SnapshotMode::Initial || config.snapshot.url.is_some();
    let Some(replica) = report.take("replica", config.snapshot_options()) else { return };
    if replica == *options || !is_read {
        return;
    }
    let Some(sql) = report.take("replica", connect_sql(&replica).await) else { return };
    let Some(facts) = report.take("replica", catalog::server(&sql).await) else { return };
    let Some(primary) = report.take("replica", config.primary_options()) else { return };
    let caught_up =
        Box::pin(Replica::caught_up(options, primary.as_ref(), &replica, &sql, REPLICA_WAIT)).await;
    if report.take("replica", caught_up).is_none() {
        return;
    }
    let major = facts.version / 10_000;
    report.ok("replica", format!("rows are read from {}, Postgres {major}", replica.address()));
    if facts.replication_slots >= facts.max_replication_slots {
        let more = facts.max_replication_slots + 4;
        report.fail(
            "replica",
            Kind::SourceHalted,
            format!("{} has no replication slot left for a moment", replica.address()),
            format!("ALTER SYSTEM SET max_replication_slots = {more};  -- on the replica, then restart it"),
        );
    }
    if facts.in_recovery && !facts.hot_standby_feedback {
        report.warn(
            "replica",
            "hot_standby_feedback is off there: when vacuum removes rows that are read, reading begins again where it was",
            "ALTER SYSTEM SET hot_standby_feedback = on;  -- on the replica; then SELECT pg_reload_conf()",
        );
    }
    if facts.in_recovery && !server.in_recovery {
        // T82
        if report.take("replica", standbys::may_log(source).await) == Some(false) {
            let role = crate::source::sql::quote_identifier(&options.user);
            report.warn(
                "replica",
                "our role may not call pg_log_standby_snapshot at the source: reading begins some 15 seconds later",
                format!("GRANT EXECUTE ON FUNCTION pg_log_standby_snapshot() TO {role};  -- at the source"),
            );
        }
    }
}

/// The minors that hold the fixes of 2025 for changes lost beside ALTER PUBLICATION.
const FIRST_GOOD_MINOR: [(u32, u32); 5] = [(14, 19), (15, 14), (16, 10), (17, 6), (18, 0)];
const NEWEST_MAJOR: u32 = 18;
/// An hour of a busy server.
const KEEP_AT_LEAST: u64 = 1 << 30;
/// A weekend.
const IDLE_AT_LEAST: Duration = Duration::from_secs(3 * 86_400);
const SENDER_AT_LEAST: Duration = Duration::from_secs(10);
/// A fifth of what is left before anti-wraparound vacuum (autovacuum_freeze_max_age).
const XMIN_AGE_MAX: u32 = 40_000_000;
const LONG_TRANSACTION: Duration = Duration::from_secs(60);
/// A replica that is farther behind is worth a word.
const REPLICA_WAIT: Duration = Duration::from_secs(10);
const RUN_SETUP: &str = "tributary setup --apply  -- creates it; without --apply it prints the SQL";
/// Tables that are listed one by one.
const SHOWN: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn found(check: impl FnOnce(&mut Report)) -> Vec<(&'static str, &'static str)> {
        let mut report = Report::default();
        check(&mut report);
        report.checks.iter().map(|check| (check.name, check.state.label())).collect()
    }

    #[test]
    fn a_stream_is_a_synchronous_standby_by_its_name() {
        for names in ["*", "FIRST 1 (a, *)", "ANY 2 (\"Tributary\", b)", "2 (b,tributary )", "TRIBUTARY"] {
            assert!(may_be_synchronous(names, "tributary"), "{names}");
        }
        for names in ["", "a", "FIRST 1 (a, b)", "tributary_2", "ANY 1 (s1, s2)"] {
            assert!(!may_be_synchronous(names, "tributary"), "{names}");
        }
    }

    /// T50: the minors before the fixes of 2025 lose changes beside ALTER PUBLICATION.
    #[test]
    fn t50_old_minors_are_warned_of() {
        for (number, state) in
            [(150_013, "warn"), (150_014, "ok"), (180_000, "ok"), (190_000, "warn"), (130_020, "fail")]
        {
            assert_eq!(found(|report| version(report, number)), [("version", state)], "{number}");
        }
    }

    fn server() -> ServerFacts {
        ServerFacts {
            version: 180_000,
            in_recovery: false,
            wal_level: "logical".to_owned(),
            max_replication_slots: 10,
            replication_slots: 1,
            max_wal_senders: 10,
            wal_sender_timeout: Some(Duration::from_secs(60)),
            encoding: "UTF8".to_owned(),
            current_lsn: Some(Lsn(1)),
            max_slot_wal_keep_bytes: Some(50 << 30),
            idle_replication_slot_timeout: None,
            hot_standby_feedback: false,
            primary_slot_name: String::new(),
            may_replicate: true,
            is_superuser: false,
        }
    }

    #[test]
    fn a_good_server_has_no_finding() {
        let good = [("wal_level", "ok"), ("slots", "ok"), ("slot limit", "ok")];
        assert_eq!(found(|report| settings(report, &server(), false)), good);
    }

    #[test]
    fn each_bad_setting_is_found() {
        let bad = ServerFacts {
            wal_level: "replica".to_owned(),
            replication_slots: 10,
            max_slot_wal_keep_bytes: None,
            idle_replication_slot_timeout: Some(Duration::from_secs(3_600)),
            wal_sender_timeout: Some(Duration::from_secs(3)),
            encoding: "SQL_ASCII".to_owned(),
            ..server()
        };
        let expected = [
            ("wal_level", "fail"),
            ("slots", "fail"),
            ("slot limit", "warn"),
            ("slot idle timeout", "warn"),
            ("wal_sender_timeout", "warn"),
            ("encoding", "warn"),
        ];
        assert_eq!(found(|report| settings(report, &bad, false)), expected);
        let (name, state) = found(|report| settings(report, &bad, true))[1];
        assert_eq!((name, state), ("slots", "ok"), "our own slot is one of them");
    }
}

//! What the fold has to tell, for the log and for people.
//!
//! Owns: the translation of fold events into log events and log lines.
//! Does not: know schema versions (the buffers log those with their first file).
//! Holds: loud events are said once, here.
//! Fails: never.

use lake::log::Event;
use tables::fold::{Fold, FoldEvent, GroupProblem};
use tracing::{info, warn};

use crate::buffers;

/// The news since the last cut.
pub(super) fn of_fold(fold: &mut Fold) -> Vec<Event> {
    let news = fold.take_events();
    let new_tables = news.iter().filter(|event| matches!(event, FoldEvent::TableAppeared { .. })).count();
    let says_each = new_tables <= TABLES_SAID;
    if !says_each {
        info!(tables = new_tables, "first changes of tables");
    }
    let is_said = |event: &FoldEvent| says_each || !matches!(event, FoldEvent::TableAppeared { .. });
    let news = news.into_iter().filter(is_said);
    news.filter_map(|event| of_event(event, fold)).collect()
}

fn of_event(event: FoldEvent, fold: &Fold) -> Option<Event> {
    match event {
        FoldEvent::TableAppeared { table } => {
            info!(table = buffers::display_name(fold.table(table)), "first change of a table");
            None
        }
        FoldEvent::SchemaChanged { table, from, to } => {
            info!(
                table = buffers::display_name(fold.table(table)),
                from, to, "the columns of a table changed"
            );
            None
        }
        FoldEvent::Renamed { table, schema_name, name } => {
            let table = fold.table(table);
            let lake_name = buffers::display_name(table);
            info!(
                table = lake_name,
                now = format!("{schema_name}.{name}"),
                "a table was renamed; its folder stays"
            );
            Some(Event::Rename { table: lake_name, relation: table.oid.0, schema_name, table_name: name })
        }
        FoldEvent::Stale { table, stale } => {
            let table = fold.table(table);
            let (name, reason) = (buffers::display_name(table), stale.reason.as_str());
            warn!(
                table = name,
                column = stale.column,
                reason,
                "rows written before may differ from Postgres in this column, and no change says how: the table needs a resync"
            );
            let (relation, column) = (table.oid.0, stale.column);
            Some(Event::NeedsResync { table: name, relation, column, reason: reason.to_owned() })
        }
        FoldEvent::Truncated { table, relation, lsn } => Some(Event::Truncate {
            table: buffers::display_name(fold.table(table)),
            relation,
            commit_lsn: lsn,
        }),
        FoldEvent::TruncatedAlone { table } => {
            warn!(
                table = buffers::display_name(fold.table(table)),
                "a table was truncated and the tables that are leaves of it were not: its own rows stay in the lake until `tributary resync`"
            );
            None
        }
        FoldEvent::Lineage { root, leaves } => Some(Event::Attach {
            root: root.0,
            leaves: leaves.into_iter().map(|(oid, name)| (oid.0, name)).collect(),
        }),
        FoldEvent::Group { table, relation, column, problem } => {
            let table = buffers::display_name(fold.table(table));
            let (has, why) = match problem {
                GroupProblem::HasColumn => ("its own column", "the relation has a column of that name"),
                GroupProblem::OtherType => {
                    ("NULL", "the table has a column of that name and of another type")
                }
                GroupProblem::NotInName => ("NULL", "the name of the relation does not tell it"),
            };
            warn!(
                table,
                relation, column, has, why, "rows do not have what a named group of a pattern should tell"
            );
            None
        }
        FoldEvent::Orphan { oid, name } => {
            warn!(
                relation = name,
                oid = oid.0,
                "the catalogs do not know this relation any more and the log never did: its rows go to a table of their own"
            );
            Some(Event::Orphan { relation: oid.0, table: name })
        }
        FoldEvent::IdentityDiffers { root, leaf } => {
            warn!(
                root = root.0,
                leaf = leaf.0,
                "a leaf has another replica identity than its root; `tributary check` names the SQL that mends it"
            );
            None
        }
    }
}

/// New tables of one cut that are said by name; of more only their number is.
const TABLES_SAID: usize = 20;

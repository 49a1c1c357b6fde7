//! Tables whose UPDATE and DELETE fail at the source for being published (T47), as they come to be.
//!
//! Owns: what was said before.
//! Does not: mend a table, which is for a person to do; `tributary check` names the SQL.
//! Holds: it is said once, and again when it is so of more partitions: a new one has its own replica identity, not its root's (T24).
//! Fails: never; what cannot be asked is asked with the next look.

use std::collections::BTreeMap;
use std::time::Duration;

use tables::fold::Selection;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::source::Sql;
use crate::source::catalog::{self, IdentityProblem};

/// What is looked at, and what was said of it.
#[derive(Debug)]
pub(super) struct Audit {
    publications: Vec<String>,
    selection: Selection,
    /// At most so often: partitions may change all the time, and this looks at all that are published.
    interval: Duration,
    /// By `schema.table`, how many relations of it are like that.
    said: BTreeMap<String, u64>,
    last: Option<Instant>,
    is_due: bool,
}

impl Audit {
    pub(super) fn new(publications: Vec<String>, selection: Selection, interval: Duration) -> Audit {
        Audit { publications, selection, interval, said: BTreeMap::new(), last: None, is_due: true }
    }

    /// Partitions changed.
    pub(super) fn set_due(&mut self) {
        self.is_due = true;
    }

    /// Looks, if there may be something new.
    pub(super) async fn look(&mut self, sql: &Sql) {
        let is_early = self.last.is_some_and(|last| last.elapsed() < self.interval);
        if !self.is_due || is_early {
            return;
        }
        (self.is_due, self.last) = (false, Some(Instant::now()));
        match catalog::identity_problems(sql, &self.publications).await {
            Ok(problems) => self.tell(problems),
            Err(error) => {
                self.is_due = true;
                debug!(error = error.chain(), "replica identities cannot be looked at");
            }
        }
    }

    /// In one line, however many they are.
    fn tell(&mut self, problems: Vec<IdentityProblem>) {
        let wanted =
            problems.into_iter().filter(|problem| self.selection.includes(&problem.schema, &problem.table));
        let mut found: BTreeMap<String, u64> = BTreeMap::new();
        let mut news: BTreeMap<String, String> = BTreeMap::new();
        for IdentityProblem { schema, table, relations, example, reason: _ } in wanted {
            let table = format!("{schema}.{table}");
            let all = found.entry(table.clone()).or_default();
            *all += relations;
            if self.said.get(&table).is_none_or(|said| said < all) {
                news.insert(table, example);
            }
        }
        self.said = found;
        let Some((table, first)) = news.first_key_value() else { return };
        let tables = news.len();
        let relations: u64 = news.keys().filter_map(|table| self.said.get(table)).sum();
        warn!(
            tables,
            relations,
            table,
            first,
            "UPDATE and DELETE fail at the source, in your application: what is published has no replica identity; \
             `tributary check` names the SQL that mends it"
        );
    }
}

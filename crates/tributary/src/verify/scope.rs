//! What is compared with what: tables, their relations, and their columns on both sides.
//!
//! Owns: the match of the source's columns with those of the lake, and the reasons for which a table cannot be compared.
//! Does not: read a row.
//! Holds: whatever is left out is said, with the reason.
//! Fails: as the source does.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use lake::log::{Reading, State, TableState};
use pgoutput::Oid;
use tables::fold::Selection;
use tables::lineage::{Facts, Link, RootFacts};
use tables::schema::{Column, TableSchema};
use tables::types::Codec;

use super::render::Canon;
use crate::error::{Error, Result};
use crate::snapshot::plan::{self, Relation};
use crate::snapshot::query::{self, Shape};
use crate::source::Sql;

/// A table that is compared.
#[derive(Debug)]
pub struct Table {
    /// The OID of the root.
    pub oid: u32,
    /// `schema.table` as Postgres has it.
    pub name: String,
    /// The columns that both sides have.
    pub columns: Vec<Compared>,
    /// Which of them tell rows apart; none in a table without a key.
    pub key: Vec<usize>,
    /// The relations that hold its rows, as the source had them.
    pub relations: Vec<(Relation, Arc<Leaf>)>,
    /// Rows of the lake count if they came from one of these; all, if it never had partitions.
    pub names: Option<HashSet<String>>,
    /// A `T` of one of these is one of the whole table.
    pub own_names: Vec<String>,
    /// What the keys are divided into.
    pub buckets: u32,
    /// What a reader of the result should know.
    pub notes: Vec<String>,
    /// Why it may differ, if it does.
    pub doubts: Vec<String>,
}

/// A column of both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Its name in Postgres.
    pub name: String,
    /// Its field id in the lake.
    pub field_id: i32,
    /// How its cells were read.
    pub codec: Codec,
    /// The modifier of its type, -1 for none.
    pub modifier: i32,
    /// What is compared of it.
    pub canon: Canon,
    /// What rows from before the column have.
    pub initial: Option<Vec<u8>>,
}

/// What is selected of a relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// `"schema"."name"`
    pub quoted: String,
    /// The published columns.
    pub columns: Arc<HashSet<String>>,
    /// Only rows that satisfy one of these are published; all, if there is none.
    pub filters: Vec<String>,
}

/// What becomes of a table.
#[derive(Debug)]
pub enum Planned {
    /// It is compared.
    Compare(Box<Table>),
    /// It is not.
    Skip(String),
}

/// What is known when tables are planned.
pub struct Known<'a> {
    /// A session in the source's snapshot.
    pub sql: &'a Sql,
    /// The publications.
    pub publications: &'a [String],
    /// The log before the snapshot was taken.
    pub before: &'a State,
    /// The log when it had come to the snapshot's position.
    pub now: &'a State,
    /// What the catalogs say of published tables.
    pub facts: &'a Facts,
    /// With `publish_via_partition_root`.
    pub via_root: bool,
    /// The source prints a `"char"` from 0x80 on as a byte that is no text: it has UTF-8, and is older than 15.
    pub prints_bytes: bool,
    /// The leaves of each root.
    leaves: BTreeMap<Oid, Vec<usize>>,
}

impl<'a> Known<'a> {
    /// Puts leaves to their roots. `states` are the log before and now.
    pub fn new(
        sql: &'a Sql,
        publications: &'a [String],
        states: (&'a State, &'a State),
        facts: &'a Facts,
        (via_root, prints_bytes): (bool, bool),
    ) -> Known<'a> {
        let mut leaves: BTreeMap<Oid, Vec<usize>> = BTreeMap::new();
        for (at, leaf) in facts.leaves.iter().enumerate() {
            leaves.entry(leaf.root).or_default().push(at);
        }
        Known { sql, publications, before: states.0, now: states.1, facts, via_root, prints_bytes, leaves }
    }

    /// Plans a table.
    pub async fn plan(&self, root: &RootFacts) -> Result<Planned> {
        let oid = root.oid.0;
        if let Some(reason) = self.obstacle(root) {
            return Ok(Planned::Skip(reason));
        }
        let state = self.now.tables.get(&oid);
        let schema: Option<TableSchema> = match state {
            Some(state) => Some(state.document.read().map_err(|error| {
                Error::definite(format!("the schema of {}.{}", root.schema, root.name)).caused_by(error)
            })?),
            None => None,
        };
        let leaves =
            self.leaves.get(&root.oid).into_iter().flatten().filter_map(|at| self.facts.leaves.get(*at));
        let wanted: Vec<(Oid, Oid)> =
            std::iter::once(root.oid).chain(leaves.map(|leaf| leaf.oid)).map(|oid| (oid, root.oid)).collect();
        let (relations, first) = self.relations(&wanted).await?;
        let mut table = Table {
            oid,
            name: format!("{}.{}", root.schema, root.name),
            columns: Vec::new(),
            key: Vec::new(),
            relations,
            names: None,
            own_names: names_of(root, state),
            buckets: 1,
            notes: Vec::new(),
            doubts: Vec::new(),
        };
        if let Some(reason) = self.name_leaves(&mut table) {
            return Ok(Planned::Skip(reason));
        }
        if let (Some(schema), Some(first)) = (&schema, &first)
            && let Some(reason) = table.match_columns(schema, first, self.prints_bytes)
        {
            return Ok(Planned::Skip(reason));
        }
        self.doubt(&mut table, state);
        table.choose_buckets(state);
        Ok(Planned::Compare(Box::new(table)))
    }

    /// Why a table cannot be compared at this point.
    fn obstacle(&self, root: &RootFacts) -> Option<String> {
        let oid = root.oid.0;
        let leaves = || self.leaves.get(&root.oid).into_iter().flatten();
        let is_by_rule =
            |at: &usize| self.facts.leaves.get(*at).is_some_and(|leaf| leaf.link != Link::Partition);
        if leaves().any(is_by_rule) {
            return Some("its rows lie in tables that are no partitions of it (`partitions.inherit`, `partitions.pattern`)".to_owned());
        }
        for state in [self.before, self.now] {
            let of_root = state.snapshots.get(&oid);
            match of_root.map(|snapshot| snapshot.state) {
                Some(Reading::Running) => {
                    return Some(
                        "it is being read; verify it when `tributary status` says that it is done".to_owned(),
                    );
                }
                Some(Reading::SetAside) => {
                    let reason = of_root.and_then(|snapshot| snapshot.reason.as_deref()).unwrap_or("unknown");
                    return Some(format!("reading it was set aside: {reason}; then `tributary resync`"));
                }
                Some(Reading::Done) | None => {}
            }
            if state
                .snapshots
                .values()
                .any(|snapshot| snapshot.root == Some(oid) && snapshot.state != Reading::Done)
            {
                return Some(
                    "a partition of it is being read, or was set aside; `tributary status` says which"
                        .to_owned(),
                );
            }
        }
        None
    }

    /// The relations with rows, and what is published of the first.
    async fn relations(&self, wanted: &[(Oid, Oid)]) -> Result<(Vec<(Relation, Arc<Leaf>)>, Option<Shape>)> {
        let mut sizes: HashMap<Oid, Relation> = plan::relations(self.sql, wanted)
            .await?
            .into_iter()
            .map(|relation| (relation.oid, relation))
            .collect();
        let (mut found, mut first) = (Vec::new(), None);
        let mut columns: Arc<HashSet<String>> = Arc::default();
        for chunk in wanted.chunks(RELATIONS_A_QUERY) {
            let oids: Vec<Oid> = chunk.iter().map(|(oid, _)| *oid).collect();
            for mut shape in query::shapes(self.sql, self.publications, &oids).await? {
                let Some(relation) = sizes.remove(&shape.relation) else { continue };
                let own: HashSet<String> = shape.columns.iter().map(|column| column.name.clone()).collect();
                if own != *columns {
                    columns = Arc::new(own);
                }
                let leaf = Leaf {
                    quoted: shape.quoted_name(),
                    columns: Arc::clone(&columns),
                    filters: std::mem::take(&mut shape.filters),
                };
                found.push((relation, Arc::new(leaf)));
                first.get_or_insert(shape);
            }
        }
        Ok((found, first))
    }

    /// The names that the lake has for the relations. The rows of those that were detached or dropped are the source's no more.
    fn name_leaves(&self, table: &mut Table) -> Option<String> {
        let lineage = self.now.lineage.get(&table.oid);
        let leaves = || table.relations.iter().filter(|(relation, _)| relation.oid.0 != table.oid);
        if lineage.is_none() && !self.now.detached.contains_key(&table.oid) && leaves().next().is_none() {
            return None;
        }
        let mut names: HashSet<String> = table.own_names.iter().cloned().collect();
        for (relation, _) in leaves() {
            let name = format!("{}.{}", relation.schema, relation.name);
            match lineage.and_then(|leaves| leaves.get(&relation.oid.0)) {
                Some(first) => drop(names.insert(first.clone())),
                // Its rows come under the name of the root.
                None if self.via_root || relation.blocks == 0 => drop(names.insert(name)),
                None => return Some(format!("{CHANGED}: the daemon has not found its partition {name} yet")),
            }
        }
        table.names = Some(names);
        None
    }

    fn doubt(&self, table: &mut Table, state: Option<&TableState>) {
        if !self.now.snapshots.contains_key(&table.oid) {
            table.doubts.push("rows of before the slot were never read (`snapshot.mode = \"never\"`), and differ if there were any".to_owned());
        }
        let stale = state.into_iter().flat_map(|state| &state.needs_resync);
        table
            .doubts
            .extend(stale.map(|(column, reason)| format!("column {column} needs a resync: {reason}")));
    }
}

impl Table {
    /// Finds the columns of the source in the lake.
    fn match_columns(&mut self, schema: &TableSchema, shape: &Shape, prints_bytes: bool) -> Option<String> {
        for own in &shape.columns {
            let Some(column) = schema.position(&own.name).and_then(|at| schema.columns.get(at)) else {
                self.notes
                    .push(format!("column {} is not compared: the lake has no row with it yet", own.name));
                continue;
            };
            match compared(column, own, prints_bytes) {
                Ok(compared) => self.columns.push(compared),
                Err(why) => self.notes.push(format!("column {} is not compared: {why}", own.name)),
            }
        }
        for name in &schema.key {
            match self.columns.iter().position(|column| column.name == *name) {
                Some(at) => self.key.push(at),
                None => return Some(format!("column {name} of its key cannot be compared")),
            }
        }
        None
    }

    /// A thousand rows a bucket, so that what differs is narrowed by looking at few of them.
    fn choose_buckets(&mut self, state: Option<&TableState>) {
        let at_source: u64 = self.relations.iter().filter_map(|(relation, _)| relation.rows).sum();
        // Nobody may have counted: a row takes 30 bytes at least.
        let by_size: u64 = self.relations.iter().map(|(relation, _)| relation.heap_bytes / 128).sum();
        let in_lake = state.map_or(0, |state| state.totals.rows);
        let rows = at_source.max(by_size).min(in_lake.max(at_source));
        let buckets = (rows / ROWS_A_BUCKET).next_power_of_two().min(BUCKETS_MAX);
        self.buckets = u32::try_from(buckets).unwrap_or(1);
    }

    /// What reading it at the source moves, about.
    pub fn bytes(&self) -> u64 {
        self.relations.iter().map(|(relation, _)| relation.bytes()).sum()
    }
}

fn compared(column: &Column, own: &query::Column, prints_bytes: bool) -> Result<Compared, String> {
    let Some(mut canon) = Canon::of(&column.codec, column.type_modifier) else {
        return Err(format!("its form `{}` does not keep what Postgres prints", column.codec.form()));
    };
    if column.type_oid != own.type_oid && canon != Canon::Text {
        return Err("its type was changed, and the lake has no row with the new one yet".to_owned());
    }
    if prints_bytes && column.codec.has(&|part| *part == Codec::Char) {
        if column.codec != Codec::Char {
            return Err(
                "before Postgres 15 a \"char\" in it may be printed as a byte that is no text".to_owned()
            );
        }
        canon = Canon::Char;
    }
    let initial = match &column.initial_default {
        Some(text) => Some(canon.of_text(text.as_bytes()).ok_or("its initial default is not understood")?),
        None => None,
    };
    Ok(Compared {
        name: own.name.clone(),
        field_id: column.field_id,
        codec: column.codec.clone(),
        modifier: column.type_modifier,
        canon,
        initial,
    })
}

/// All the names that a table has or had.
fn names_of(root: &RootFacts, state: Option<&TableState>) -> Vec<String> {
    let mut names = vec![format!("{}.{}", root.schema, root.name)];
    if let Some(state) = state {
        names.push(state.table.clone());
        names.push(format!("{}.{}", state.schema_name, state.table_name));
        names.extend(state.renamed.iter().map(|(schema, name)| format!("{schema}.{name}")));
    }
    names.sort_unstable();
    names.dedup();
    names
}

/// The tables that are included and chosen, by name.
pub fn chosen<'f>(
    facts: &'f Facts,
    included: &Selection,
    is_chosen: &dyn Fn(&RootFacts) -> bool,
) -> Vec<&'f RootFacts> {
    let is_meant = |root: &&RootFacts| included.includes(&root.schema, &root.name) && is_chosen(root);
    let mut chosen: Vec<&RootFacts> = facts.roots.iter().filter(is_meant).collect();
    chosen.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
    chosen
}

/// The beginning of the reason of what can be looked at again at once.
pub const CHANGED: &str = "changed since the snapshot";
const RELATIONS_A_QUERY: usize = 1_000;
const ROWS_A_BUCKET: u64 = 1_000;
/// A bucket takes 48 bytes on either side.
const BUCKETS_MAX: u64 = 1 << 16;

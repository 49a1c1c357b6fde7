//! Messages of relations to changes of tables.
//!
//! Owns: the open transaction, its numbering, and every table with its current schema.
//! Does not: read cells (`batch`), ask the catalogs (the caller does, when told [`Folded::NeedFacts`]), or wait.
//! Holds: numbers in a transaction are dense from 1 and the same whenever it is read again; a message that needs
//! facts changed nothing and can be applied again; a row takes one hash lookup and no allocation.
//! Fails: [`FoldError`], when the stream contradicts itself; going on could put a row into the wrong column.

mod patterns;
mod placing;
mod planning;
mod plans;
mod selection;

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use pgoutput::{
    Begin, Cell, Commit, Delete, Insert, Lsn, Message, Oid, OldTuple, PgTimestamp, Relation, ReplicaIdentity,
    Truncate, Tuple, Update,
};
use rustc_hash::{FxHashMap, FxHashSet};

pub use self::patterns::{Overlap, Pattern, PatternError, Patterns, is_made_up};
pub use self::placing::{Named, Placed};
use self::planning::Missing;
use self::plans::{Planned, Plans};
pub use self::selection::{ByTable, ColumnGlob, GlobError, Reserved, Selection};
use crate::change::{Change, Image, Op, Plan, TableIndex, TxStamp};
use crate::lineage::{ColumnFacts, Facts, LeafFacts, Lineage, Link, RootFacts};
use crate::relation::{Relations, Target};
use crate::schema::{Stale, TableSchema};
use crate::types::{TypeCatalog, TypeRules};

/// What the configuration says about folding.
#[derive(Clone, Debug)]
pub struct FoldSettings {
    /// Which tables are wanted.
    pub selection: Selection,
    /// Whose files have the column of old rows.
    pub before: Selection,
    /// Leaves fold onto their roots; otherwise every leaf is a table of its own.
    pub fold_to_root: bool,
    /// Which tables are leaves by their names. The caller says so of all that it finds; here it counts for those that are in no catalog any more.
    pub patterns: Patterns,
    /// Of which tables a TRUNCATE becomes a `T`; of the others it is only reported.
    pub mark_truncate: ByTable<bool>,
    /// Which forms types have in the lake.
    pub types: TypeRules,
}

/// A table as the fold knows it. The caller persists it and brings it back with [`Fold::restore_table`].
#[derive(Clone, Debug)]
pub struct Table {
    /// Its place.
    pub index: TableIndex,
    /// The relation that it is.
    pub oid: Oid,
    /// Its schema when it was first seen; a later SET SCHEMA does not move it (T28).
    pub schema_name: String,
    /// Its name when it was first seen; followed by its OID if another table had that name before (T41).
    pub name: String,
    /// Its schema and name in Postgres as last heard, if it was renamed since.
    pub renamed: Option<(String, String)>,
    /// The newest version of its columns.
    pub current: Arc<TableSchema>,
}

/// Folds the messages of a session onto tables.
pub struct Fold {
    settings: FoldSettings,
    reserved: Reserved,
    lineage: Lineage,
    types: TypeCatalog,
    /// Types that the catalogs do not have any more.
    types_gone: FxHashSet<Oid>,
    /// Answers about the columns of relations, until they are used.
    columns: FxHashMap<Oid, Vec<ColumnFacts>>,
    relations: Relations,
    plans: Plans,
    tables: Vec<Table>,
    table_of: FxHashMap<Oid, TableIndex>,
    /// Roots whose rows come under their own name, with a leaf whose old rows do not hold the root's key (T24).
    clashes: FxHashMap<Oid, Oid>,
    /// Relations that were announced with another identity than FULL.
    partial: FxHashSet<Oid>,
    /// Relations with columns of their own of which the lake may have rows.
    written: FxHashSet<Oid>,
    /// What was said of named groups.
    group_problems: FxHashSet<(TableIndex, String, GroupProblem)>,
    /// Schemas and names of `tables`.
    names_taken: FxHashSet<(String, String)>,
    /// Of the tables that appeared last, the oldest first.
    schemas: VecDeque<Weak<TableSchema>>,
    transaction: Transaction,
    resume_lsn: Lsn,
    events: Vec<FoldEvent>,
}

/// What a message came to.
#[derive(Clone, Debug)]
pub enum Folded<'f, 'a> {
    /// Nothing for the caller.
    Nothing,
    /// A transaction opens. One that is dropped opens too.
    Begin(TxStamp),
    /// A transaction is complete.
    Commit {
        /// Position of the commit record.
        commit_lsn: Lsn,
        /// Position after it: where a resume starts.
        end_lsn: Lsn,
        /// When it committed.
        time: PgTimestamp,
        /// Changes that it came to; none if it was dropped, or touched no wanted table.
        changes: u64,
        /// It was published before the resume point, so that nothing of it came out.
        dropped: bool,
    },
    /// One change.
    One(Change<'f, 'a>),
    /// A row that left its key: delete, then insert.
    Two(Change<'f, 'a>, Change<'f, 'a>),
    /// A truncate of several relations.
    Many(Vec<Change<'f, 'a>>),
    /// Nothing was done: these must be learnt ([`Fold::learn`]), and the message applied again. Sorted.
    NeedFacts {
        /// Relations to look up, with their roots.
        relations: Vec<Oid>,
        /// Types to look up.
        types: Vec<Oid>,
        /// Relations whose columns are to be looked up.
        columns: Vec<Oid>,
    },
    /// `pg_logical_emit_message`. Its position is no progress (T20).
    Logical {
        /// Belongs to the open transaction, and came about only because that committed.
        transactional: bool,
        /// Its position.
        lsn: Lsn,
        /// What kind it is.
        prefix: &'a str,
        /// What it says.
        content: &'a [u8],
    },
}

/// News for the log and the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoldEvent {
    /// The first row of a table came.
    TableAppeared {
        /// The table.
        table: TableIndex,
    },
    /// A table has a new schema version.
    SchemaChanged {
        /// The table.
        table: TableIndex,
        /// The version before.
        from: u32,
        /// The version now.
        to: u32,
    },
    /// A table has another name or schema in Postgres (T28).
    Renamed {
        /// The table.
        table: TableIndex,
        /// Its schema now.
        schema_name: String,
        /// Its name now.
        name: String,
    },
    /// Loud: rows written before may differ from Postgres by now, and no change says how (T39, T40).
    Stale {
        /// The table.
        table: TableIndex,
        /// The column, and why.
        stale: Stale,
    },
    /// A relation of a table was truncated, whether or not that is marked in the table.
    Truncated {
        /// The table.
        table: TableIndex,
        /// `schema.name` of the relation.
        relation: String,
        /// The transaction's commit record.
        lsn: Lsn,
    },
    /// Loud: a root was truncated and leaves of it were not, so that no `T` can tell. Its own rows stay.
    TruncatedAlone {
        /// The table.
        table: TableIndex,
    },
    /// Leaves became known, or have another root than before.
    Lineage {
        /// Their root.
        root: Oid,
        /// Each with its `schema.name`.
        leaves: Vec<(Oid, String)>,
    },
    /// Loud: rows of a relation do not have what its name should tell. Said once a table and column.
    Group {
        /// The table.
        table: TableIndex,
        /// `schema.name` of the relation.
        relation: String,
        /// The named group, which is a column of the table.
        column: String,
        /// Why.
        problem: GroupProblem,
    },
    /// Loud: the catalogs do not know where this relation belongs, so it has a table of its own.
    Orphan {
        /// The relation.
        oid: Oid,
        /// Its `schema.name`.
        name: String,
    },
    /// Loud: rows come under the root's name with old rows as the leaf's identity has them, so a NULL in
    /// an old row may be false (T24).
    IdentityDiffers {
        /// The root.
        root: Oid,
        /// One of the leaves that differ.
        leaf: Oid,
    },
}

/// Why rows do not have what a named group of a pattern tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupProblem {
    /// The relation has a column of that name, which counts.
    HasColumn,
    /// Another relation of the table has a column of that name and of another type.
    OtherType,
    /// The name of the relation does not tell it: it is a leaf for another reason, or the group took no part.
    NotInName,
}

/// The stream contradicts itself, or speaks of what was not asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// A transaction opened inside another.
    #[error("transaction at {final_lsn} begins before the one at {open_lsn} has committed")]
    BeginInside {
        /// The new one's commit record.
        final_lsn: Lsn,
        /// The open one's.
        open_lsn: Lsn,
    },
    /// A commit of nothing.
    #[error("commit at {commit_lsn} without a begin")]
    CommitOutside {
        /// Its position.
        commit_lsn: Lsn,
    },
    /// A commit of something else.
    #[error("commit at {commit_lsn} ends a transaction that was to commit at {final_lsn}")]
    CommitElsewhere {
        /// The commit's position.
        commit_lsn: Lsn,
        /// What the begin had said.
        final_lsn: Lsn,
    },
    /// A change outside of any transaction.
    #[error("a change of relation {relation} outside of a transaction")]
    ChangeOutside {
        /// The relation.
        relation: Oid,
    },
    /// A change of a relation that was not announced in this session.
    #[error("a change of relation {relation}, which was not announced")]
    UnknownRelation {
        /// The relation.
        relation: Oid,
    },
    /// A tuple that the announcement does not describe (T06).
    #[error("a tuple of relation {relation} has {cells} cells where {columns} columns were announced")]
    CellCount {
        /// The relation.
        relation: Oid,
        /// What came.
        cells: usize,
        /// What was announced.
        columns: usize,
    },
    /// A message of a mode that was not asked for.
    #[error("a {message} message, which was not negotiated")]
    NotNegotiated {
        /// Its name.
        message: &'static str,
    },
    /// An update or delete that may be of a leaf whose old rows do not tell the key of its root (T24).
    #[error(
        "an update or delete of {root}, whose partition {leaf} identifies its old rows by other columns than {root}'s key ({key})"
    )]
    IdentityClash {
        /// The root.
        root: String,
        /// The leaf.
        leaf: String,
        /// The columns of the root's key.
        key: String,
    },
    /// A limit of ours.
    #[error("more {what} than can be numbered")]
    TooMany {
        /// Of what.
        what: &'static str,
    },
    /// A bug of ours: a schema that lacks what it was made for.
    #[error("the table of relation {relation} has no column for {column}")]
    NoColumn {
        /// The relation.
        relation: Oid,
        /// The column in Postgres.
        column: String,
    },
}

enum Transaction {
    Closed,
    Open(Open),
    /// Published before the resume point.
    Dropped {
        commit_lsn: Lsn,
    },
}

struct Open {
    stamp: TxStamp,
    /// Numbers given out. Every message that changes a row takes one, wanted or not, so that the settings do
    /// not move the numbers of others.
    seq: i64,
    /// Changes that came out.
    changes: u64,
}

/// Where a change of a relation goes.
enum Route {
    /// Nowhere: it was published before.
    Drop,
    /// Nowhere: it only takes a number.
    Exclude,
    Ask(Box<Missing>),
    Plan(u32),
}

/// What one message does to the rows of a table.
enum Rows<'a> {
    One(Op, Image<'a>),
    /// The row left its key.
    Move {
        old: Image<'a>,
        new: Image<'a>,
    },
}

impl Fold {
    /// Knows nothing yet.
    pub fn new(settings: FoldSettings) -> Fold {
        let types = TypeCatalog::new(settings.types.clone());
        Fold {
            settings,
            reserved: Reserved::default(),
            lineage: Lineage::default(),
            types,
            types_gone: FxHashSet::default(),
            columns: FxHashMap::default(),
            relations: Relations::default(),
            plans: Plans::default(),
            tables: Vec::new(),
            table_of: FxHashMap::default(),
            clashes: FxHashMap::default(),
            partial: FxHashSet::default(),
            written: FxHashSet::default(),
            group_problems: FxHashSet::default(),
            names_taken: FxHashSet::default(),
            schemas: VecDeque::new(),
            transaction: Transaction::Closed,
            resume_lsn: Lsn::ZERO,
            events: Vec::new(),
        }
    }

    /// Keeps names from columns that tables get from here on. Called before any table is there.
    pub fn reserve(&mut self, names: Reserved) {
        self.reserved = names;
    }

    /// Brings back a table of an earlier run, before the first session.
    ///
    /// # Panics
    /// If there are more than `u32::MAX` tables.
    pub fn restore_table(
        &mut self,
        oid: Oid,
        schema_name: String,
        name: String,
        schema: impl Into<Arc<TableSchema>>,
    ) -> TableIndex {
        let mut schema = schema.into();
        let reserved = self.reserved.of(std::iter::once((schema_name.as_str(), name.as_str())));
        if !reserved.is_empty() {
            Arc::make_mut(&mut schema).reserved = reserved;
        }
        self.push_table(oid, schema_name, name, schema)
            .expect("a log that names 4 billion tables does not fit memory")
    }

    /// Brings back the name that a restored table was last heard of by.
    pub fn restore_name(&mut self, table: TableIndex, schema_name: String, name: String) {
        if let Some(table) = usize::try_from(table.0).ok().and_then(|at| self.tables.get_mut(at)) {
            table.renamed = Some((schema_name, name));
        }
    }

    /// Adds what the catalogs said. Later facts win, but a leaf that was known stays known, under its first name.
    ///
    /// Answers which relations are leaves by their names, which the stream told, and are in no catalog.
    pub fn learn(&mut self, mut facts: Facts) -> Vec<Oid> {
        let adopted = self.adopt_by_name(&mut facts);
        let learned = self.lineage.learn(&facts, |oid| self.table_of.contains_key(&oid));
        let mut replan = learned.replan;
        for root in &facts.roots {
            self.note_name(root.oid, &root.schema, &root.name);
        }
        self.events
            .extend(learned.news.into_iter().map(|(root, leaves)| FoldEvent::Lineage { root, leaves }));
        self.types_gone.extend(&facts.gone);
        for facts in facts.types {
            replan |= self.types_gone.remove(&facts.oid);
            self.types.learn(facts);
        }
        self.columns.extend(facts.columns);
        if replan {
            self.unplan_all();
        }
        adopted
    }

    /// Brings back leaves of an earlier run, before the first session.
    pub fn restore_leaves(&mut self, leaves: Vec<LeafFacts>) {
        self.written.extend(leaves.iter().map(|leaf| leaf.oid));
        self.learn(Facts { leaves, ..Facts::default() });
        // What was known is no news.
        self.take_events();
    }

    /// What is gone from the catalogs and matches a pattern was a leaf.
    fn adopt_by_name(&self, facts: &mut Facts) -> Vec<Oid> {
        let mut adopted = Vec::new();
        let Facts { roots, leaves, gone, .. } = facts;
        if self.settings.patterns.is_empty() || !self.settings.fold_to_root {
            return adopted;
        }
        gone.retain(|&oid| {
            let name = self.relations.name(oid).filter(|_| !self.is_known(oid));
            let Some((schema, name)) = name else { return true };
            // One that two patterns claim is nobody's, loudly.
            let Ok(Some(pattern)) = self.settings.patterns.of(schema, name) else { return true };
            let (target, (made_up, is_logged)) = (pattern.target(), pattern.root());
            let known = self.lineage.root_named(target).filter(|root| !is_logged || *root == made_up);
            let root = known.unwrap_or(made_up);
            let replica_identity = ReplicaIdentity::Default;
            if known.is_none() && roots.iter().all(|other| other.oid != root) {
                let (schema, name) = (target.0.to_owned(), target.1.to_owned());
                roots.push(RootFacts { oid: root, schema, name, primary_key: Vec::new(), replica_identity });
            }
            let (schema, name) = (schema.to_owned(), name.to_owned());
            leaves.push(LeafFacts { oid, schema, name, root, link: Link::Rule, replica_identity });
            adopted.push(oid);
            false
        });
        adopted
    }

    /// Brings back a leaf of an earlier run that was detached or dropped: nobody else gets its name, which is `schema.name`.
    pub fn restore_detached(&mut self, oid: Oid, name: &str) {
        self.lineage.restore_detached(oid, name.split_once('.').unwrap_or(("", name)));
    }

    /// A leaf is nobody's leaf from this point of the stream on. Its root and the `schema.name` that its rows have there; `None` if it was none.
    pub fn detach(&mut self, leaf: Oid) -> Option<(Oid, String)> {
        let root = self.lineage.detach(leaf)?;
        let name = self.lineage.first_name(leaf).map(|(schema, name)| format!("{schema}.{name}"));
        if let Some(Target::Plan(number)) = self.relations.target(leaf) {
            self.plans.remove(number);
            self.relations.set_target(leaf, Target::Unplanned);
        }
        Some((root, name.unwrap_or_default()))
    }

    /// Whether the stream has announced it in this run, as it does before its first row.
    pub fn is_announced(&self, relation: Oid) -> bool {
        self.relations.shape(relation).is_some()
    }

    /// Whether it is a leaf as no partition of its root, but by a rule of the configuration.
    pub fn is_by_rule(&self, leaf: Oid) -> bool {
        self.lineage.is_leaf(leaf) && self.lineage.is_by_rule(leaf)
    }

    /// Whether it was a leaf, in this run or an earlier one, and was detached.
    pub fn was_leaf(&self, relation: Oid) -> bool {
        self.lineage.was_leaf(relation)
    }

    /// The relation whose table has the rows of this one: itself, if it is nobody's leaf.
    pub fn root_of(&self, relation: Oid) -> Oid {
        if self.settings.fold_to_root { self.lineage.root_of(relation) } else { relation }
    }

    /// Whether the catalogs, or an earlier run, know it as a root that is wanted.
    pub fn is_wanted_root(&self, root: Oid) -> bool {
        (self.lineage.has_root(root) || self.table_of.contains_key(&root)) && self.is_selected(root)
    }

    /// The names of a root, by which settings mean it: of now, and in the lake.
    pub fn names_of(&self, root: Oid) -> impl Iterator<Item = (&str, &str)> + Clone {
        let in_lake = self.table_of(root).map(|index| self.table(index));
        let in_lake = in_lake.map(|table| (table.schema_name.as_str(), table.name.as_str()));
        self.lineage.name(root).into_iter().chain(in_lake)
    }

    /// Every relation that is a leaf as far as is known, in no order.
    pub fn leaves(&self) -> impl Iterator<Item = Oid> {
        self.lineage.relations().filter(|relation| self.lineage.is_leaf(*relation))
    }

    /// Whether the catalogs, or an earlier run, told of it.
    pub fn is_known(&self, relation: Oid) -> bool {
        self.lineage.name(relation).is_some() || self.table_of.contains_key(&relation)
    }

    /// `schema.name` of a relation: of a table in the lake as it is called there, of a leaf as its rows have it.
    pub fn display_name(&self, relation: Oid) -> String {
        let in_lake = self.table_of(relation).filter(|_| !self.lineage.is_leaf(relation));
        let in_lake = in_lake.map(|index| self.table(index));
        let in_lake = in_lake.map(|table| (table.schema_name.as_str(), table.name.as_str()));
        match in_lake.or_else(|| self.lineage.name(relation)) {
            Some((schema, name)) => format!("{schema}.{name}"),
            None => relation.to_string(),
        }
    }

    /// The table that a root has in the lake.
    pub fn table_of(&self, root: Oid) -> Option<TableIndex> {
        self.table_of.get(&root).copied()
    }

    /// Whether the rows of a root, as far as the catalogs told, have no key.
    pub fn is_keyless(&self, root: Oid) -> bool {
        match self.table_of(root) {
            Some(table) => self.table(table).current.key.is_empty(),
            None => self.lineage.primary_key(root).is_empty(),
        }
    }

    /// Forgets what belongs to one replication session. From here on, transactions that commit before
    /// `resume_lsn` are dropped whole (I2).
    pub fn start_session(&mut self, resume_lsn: Lsn) {
        self.relations.clear();
        self.plans.clear();
        self.columns.clear();
        self.clashes.clear();
        self.partial.clear();
        self.transaction = Transaction::Closed;
        self.resume_lsn = resume_lsn;
    }

    /// Folds one message.
    pub fn apply<'f, 'a>(&'f mut self, message: &Message<'a>) -> Result<Folded<'f, 'a>, FoldError> {
        let not_negotiated = |message| Err(FoldError::NotNegotiated { message });
        match message {
            Message::Begin(begin) => self.begin(begin),
            Message::Commit(commit) => self.commit(commit),
            Message::Relation(relation) => {
                self.announce(relation);
                Ok(Folded::Nothing)
            }
            Message::Insert(insert) => self.insert(insert),
            Message::Update(update) => self.update(update),
            Message::Delete(delete) => self.delete(delete),
            Message::Truncate(truncate) => self.truncate(truncate),
            // A Type message names a domain by its base (T43): the catalogs know better. An origin is no matter.
            Message::Type(_) | Message::Origin(_) => Ok(Folded::Nothing),
            Message::Logical(message) => {
                if message.transactional && matches!(self.transaction, Transaction::Dropped { .. }) {
                    return Ok(Folded::Nothing);
                }
                let (transactional, lsn) = (message.transactional, message.lsn);
                Ok(Folded::Logical { transactional, lsn, prefix: message.prefix, content: message.content })
            }
            Message::StreamStart(_) => not_negotiated("stream start"),
            Message::StreamStop => not_negotiated("stream stop"),
            Message::StreamCommit(_) => not_negotiated("stream commit"),
            Message::StreamAbort(_) => not_negotiated("stream abort"),
            Message::BeginPrepare(_) => not_negotiated("begin prepare"),
            Message::Prepare(_) => not_negotiated("prepare"),
            Message::CommitPrepared(_) => not_negotiated("commit prepared"),
            Message::RollbackPrepared(_) => not_negotiated("rollback prepared"),
            Message::StreamPrepare(_) => not_negotiated("stream prepare"),
        }
    }

    fn begin(&mut self, begin: &Begin) -> Result<Folded<'_, 'static>, FoldError> {
        if let Some(open_lsn) = self.transaction.commit_lsn() {
            return Err(FoldError::BeginInside { final_lsn: begin.final_lsn, open_lsn });
        }
        let commit_lsn = begin.final_lsn;
        let commit_time_unix_micros = begin.commit_time.unix_micros();
        let stamp = TxStamp { commit_lsn, commit_time_unix_micros, xid: begin.xid };
        // I2: only this comparison decides, and the transaction at the resume point itself is new (T02, T05).
        self.transaction = if commit_lsn < self.resume_lsn {
            Transaction::Dropped { commit_lsn }
        } else {
            Transaction::Open(Open { stamp, seq: 0, changes: 0 })
        };
        Ok(Folded::Begin(stamp))
    }

    fn commit(&mut self, commit: &Commit) -> Result<Folded<'_, 'static>, FoldError> {
        let Commit { commit_lsn, end_lsn, commit_time: time } = *commit;
        match self.transaction.commit_lsn() {
            None => return Err(FoldError::CommitOutside { commit_lsn }),
            Some(final_lsn) if final_lsn != commit_lsn => {
                return Err(FoldError::CommitElsewhere { commit_lsn, final_lsn });
            }
            Some(_) => {}
        }
        let (changes, dropped) = match std::mem::replace(&mut self.transaction, Transaction::Closed) {
            Transaction::Open(open) => (open.changes, false),
            Transaction::Dropped { .. } | Transaction::Closed => (0, true),
        };
        Ok(Folded::Commit { commit_lsn, end_lsn, time, changes, dropped })
    }

    /// T26, T27: this runs for every leaf whenever anybody vacuums, and mostly says nothing new.
    fn announce(&mut self, relation: &Relation<'_>) {
        self.note_name(relation.oid, relation.namespace, relation.name);
        let keep_name = || self.lineage.name(relation.oid).is_none();
        let Some(before) = self.relations.announce(relation, keep_name) else { return };
        if let Target::Plan(number) = before {
            self.plans.remove(number);
        }
        self.note_identity(relation);
        let root = self.lineage.root_of(relation.oid);
        if root != relation.oid && matches!(self.relations.target(root), Some(Target::Plan(_))) {
            self.compare_identity(root, relation.oid);
        }
    }

    /// T24: an old row under a root's name is only as whole as the leaf's own identity makes it, and leaves are announced beside
    /// their root. Plans that this touches are made anew.
    fn note_identity(&mut self, relation: &Relation<'_>) {
        if self.settings.before.is_empty() {
            return;
        }
        let oid = relation.oid;
        let (is_partial, is_news) = match relation.replica_identity {
            ReplicaIdentity::Full => (false, self.partial.remove(&oid)),
            ReplicaIdentity::Default | ReplicaIdentity::Nothing | ReplicaIdentity::Index => {
                (true, self.partial.insert(oid))
            }
        };
        if !is_news {
            return;
        }
        if self.is_unknown(oid) {
            return self.unplan_all();
        }
        let root = self.lineage.root_of(oid);
        let Some(Target::Plan(number)) = self.relations.target(root).filter(|_| root != oid) else { return };
        let is_touched = |plan: &Plan| plan.schema.before && plan.old_is_whole == is_partial;
        if self.plans.get(number).is_some_and(|planned| is_touched(&planned.plan)) {
            self.plans.remove(number);
            self.relations.set_target(root, Target::Unplanned);
        }
    }

    /// Remembers what a table is called in Postgres, where that is not what it is called in the lake.
    fn note_name(&mut self, oid: Oid, schema_name: &str, name: &str) {
        let Some(&index) = self.table_of.get(&oid) else { return };
        let Some(table) = usize::try_from(index.0).ok().and_then(|at| self.tables.get_mut(at)) else {
            return;
        };
        let in_lake = (&table.schema_name, &table.name);
        let known = table.renamed.as_ref().map_or(in_lake, |(schema, name)| (schema, name));
        // The wire has no name for pg_catalog.
        if schema_name.is_empty() || (known.0 == schema_name && known.1 == name) {
            return;
        }
        let (schema_name, name) = (schema_name.to_owned(), name.to_owned());
        table.renamed = Some((schema_name.clone(), name.clone()));
        self.events.push(FoldEvent::Renamed { table: index, schema_name, name });
    }

    fn insert<'a>(&mut self, insert: &Insert<'a>) -> Result<Folded<'_, 'a>, FoldError> {
        // T12: a row filter can make an insert of an update, with cells unchanged.
        self.row(insert.relation, &[insert.new], false, |_| Rows::One(Op::Insert, row(insert.new, None)))
    }

    fn update<'a>(&mut self, update: &Update<'a>) -> Result<Folded<'_, 'a>, FoldError> {
        match &update.old {
            None => self
                .row(update.relation, &[update.new], true, |_| Rows::One(Op::Update, row(update.new, None))),
            Some(old) => self.row(update.relation, &[old.tuple(), update.new], true, |plan| {
                let image = row(update.new, Some(*old));
                match leaves_key(plan, old, update.new) {
                    true => Rows::Move { old: Image::Old(*old), new: image },
                    false => Rows::One(Op::Update, image),
                }
            }),
        }
    }

    fn delete<'a>(&mut self, delete: &Delete<'a>) -> Result<Folded<'_, 'a>, FoldError> {
        let old = delete.old;
        self.row(delete.relation, &[old.tuple()], true, |_| Rows::One(Op::Delete, Image::Old(old)))
    }

    /// Folds a message of one relation: `judge` says what its tuples come to. Whether it speaks of a row that was there before.
    fn row<'a>(
        &mut self,
        relation: Oid,
        tuples: &[Tuple<'a>],
        is_of_old_row: bool,
        judge: impl FnOnce(&Plan) -> Rows<'a>,
    ) -> Result<Folded<'_, 'a>, FoldError> {
        let number = match self.route(relation)? {
            Route::Plan(number) => number,
            Route::Drop => return Ok(Folded::Nothing),
            Route::Exclude => {
                let columns = self.relations.shape(relation).map_or(0, |shape| shape.columns.len());
                expect_cells(relation, tuples, columns)?;
                self.transaction.open(relation)?.number();
                return Ok(Folded::Nothing);
            }
            Route::Ask(missing) => return Ok(need_facts(*missing)),
        };
        if is_of_old_row && let Some(leaf) = self.clashes.get(&relation) {
            return Err(self.clash(relation, *leaf));
        }
        let Some(Planned { table, plan, .. }) = self.plans.get(number) else {
            return Err(FoldError::UnknownRelation { relation });
        };
        expect_cells(relation, tuples, plan.columns.len())?;
        let open = self.transaction.open(relation)?;
        let mut change = |op, image| Change { table: *table, op, seq: open.change(), plan, image };
        Ok(match judge(plan) {
            Rows::One(op, image) => Folded::One(change(op, image)),
            Rows::Move { old, new } => {
                let delete = change(Op::Delete, old);
                Folded::Two(delete, change(Op::Insert, new))
            }
        })
    }

    fn truncate<'a>(&mut self, truncate: &Truncate) -> Result<Folded<'_, 'a>, FoldError> {
        let mut missing = Missing::default();
        self.forget_plans_if_full();
        for &relation in &truncate.relations {
            match self.target(relation)? {
                None => return Ok(Folded::Nothing),
                Some(Target::Unplanned) => self.missing_for(relation, &mut missing),
                Some(Target::Excluded | Target::Plan(_)) => {}
            }
        }
        if !missing.is_empty() {
            return Ok(need_facts(missing.sorted()));
        }
        let mut targets = Vec::with_capacity(truncate.relations.len());
        for &relation in &truncate.relations {
            let target = match self.relations.target(relation) {
                Some(Target::Unplanned) | None => self.plan_now(relation)?,
                Some(target) => target,
            };
            targets.push((relation, target));
        }
        let mut changes = Vec::new();
        for (relation, target) in targets {
            let Target::Plan(number) = target else {
                self.transaction.open(relation)?.number();
                continue;
            };
            let Some(Planned { table, plan, .. }) = self.plans.get(number) else {
                return Err(FoldError::UnknownRelation { relation });
            };
            let is_marked = self.settings.mark_truncate.of(self.names_of(self.table(*table).oid));
            let is_alone = self.is_truncated_alone(relation, truncate);
            let open = self.transaction.open(relation)?;
            let (lsn, name) = (open.stamp.commit_lsn, plan.relation.to_string());
            if is_alone && is_marked {
                self.events.push(FoldEvent::TruncatedAlone { table: *table });
            }
            self.events.push(FoldEvent::Truncated { table: *table, relation: name, lsn });
            if is_marked && !is_alone {
                let (op, seq) = (Op::Truncate, open.change());
                changes.push(Change { table: *table, op, seq, plan, image: Image::Empty });
            } else {
                open.number();
            }
        }
        Ok(match changes.as_slice() {
            [] => Folded::Nothing,
            [one] => Folded::One(*one),
            [_, _, ..] => Folded::Many(changes),
        })
    }

    /// Whether it is a root with rows of its own, and has leaves that keep theirs. A `T` of the root would be one of all.
    fn is_truncated_alone(&self, relation: Oid, truncate: &Truncate) -> bool {
        self.lineage.is_loose(relation)
            && self.root_of(relation) == relation
            && self
                .leaves()
                .any(|leaf| self.lineage.root_of(leaf) == relation && !truncate.relations.contains(&leaf))
    }

    fn route(&mut self, relation: Oid) -> Result<Route, FoldError> {
        Ok(match self.target(relation)? {
            Some(Target::Plan(number)) => Route::Plan(number),
            Some(Target::Excluded) => Route::Exclude,
            Some(Target::Unplanned) => self.first_row(relation)?,
            None => Route::Drop,
        })
    }

    /// Where changes of the relation go; `None` if the open transaction is dropped.
    fn target(&self, relation: Oid) -> Result<Option<Target>, FoldError> {
        match &self.transaction {
            Transaction::Open(_) => match self.relations.target(relation) {
                Some(target) => Ok(Some(target)),
                None => Err(FoldError::UnknownRelation { relation }),
            },
            Transaction::Dropped { .. } => Ok(None),
            Transaction::Closed => Err(FoldError::ChangeOutside { relation }),
        }
    }

    #[cold]
    fn first_row(&mut self, relation: Oid) -> Result<Route, FoldError> {
        let mut missing = Missing::default();
        self.missing_for(relation, &mut missing);
        if !missing.is_empty() {
            return Ok(Route::Ask(Box::new(missing.sorted())));
        }
        self.forget_plans_if_full();
        Ok(match self.plan_now(relation)? {
            Target::Plan(number) => Route::Plan(number),
            Target::Excluded | Target::Unplanned => Route::Exclude,
        })
    }

    fn plan_now(&mut self, relation: Oid) -> Result<Target, FoldError> {
        let target = self.plan(relation)?;
        self.relations.set_target(relation, target);
        Ok(target)
    }

    fn forget_plans_if_full(&mut self) {
        if self.plans.is_full() {
            self.unplan_all();
        }
    }

    fn unplan_all(&mut self) {
        self.relations.unplan_all();
        self.plans.clear();
    }

    /// News since the last call.
    pub fn take_events(&mut self) -> Vec<FoldEvent> {
        std::mem::take(&mut self.events)
    }

    /// A table.
    ///
    /// # Panics
    /// If the index is not one of this fold's.
    pub fn table(&self, index: TableIndex) -> &Table {
        let at = usize::try_from(index.0).ok();
        at.and_then(|at| self.tables.get(at))
            .expect("a table index comes from this fold, which forgets no table")
    }

    /// All tables, by index.
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// Whether a transaction is open, dropped or not.
    pub fn in_transaction(&self) -> bool {
        self.transaction.commit_lsn().is_some()
    }
}

impl Transaction {
    fn commit_lsn(&self) -> Option<Lsn> {
        match self {
            Transaction::Closed => None,
            Transaction::Open(open) => Some(open.stamp.commit_lsn),
            Transaction::Dropped { commit_lsn } => Some(*commit_lsn),
        }
    }

    fn open(&mut self, relation: Oid) -> Result<&mut Open, FoldError> {
        match self {
            Transaction::Open(open) => Ok(open),
            Transaction::Dropped { .. } | Transaction::Closed => Err(FoldError::ChangeOutside { relation }),
        }
    }
}

impl Open {
    fn number(&mut self) -> i64 {
        self.seq += 1;
        self.seq
    }

    fn change(&mut self) -> i64 {
        self.changes += 1;
        self.number()
    }
}

fn expect_cells(relation: Oid, tuples: &[Tuple<'_>], columns: usize) -> Result<(), FoldError> {
    match tuples.iter().find(|tuple| tuple.len() != columns) {
        Some(tuple) => Err(FoldError::CellCount { relation, cells: tuple.len(), columns }),
        None => Ok(()),
    }
}

fn row<'a>(tuple: Tuple<'a>, fill: Option<OldTuple<'a>>) -> Image<'a> {
    Image::Row { tuple, fill }
}

fn need_facts<'f, 'a>(missing: Missing) -> Folded<'f, 'a> {
    let Missing { relations, types, columns } = missing;
    Folded::NeedFacts { relations, types, columns }
}

/// Whether an update took its row from one key to another.
///
/// A `K` tuple comes also for a key that is only out of line (T09), and may hold more than the key (T24); a NULL in
/// an old tuple may be false. So only values are compared, those of the key where there are any.
fn leaves_key(plan: &Plan, old: &OldTuple<'_>, new: Tuple<'_>) -> bool {
    if plan.key.is_empty() && matches!(old, OldTuple::Full(_)) {
        // Without a key a row is all its cells, and every update replaces it.
        return true;
    }
    let mut keys = plan.key.iter().map(|&at| usize::from(at)).peekable();
    let (mut key_sent, mut key_differs, mut any_differs) = (false, false, false);
    for (at, (was, is)) in old.tuple().cells().zip(new.cells()).enumerate() {
        let is_key = keys.next_if_eq(&at).is_some();
        if matches!(was, Cell::Null | Cell::Unchanged) {
            continue;
        }
        let differs = is != Cell::Unchanged && is != was;
        any_differs |= differs;
        key_sent |= is_key;
        key_differs |= is_key && differs;
    }
    match old {
        OldTuple::Key(_) if !key_sent => any_differs,
        OldTuple::Key(_) | OldTuple::Full(_) => key_differs,
    }
}

#[cfg(test)]
mod tests;

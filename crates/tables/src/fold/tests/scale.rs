//! Many leaves and wide tables: what a relation costs.

use std::sync::Arc;

use pgoutput::encode::TupleBuilder;
use pgoutput::{
    Begin, Insert, Lsn, Message, Oid, PgTimestamp, Relation, RelationColumn, ReplicaIdentity, Xid,
};

use super::super::{ByTable, Fold, FoldEvent, FoldSettings, Folded, Patterns, Selection};
use crate::lineage::{Facts, LeafFacts, Link, RootFacts};
use crate::types::TypeRules;

const ROOT: u32 = 1;

/// A root with that many leaves, in an open transaction.
fn fold(leaves: u32) -> Fold {
    let leaf = |oid| LeafFacts {
        oid: Oid(oid),
        schema: "public".to_owned(),
        name: format!("leaf_{oid}"),
        root: Oid(ROOT),
        link: Link::default(),
        replica_identity: ReplicaIdentity::Default,
    };
    let leaves = (ROOT + 1..=ROOT + leaves).map(leaf).collect();
    fold_of(Facts { roots: vec![root(ROOT)], leaves, ..Facts::default() })
}

fn root(oid: u32) -> RootFacts {
    let (schema, primary_key) = ("public".to_owned(), vec!["c0".to_owned()]);
    let (name, replica_identity) = (format!("root_{oid}"), ReplicaIdentity::Default);
    RootFacts { oid: Oid(oid), schema, name, primary_key, replica_identity }
}

fn fold_of(facts: Facts) -> Fold {
    let selection = Selection::new(&["*.*".to_owned()], &[]).unwrap();
    let mut fold = Fold::new(FoldSettings {
        selection,
        before: Selection::new(&[], &[]).unwrap(),
        fold_to_root: true,
        patterns: Patterns::default(),
        mark_truncate: ByTable::same(true),
        types: TypeRules::default(),
    });
    fold.learn(facts);
    fold.take_events();
    let begin = Begin { final_lsn: Lsn(0x100), commit_time: PgTimestamp(0), xid: Xid(7) };
    fold.apply(&Message::Begin(begin)).unwrap();
    fold
}

fn names(columns: usize) -> Vec<String> {
    (0..columns).map(|at| format!("c{at}")).collect()
}

fn relation<'a>(oid: u32, names: &'a [String]) -> Message<'a> {
    let columns = names.iter().map(|name| RelationColumn {
        is_identity: name == "c0",
        name,
        type_oid: Oid(20),
        type_modifier: -1,
    });
    Message::Relation(Relation {
        xid: None,
        oid: Oid(oid),
        namespace: "public",
        name: "as the stream says",
        replica_identity: ReplicaIdentity::Default,
        columns: columns.collect(),
    })
}

fn row(columns: usize) -> TupleBuilder {
    (0..columns).fold(TupleBuilder::new(), |tuple, _| tuple.text("1"))
}

fn insert(fold: &mut Fold, oid: u32, row: &TupleBuilder) -> i64 {
    let message = Message::Insert(Insert { xid: None, relation: Oid(oid), new: row.tuple() });
    match fold.apply(&message) {
        Ok(Folded::NeedFacts { columns, .. }) if !columns.is_empty() => {
            let columns = columns.into_iter().map(|oid| (oid, Vec::new())).collect();
            fold.learn(Facts { columns, ..Facts::default() });
            insert(fold, oid, row)
        }
        Ok(Folded::One(change)) => {
            let relation = &*change.plan.relation;
            assert!(relation == format!("public.leaf_{oid}") || relation == format!("public.root_{oid}"));
            change.seq
        }
        other => panic!("{other:?}"),
    }
}

/// T26
#[test]
fn t26_leaves_that_never_send_a_row_cost_no_plan() {
    let (leaves, names) = (50_000, names(20));
    let mut fold = fold(leaves);
    for oid in ROOT..=ROOT + leaves {
        assert!(matches!(fold.apply(&relation(oid, &names)), Ok(Folded::Nothing)));
    }
    assert!(fold.tables().is_empty());
    assert_eq!(insert(&mut fold, ROOT, &row(20)), 1);
    assert_eq!(fold.plans.cells(), 20);
    assert_eq!(fold.take_events(), [FoldEvent::TableAppeared { table: fold.tables()[0].index }]);
}

/// T27
#[test]
fn t27_a_storm_in_a_transaction_changes_nothing() {
    let names = names(20);
    let mut fold = fold(2);
    fold.apply(&relation(2, &names)).unwrap();
    insert(&mut fold, 2, &row(20));
    let message = relation(2, &names);
    for _ in 0..200_000 {
        assert!(matches!(fold.apply(&message), Ok(Folded::Nothing)));
    }
    assert_eq!(insert(&mut fold, 2, &row(20)), 2);
    assert_eq!(fold.plans.cells(), 20);
    assert_eq!(fold.take_events().len(), 1);
}

#[test]
fn leaves_of_one_shape_make_one_version() {
    let (leaves, names) = (5_000, names(20));
    let mut fold = fold(leaves);
    for oid in ROOT + 1..=ROOT + leaves {
        fold.apply(&relation(oid, &names)).unwrap();
        insert(&mut fold, oid, &row(20));
    }
    assert_eq!((fold.tables().len(), fold.tables()[0].current.id), (1, 1));
    // One leaf brings a column: every plan goes on under the new version, and none is made again.
    let before = Arc::clone(&fold.tables()[0].current);
    let wider = self::names(21);
    fold.apply(&relation(2, &wider)).unwrap();
    insert(&mut fold, 2, &row(21));
    insert(&mut fold, 3, &row(20));
    assert_eq!(fold.tables()[0].current.id, 2);
    assert_eq!(Arc::strong_count(&before), 1, "somebody still writes the old version");
}

/// 20,000 leaves of 1,600 columns would hold 128 MB of column numbers.
#[test]
fn leaves_of_one_shape_share_where_their_cells_land() {
    let (leaves, names) = (2_000, names(1_600));
    let mut fold = fold(leaves);
    for oid in ROOT + 1..=ROOT + leaves {
        fold.apply(&relation(oid, &names)).unwrap();
        insert(&mut fold, oid, &row(1_600));
    }
    assert_eq!(fold.plans.cells(), 1_600);
    assert_eq!(fold.plans.landings(), 1);
    // One leaf brings a column.
    let wider = self::names(1_601);
    fold.apply(&relation(2, &wider)).unwrap();
    insert(&mut fold, 2, &row(1_601));
    assert_eq!(insert(&mut fold, 3, &row(1_600)), i64::from(leaves) + 2);
    assert_eq!(fold.plans.landings(), 2);
    // Six numbers for the column that the others have no cell of.
    let leaf = 1_601;
    assert_eq!(fold.plans.cells(), 1_600 + 6 + leaf);
    // What many hold goes with the last of them, and the first of them was another.
    let narrow = self::names(1);
    fold.apply(&relation(2, &narrow)).unwrap();
    for oid in ROOT + 2..=ROOT + leaves {
        assert_eq!(fold.plans.cells(), 1_600 + 6);
        fold.apply(&relation(oid, &narrow)).unwrap();
    }
    assert_eq!(fold.plans.cells(), 0);
}

#[test]
fn plans_of_wide_tables_are_bounded() {
    let (tables, names) = (6_000, names(1_600));
    let mut fold = fold_of(Facts { roots: (1..=tables).map(root).collect(), ..Facts::default() });
    let row = row(1_600);
    for oid in 1..=tables {
        fold.apply(&relation(oid, &names)).unwrap();
        insert(&mut fold, oid, &row);
        assert!(fold.plans.cells() <= (8 << 20) + 1_600);
    }
    // What was forgotten is made again, and nothing else changes.
    assert!(fold.plans.cells() < 2_000 * 1_600);
    assert_eq!(insert(&mut fold, 2, &row), 6_001);
    assert_eq!(fold.tables()[1].current.id, 1);
}

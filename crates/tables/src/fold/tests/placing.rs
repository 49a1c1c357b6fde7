//! Rows that a snapshot reads land where the stream's would.

use pgoutput::encode::TupleBuilder;
use pgoutput::{
    Begin, Insert, Lsn, Message, Oid, PgTimestamp, Relation, RelationColumn, ReplicaIdentity, Xid,
};

use super::super::{ByTable, Fold, FoldEvent, FoldSettings, Folded, Named, Patterns, Placed, Selection};
use crate::change::Plan;
use crate::lineage::{ColumnFacts, Facts, LeafFacts, Link, RootFacts};
use crate::types::TypeRules;

const ROOT: Oid = Oid(100);
const LEAF: Oid = Oid(101);

fn fold(include: &str) -> Fold {
    let selection = Selection::new(&[include.to_owned()], &[]).unwrap();
    let before = Selection::new(&[], &[]).unwrap();
    let types = TypeRules::default();
    let mut fold = Fold::new(FoldSettings {
        selection,
        before,
        fold_to_root: true,
        patterns: Patterns::default(),
        mark_truncate: ByTable::same(true),
        types,
    });
    fold.learn(Facts {
        roots: vec![RootFacts {
            oid: ROOT,
            schema: "s".to_owned(),
            name: "t".to_owned(),
            primary_key: vec!["id".to_owned()],
            replica_identity: ReplicaIdentity::Default,
        }],
        leaves: vec![LeafFacts {
            oid: LEAF,
            schema: "s".to_owned(),
            name: "t_1".to_owned(),
            root: ROOT,
            link: Link::default(),
            replica_identity: ReplicaIdentity::Default,
        }],
        ..Facts::default()
    });
    fold.start_session(Lsn::ZERO);
    fold
}

fn relation(oid: Oid, names: &[&'static str]) -> Relation<'static> {
    let column = |name: &&'static str| RelationColumn {
        is_identity: *name == "id",
        name,
        type_oid: Oid(25),
        type_modifier: -1,
    };
    Relation {
        xid: None,
        oid,
        namespace: "s",
        name: if oid == ROOT { "t" } else { "t_1" },
        replica_identity: ReplicaIdentity::Default,
        columns: names.iter().map(column).collect(),
    }
}

/// Places, and answers what the catalogs are asked for.
fn place(fold: &mut Fold, relation: &Relation<'_>) -> Option<Plan> {
    loop {
        match fold.place(relation).unwrap() {
            Placed::Rows { plan, .. } => return Some(plan),
            Placed::Excluded => return None,
            Placed::NeedFacts { relations, types, columns } => {
                assert!(relations.is_empty() && types.is_empty() && !columns.is_empty());
                let facts = |name: &str, attnum: i16| ColumnFacts {
                    name: name.to_owned(),
                    attnum,
                    missing: None,
                    has_default: false,
                    is_generated: false,
                };
                let all = vec![facts("id", 1), facts("a", 2), facts("b", 3)];
                let columns = columns.into_iter().map(|oid| (oid, all.clone())).collect();
                fold.learn(Facts { columns, ..Facts::default() });
            }
        }
    }
}

fn names(plan: &Plan) -> Vec<&str> {
    let column = |place: &u32| plan.schema.columns[usize::try_from(*place).unwrap()].source_name.as_str();
    plan.columns.iter().map(column).collect()
}

#[test]
fn rows_of_a_leaf_that_the_stream_has_not_met_make_its_table() {
    let mut fold = fold("*.*");
    let plan = place(&mut fold, &relation(LEAF, &["b", "id", "a"])).unwrap();
    assert_eq!(&*plan.relation, "s.t_1");
    assert_eq!(names(&plan), ["b", "id", "a"]);
    assert_eq!(plan.schema.key, ["id"]);
    let appeared = |event: &FoldEvent| matches!(event, FoldEvent::TableAppeared { .. });
    assert_eq!(fold.take_events().iter().filter(|event| appeared(event)).count(), 1);
    assert_eq!(fold.tables().len(), 1);
    let (_, markers) = fold.place_markers(ROOT, &[ROOT, LEAF, Oid(99)]).unwrap();
    let relations: Vec<&str> = markers.iter().map(|plan| &*plan.relation).collect();
    assert_eq!(relations, ["s.t", "s.t_1"]);
    assert!(markers.iter().all(|plan| plan.columns.is_empty()));
}

/// The order of a leaf is not that of the root under whose name its rows come.
#[test]
fn rows_that_come_under_the_name_of_the_root_keep_their_order_and_that_of_the_stream() {
    let mut fold = fold("*.*");
    let announced = relation(ROOT, &["id", "a", "b"]);
    place(&mut fold, &announced).unwrap();
    let plan = place(&mut fold, &relation(ROOT, &["b", "a", "id"])).unwrap();
    assert_eq!(&*plan.relation, "s.t");
    assert_eq!(names(&plan), ["b", "a", "id"]);
    // What the stream announced still holds for its own rows.
    fold.apply(&Message::Relation(announced)).unwrap();
    let begin = Begin { final_lsn: Lsn(9), commit_time: PgTimestamp(0), xid: Xid(1) };
    fold.apply(&Message::Begin(begin)).unwrap();
    let row = TupleBuilder::new().text(b"1").text(b"a").text(b"b");
    let insert = Insert { xid: None, relation: ROOT, new: row.tuple() };
    let message = Message::Insert(insert);
    let Folded::One(change) = fold.apply(&message).unwrap() else { panic!("one change") };
    assert_eq!(names(change.plan), ["id", "a", "b"]);
    assert_eq!(fold.tables()[0].current.id, 1);
}

#[test]
fn a_column_that_the_stream_has_not_announced_yet_is_one_more() {
    let mut fold = fold("*.*");
    place(&mut fold, &relation(LEAF, &["id", "a"])).unwrap();
    let plan = place(&mut fold, &relation(LEAF, &["id", "a", "b"])).unwrap();
    assert_eq!((plan.schema.id, names(&plan).len()), (2, 3));
    // Placed again, it changes nothing.
    let again = place(&mut fold, &relation(LEAF, &["id", "a", "b"])).unwrap();
    assert_eq!(again.schema.id, 2);
}

#[test]
fn a_root_is_named_by_itself_or_by_a_leaf() {
    let named =
        |include: &str, glob: &str| fold(include).named(&Selection::new(&[glob.to_owned()], &[]).unwrap());
    let of = |relation: Oid, name: &str| Named { relation, root: ROOT, name: name.to_owned() };
    assert_eq!(named("*.*", "s.t"), [of(ROOT, "s.t")]);
    assert_eq!(named("*.*", "s.t*"), [of(ROOT, "s.t")]);
    assert_eq!(named("*.*", "s.t_1"), [of(LEAF, "s.t_1")]);
    assert!(named("*.*", "s.other").is_empty());
    assert!(named("other.*", "s.t").is_empty());
}

#[test]
fn a_table_that_is_not_wanted_is_no_place() {
    let mut fold = fold("other.*");
    assert!(place(&mut fold, &relation(LEAF, &["id"])).is_none());
    assert!(fold.place_markers(ROOT, &[LEAF]).is_none());
}

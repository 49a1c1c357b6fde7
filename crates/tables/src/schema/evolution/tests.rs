use pgoutput::Oid;

use super::*;
use crate::types::TypeCatalog;

const INT8: u32 = 20;
const INT4: u32 = 23;
const TEXT: u32 = 25;

fn spec(name: &str, oid: u32) -> ColumnSpec {
    ColumnSpec {
        name: name.to_owned(),
        type_oid: Oid(oid),
        type_modifier: -1,
        resolved: TypeCatalog::default().resolve(Oid(oid), -1),
    }
}

fn texts(names: &str) -> Vec<ColumnSpec> {
    names.split(' ').map(|name| spec(name, TEXT)).collect()
}

/// `name=attnum`, as `pg_attribute` has them.
fn facts(columns: &str) -> Vec<ColumnFacts> {
    let facts = |word: &str| {
        let (name, attnum) = word.split_once('=').unwrap();
        ColumnFacts {
            name: name.to_owned(),
            attnum: attnum.parse().unwrap(),
            missing: None,
            has_default: false,
            is_generated: false,
        }
    };
    columns.split_whitespace().map(facts).collect()
}

/// The catalogs of a table that was announced with these columns.
fn catalog(facts: &[ColumnFacts], announced: &[ColumnSpec]) -> Catalog {
    Catalog::new(facts.to_vec(), None, announced.iter().map(|spec| spec.name.as_str()))
}

fn evolve(schema: &TableSchema, announced: &str, columns: &str) -> Option<TableSchema> {
    let announced = texts(announced);
    let evolution = schema.evolve(&announced, &[], false, &catalog(&facts(columns), &announced));
    evolution.map(|evolution| evolution.schema)
}

/// `id:lake name`, and what Postgres calls it if that differs, or `-` if it ended.
fn shown(schema: &TableSchema) -> String {
    let column = |column: &Column| {
        let source = match () {
            () if column.dropped => "-".to_owned(),
            () if column.source_name == column.name => String::new(),
            () => format!("={}", column.source_name),
        };
        format!("{}:{}{source}", column.field_id, column.name)
    };
    schema.columns.iter().map(column).collect::<Vec<_>>().join(" ")
}

/// Three columns that never changed.
fn three() -> TableSchema {
    let columns = texts("id a z");
    TableSchema::first(&columns, vec![], &catalog(&facts("id=1 a=2 z=3"), &columns), vec![])
}

fn step(schema: &TableSchema, announced: &str, columns: &str) -> (String, Vec<StaleReason>) {
    let announced = texts(announced);
    let evolution = schema.evolve(&announced, &[], false, &catalog(&facts(columns), &announced)).unwrap();
    (shown(&evolution.schema), evolution.stale.into_iter().map(|stale| stale.reason).collect())
}

#[test]
fn a_renamed_column_goes_on_under_its_new_name() {
    assert_eq!(step(&three(), "id b z", "id=1 b=2 z=3"), ("100:id 101:b 102:z".to_owned(), vec![]));
    // The last one: its place alone tells nothing.
    assert_eq!(step(&three(), "id a b", "id=1 a=2 b=3"), ("100:id 101:a 102:b".to_owned(), vec![]));
    let next = evolve(&three(), "id b z", "id=1 b=2 z=3").unwrap();
    assert_eq!(next.columns[1].former_names, ["a"]);
    // Its old name is that of another column from then on, and never its name in the lake again.
    let added = evolve(&next, "id b z a", "id=1 b=2 z=3 a=4").unwrap();
    assert_eq!(shown(&added), "100:id 101:b 102:z 103:a_2=a");
    // Renamed back, it has its own name again.
    let back = evolve(&next, "id a z", "id=1 a=2 z=3").unwrap();
    assert_eq!(
        (shown(&back).as_str(), back.columns[1].former_names.as_slice()),
        ("100:id 101:a 102:z", ["b".to_owned()].as_slice())
    );
}

#[test]
fn names_that_were_swapped_go_with_their_columns() {
    assert_eq!(step(&three(), "id z a", "id=1 z=2 a=3").0, "100:id 101:z_2=z 102:a_2=a");
}

#[test]
fn dropped_and_added_under_its_name_is_another_column() {
    assert_eq!(step(&three(), "id z a", "id=1 z=3 a=4").0, "100:id 101:a- 102:z 103:a_2=a");
    // It was away for a while.
    let without = evolve(&three(), "id z", "id=1 z=3").unwrap();
    assert_eq!(shown(&without), "100:id 101:a- 102:z");
    assert!(without.columns[1].removed);
    assert_eq!(step(&without, "id z a", "id=1 z=3 a=4").0, "100:id 101:a- 102:z 103:a_2=a");
}

#[test]
fn a_column_list_takes_a_column_out_and_back() {
    let facts = "id=1 a=2 z=3";
    assert_eq!(evolve(&three(), "id z", facts), None);
    let without = evolve(&three(), "id z", "id=1 z=3").unwrap();
    // The catalogs were of a later time than thought: the column of that number is the same column.
    assert_eq!(step(&without, "id a z", facts).0, "100:id 101:a 102:z");
}

#[test]
fn the_place_tells_what_the_catalogs_do_not() {
    // They are of a later time, when the column had a third name.
    assert_eq!(step(&three(), "id b z", "id=1 c=2 z=3"), ("100:id 101:b 102:z".to_owned(), vec![]));
    assert_eq!(step(&three(), "id b z", ""), ("100:id 101:b 102:z".to_owned(), vec![]));
    // At the end it may as well be a new one; the last column is still there, under a third name.
    assert_eq!(step(&three(), "id a b", "id=1 a=2 c=3"), ("100:id 101:a 102:b".to_owned(), vec![]));
    // The last column is gone, but may have been there; of the same type, and alone, it is more likely the same.
    assert_eq!(step(&three(), "id a b", "id=1 a=2").0, "100:id 101:a 102:b");
    // Nobody knows anything: a leaf that is gone by now may have lacked a column.
    let unclear = |columns: &str, times| (columns.to_owned(), vec![StaleReason::Unclear; times]);
    assert_eq!(step(&three(), "id a b", ""), unclear("100:id 101:a 102:z 103:b", 1));
    // Two of three are still there: which ones, their numbers tell.
    assert_eq!(step(&three(), "x y", "p=1 q=3").0, "100:x 101:a- 102:y");
    // Columns of another order have no places, but a lone one is told.
    let announced = texts("z b id");
    let of_leaf = Catalog { is_of_table: false, ..catalog(&facts("id=1 c=2 z=3"), &announced) };
    let evolution = three().evolve(&announced, &[], false, &of_leaf).unwrap();
    assert_eq!(shown(&evolution.schema), "100:id 101:b 102:z");
    // A table itself cannot have another order: names were swapped.
    assert_eq!(step(&three(), "z a id", "id=1 c=2 z=3").0, "100:z_2=z 101:a 102:id_2=id");
    assert_eq!(step(&three(), "z c b id", ""), unclear("100:id 101:a 102:z 103:c 104:b", 2));
    assert_eq!(step(&three(), "id a z b c", ""), unclear("100:id 101:a 102:z 103:b 104:c", 2));
}

#[test]
fn a_catalog_of_a_later_time_ends_nothing_early() {
    // The new column's name is that of a yet newer one by then.
    let more = evolve(&three(), "id a z more", "id=1 a=2 z=3 other=4 more=5").unwrap();
    assert_eq!(more.columns[3].attnum, None);
    // Rows of before `a` was dropped and added anew still come: only the order of numbers tells.
    assert_eq!(step(&three(), "id a z more", "id=1 z=3 more=4 a=5").0, "100:id 101:a 102:z 103:more");
    // Neither are names swapped before they are in the stream.
    assert_eq!(step(&three(), "id a z more", "id=1 z=2 a=3 more=4").0, "100:id 101:a 102:z 103:more");
}

/// T39
#[test]
fn t39_a_default_of_older_rows_is_kept_and_said() {
    let mut facts = facts("id=1 a=2 z=3 more=4 serial=5 plain=6");
    facts[3].missing = Some("7".to_owned());
    facts[3].has_default = true;
    facts[4].has_default = true;
    let announced = texts("id a z more serial plain");
    let evolution = three().evolve(&announced, &[], false, &catalog(&facts, &announced)).unwrap();
    let Evolution { schema, stale } = evolution;
    assert_eq!(schema.columns[3].initial_default.as_deref(), Some("7"));
    let reason = StaleReason::AddedWithDefault;
    let expected = ["more", "serial"].map(|column| Stale { column: column.to_owned(), reason });
    assert_eq!(stale, expected);
    // A table that is new has no older rows in the lake.
    let first = TableSchema::first(&announced, vec![], &catalog(&facts, &announced), vec![]);
    assert_eq!(first.columns[3].initial_default, None);
}

/// T40
#[test]
fn t40_a_changed_type_is_said() {
    let (facts, of) = (facts("id=1 a=2"), |name, oid| [spec("id", INT8), spec(name, oid)]);
    let before = TableSchema::first(&of("a", INT4), vec![], &catalog(&facts, &of("a", INT4)), vec![]);
    let promoted = before.evolve(&of("a", INT8), &[], false, &catalog(&facts, &of("a", INT8))).unwrap();
    assert_eq!(shown(&promoted.schema), "100:id 101:a");
    let replaced = before.evolve(&of("a", TEXT), &[], false, &catalog(&facts, &of("a", TEXT))).unwrap();
    assert_eq!(shown(&replaced.schema), "100:id 101:a- 102:a_2=a");
    assert_eq!(replaced.schema.columns[2].attnum, Some(2));
    for evolution in [promoted, replaced] {
        assert_eq!(evolution.stale, [Stale { column: "a".to_owned(), reason: StaleReason::TypeChanged }]);
    }
    // Renamed and of another type at once.
    let both = before
        .evolve(&of("b", TEXT), &[], false, &catalog(&self::facts("id=1 b=2"), &of("b", TEXT)))
        .unwrap();
    assert_eq!(shown(&both.schema), "100:id 101:b- 102:b_2=b");
    assert_eq!(both.stale.len(), 1);
}

/// Leaves that are no partitions: numbers and order say nothing, and nothing ends.
#[test]
fn columns_of_others_are_known_by_their_names() {
    let first = TableSchema::new(&texts("id a b"), vec![]);
    let evolve = |schema: &TableSchema, announced: &str, columns: Vec<ColumnFacts>, history| {
        let catalog = Catalog::by_name(columns, history);
        schema.evolve(&texts(announced), &[], false, &catalog)
    };
    assert_eq!(evolve(&first, "b id", facts("b=1 id=2"), History::Written), None);
    let new = evolve(&first, "id c b", facts("id=1 c=2 b=3"), History::New).unwrap();
    assert_eq!((shown(&new.schema).as_str(), new.stale), ("100:id 101:a 102:b 103:c", vec![]));
    let reasons = |evolution: Evolution| {
        evolution.stale.into_iter().map(|stale| (stale.column, stale.reason)).collect::<Vec<_>>()
    };
    // It may have been `a` before.
    let unclear = evolve(&first, "id c b", facts("id=1 c=2 b=3"), History::Written).unwrap();
    assert_eq!(reasons(unclear), [("c".to_owned(), StaleReason::Unclear)]);
    let added = evolve(&first, "id a b c", facts("id=1 a=2 b=3 c=4"), History::Written).unwrap();
    assert!(reasons(added).is_empty());
    let mut columns = facts("id=1 a=2 b=3 c=4");
    columns[3].missing = Some("x".to_owned());
    let defaulted = evolve(&first, "id a b c", columns, History::Written).unwrap();
    assert_eq!(defaulted.schema.columns[3].initial_default, None);
    assert_eq!(reasons(defaulted), [("c".to_owned(), StaleReason::AddedWithDefault)]);
}

#[test]
fn another_key_does_not_supersede_what_the_old_one_told_apart() {
    let announced = texts("a b");
    let first =
        TableSchema::first(&announced, vec!["a".into()], &catalog(&facts("a=1 b=2"), &announced), vec![]);
    let changed = |columns: &str, key: &[&str], of: &str| {
        let announced = texts(columns);
        let key: Vec<String> = key.iter().map(|name| (*name).to_owned()).collect();
        let evolution = first.evolve(&announced, &key, false, &catalog(&facts(of), &announced)).unwrap();
        let is_meant = |stale: &Stale| stale.reason == StaleReason::KeyChanged;
        evolution.stale.into_iter().filter(is_meant).map(|stale| stale.column).collect::<Vec<_>>()
    };
    assert_eq!(changed("a b", &["b"], "a=1 b=2"), ["b"]);
    assert_eq!(changed("a b", &["a", "b"], "a=1 b=2"), ["a", "b"]);
    assert_eq!(changed("a b", &[], "a=1 b=2"), ["a"]);
    assert_eq!(changed("key b", &["key"], "key=1 b=2"), Vec::<String>::new(), "the same under another name");
    let without = TableSchema::first(&announced, vec![], &catalog(&facts("a=1 b=2"), &announced), vec![]);
    let announced = texts("a b");
    let evolution = without.evolve(&announced, &["a".into()], false, &catalog(&facts("a=1 b=2"), &announced));
    assert_eq!(evolution.unwrap().stale, [], "each row of a table without a key is whole");
}

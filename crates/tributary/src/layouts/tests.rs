use tables::schema::{Catalog, ColumnSpec};
use tables::types::TypeCatalog;

use super::*;

const INT8: u32 = 20;
const TEXT: u32 = 25;
const FLOAT8: u32 = 701;
const TIMESTAMPTZ: u32 = 1184;
const JSONB: u32 = 3802;

fn column(name: &str, oid: u32) -> ColumnSpec {
    let (type_oid, type_modifier) = (pgoutput::Oid(oid), -1);
    let resolved = TypeCatalog::default().resolve(type_oid, type_modifier);
    ColumnSpec { name: name.to_owned(), type_oid, type_modifier, resolved }
}

fn rule(by: &[&str]) -> LayoutRule {
    LayoutRule {
        glob: "public.*".to_owned(),
        selection: Selection::new(&["public.*".to_owned()], &[]).expect("it is a glob"),
        insert_only: false,
        partition_by: by.iter().map(|text| text.parse().expect("it is a transform")).collect(),
        open_max: 9,
        place: Some("t.toml:3:1".to_owned()),
    }
}

fn folders(rule: &LayoutRule, schema: &TableSchema) -> Vec<(String, String)> {
    let spec = rule.spec("public.t", schema).expect("it can be laid out so");
    assert_eq!(spec.open_max, 9);
    spec.fields.iter().map(|field| (field.key.clone(), field.column.clone())).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, column)| ((*key).to_owned(), (*column).to_owned())).collect()
}

#[test]
fn folders_keep_their_names_whatever_becomes_of_columns() {
    let rule = rule(&["day(at)", "bucket(4, id)"]);
    let reserved = Layouts::new(vec![rule.clone()]).reserved().of(std::iter::once(("public", "t")));
    let columns = [column("id", INT8), column("at", TIMESTAMPTZ)];
    let first = TableSchema::first(&columns, vec![], &Catalog::default(), reserved);
    assert_eq!(folders(&rule, &first), pairs(&[("at_day", "at"), ("id_bucket", "id")]));

    // A column that comes later does not get the name of a key.
    let more =
        [column("id", INT8), column("at", TIMESTAMPTZ), column("at_day", TEXT), column("ID_bucket", TEXT)];
    let second = first.evolve(&more, &[], false, &Catalog::default()).expect("two columns more").schema;
    let names: Vec<&str> = second.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names.get(..2), Some(&["id", "at"][..]));
    assert!(
        names.iter().skip(2).all(|name| name.len() > "id_bucket".len() && name.contains("_")),
        "{names:?}"
    );
    assert_eq!(folders(&rule, &second), pairs(&[("at_day", "at"), ("id_bucket", "id")]));

    // A renamed column keeps its folders.
    let renamed: Vec<ColumnSpec> = vec![column("id", INT8), column("made", TIMESTAMPTZ)];
    let known = |name: &str, attnum| tables::lineage::ColumnFacts {
        name: name.to_owned(),
        attnum,
        has_default: false,
        missing: None,
        is_generated: false,
    };
    let at_first = Catalog::new(vec![known("id", 1), known("at", 2)], None, ["id", "at"].into_iter());
    let numbered = TableSchema::first(&columns, vec![], &at_first, Vec::new());
    let now = Catalog::new(vec![known("id", 1), known("made", 2)], None, ["id", "made"].into_iter());
    let third = numbered.evolve(&renamed, &[], false, &now).expect("another name").schema;
    assert_eq!(folders(&rule, &third), pairs(&[("at_day", "made"), ("id_bucket", "id")]));
    assert!(rule.check("public.t", &renamed, Some(&third)).is_ok());
    assert!(
        rule.check("public.t", &renamed, Some(&numbered)).is_ok(),
        "the stream has not come to the new name"
    );
    assert!(rule.check("public.t", &renamed, None).is_err());

    // One that is dropped is NULL from then on.
    let gone = Catalog::new(vec![known("id", 1)], None, ["id"].into_iter());
    let fourth = numbered.evolve(&[column("id", INT8)], &[], false, &gone).expect("one column less").schema;
    assert_eq!(folders(&rule, &fourth), pairs(&[("at_day", "at"), ("id_bucket", "id")]));
}

#[test]
fn a_column_that_was_there_first_keeps_its_name() {
    let rule = rule(&["day(at)"]);
    let columns = [column("At_Day", TEXT), column("at", TIMESTAMPTZ)];
    let schema = TableSchema::new(&columns, vec![]);
    assert_eq!(folders(&rule, &schema), pairs(&[("at_day_2", "at")]));
}

#[test]
fn what_cannot_be_is_said_with_its_place() {
    let columns = [column("f", FLOAT8), column("j", JSONB), column("t", TEXT)];
    let schema = TableSchema::new(&columns, vec![]);
    for (by, what, hint) in [
        (
            "identity(f)",
            "public.t.f is double in the lake, which `identity(f)` does not take",
            "it takes integers, ",
        ),
        (
            "bucket(4, j)",
            "public.t.j is JSON in the lake, which `bucket(4, j)` does not take",
            "it takes integers, ",
        ),
        (
            "day(t)",
            "public.t.t is string in the lake, which `day(t)` does not take",
            "it takes date, timestamp",
        ),
        ("day(T)", "public.t has no column `T`, which `day(T)` names", "columns go by their Postgres names"),
    ] {
        let rule = rule(&[by]);
        for error in [
            rule.spec("public.t", &schema).expect_err(by),
            rule.check("public.t", &columns, None).expect_err(by),
        ] {
            assert_eq!(error.kind(), crate::error::Kind::Config);
            assert_eq!(error.to_string(), format!("t.toml:3:1: {what}"));
            assert!(error.hint_text().is_some_and(|text| text.starts_with(hint)), "{:?}", error.hint_text());
        }
    }
    let of_changes = rule(&["identity(t)"]);
    assert!(of_changes.check_inserts("public.t", true).is_ok());
    assert!(LayoutRule { insert_only: true, ..of_changes.clone() }.check_inserts("public.t", false).is_ok());
    assert!(of_changes.check_inserts("public.t", false).is_err());
}

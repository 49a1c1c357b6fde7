use pgoutput::{Oid, ReplicaIdentity};
use tables::lineage::RootFacts;
use tables::types::{Profile, TypeCatalog, TypeRules};

use super::*;

#[test]
fn a_column_says_what_it_becomes_and_why() {
    let rules =
        TypeRules::new(Profile::Native, [("numeric", "double")], [("public.t.tags", "json")]).unwrap();
    let catalog = TypeCatalog::new(rules);
    let column = |name: &str, oid: u32| ColumnSpec {
        name: name.to_owned(),
        type_oid: Oid(oid),
        type_modifier: -1,
        resolved: catalog.resolve_column([("public", "t")], name, Oid(oid), -1),
    };
    let root = RootFacts {
        oid: Oid(20_000),
        schema: "public".to_owned(),
        name: "t".to_owned(),
        primary_key: vec!["id".to_owned()],
        replica_identity: ReplicaIdentity::Default,
    };
    let columns = vec![
        column("id", 2950),
        column("price", 1700),
        column("tags", 1009),
        column("of", 2205),
        column("days", 1182),
    ];
    let answer = answer(&[Mapped { root, columns }], &Reserved::default());
    let lines: Vec<String> =
        answer.text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let expected = [
        "public.t id uuid id uuid UUID native types.profile binary -",
        "public.t price numeric price double DOUBLE double types.override numeric binary out_of_range, precision",
        "public.t tags text[] tags string STRING json types.columns public.t.tags binary lower_bound",
        "public.t of regclass of string STRING string default text only -",
        "public.t days date[] days list<date> LIST(DATE) list default binary out_of_range, infinity, nested_array, lower_bound",
    ];
    assert_eq!(lines[1..], expected);
    let days = &answer.document["tables"][0]["columns"][4];
    assert_eq!((&days["field_id"], &days["nested_field_ids"]), (&json!(104), &json!([105])));
    assert_eq!(days["forms"], json!(["string", "clamp", "null", "error", "json", "list"]));
}

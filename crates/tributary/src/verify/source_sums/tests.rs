use std::collections::HashSet;

use tables::types::Codec;

use super::*;

fn table(columns: &[(&str, Canon)], key: &[usize]) -> Table {
    let columns = columns.iter().map(|(name, canon)| Compared {
        name: (*name).to_owned(),
        field_id: 100,
        codec: Codec::Text,
        modifier: -1,
        canon: *canon,
        initial: None,
    });
    Table {
        oid: 1,
        name: "s.t".to_owned(),
        columns: columns.collect(),
        key: key.to_vec(),
        relations: Vec::new(),
        names: None,
        own_names: Vec::new(),
        buckets: 8,
        notes: Vec::new(),
        doubts: Vec::new(),
    }
}

fn leaf(columns: &[&str]) -> Arc<Leaf> {
    let columns: HashSet<String> = columns.iter().map(|name| (*name).to_owned()).collect();
    Arc::new(Leaf { quoted: "\"s\".\"t\"".to_owned(), columns: Arc::new(columns), filters: Vec::new() })
}

#[test]
fn a_cell_is_printed_once_however_often_it_is_named() {
    let table = table(&[("id", Canon::Text), ("at\"", Canon::Float8)], &[0]);
    let query =
        sums_query(&table, &[(leaf(&["id", "at\""]), Blocks { from: 3, until: Some(9) })], Encoding::Utf8);
    assert_eq!(query.matches("format('%s', \"id\")").count(), 1, "{query}");
    assert_eq!(query.matches("float8send(\"at\"\"\")").count(), 1, "{query}");
    assert!(
        query.contains("FROM ONLY \"s\".\"t\" WHERE ctid >= '(3,0)'::tid AND ctid < '(9,0)'::tid OFFSET 0"),
        "{query}"
    );
    assert!(query.contains("::int8 % 8)::int4"), "{query}");
}

#[test]
fn a_column_that_a_leaf_does_not_have_is_null_there() {
    let table = table(&[("id", Canon::Text), ("late", Canon::Text)], &[0]);
    assert!(cells(&table, &leaf(&["id"]), Blocks::ALL).contains("NULL::text AS c1"));
}

#[test]
fn a_char_is_printed_as_newer_servers_do() {
    let table = table(&[("c", Canon::Char)], &[]);
    let query = cells(&table, &leaf(&["c"]), Blocks::ALL);
    assert!(query.contains("CASE WHEN \"c\"::int4 < 0 THEN concat(chr(92), "), "{query}");
}

#[test]
fn filters_are_those_of_the_publication() {
    let table = table(&[("id", Canon::Text)], &[0]);
    let filtered =
        Leaf { filters: vec!["id > 5".to_owned(), "id = 1".to_owned()], ..(*leaf(&["id"])).clone() };
    assert!(cells(&table, &filtered, Blocks::ALL).ends_with("WHERE ((id > 5) OR (id = 1)) OFFSET 0"));
}

#[test]
fn no_function_takes_more_than_a_hundred_arguments() {
    let text = joined(&(0..1_600).collect::<Vec<_>>(), Encoding::Utf8);
    assert_eq!(text.matches("concat(").count(), 18);
    assert_eq!(joined(&[], Encoding::Utf8), "''");
}

#[test]
fn other_encodings_are_converted_before_they_are_hashed() {
    assert_eq!(Encoding::of("LATIN1"), Encoding::Other);
    let cell = encoded(0, Encoding::Other);
    assert!(cell.contains("length(c0) > 64") && cell.contains("md5(convert_to(c0, 'UTF8'))"), "{cell}");
    assert!(encoded(0, Encoding::SqlAscii).contains("octet_length(c0)"));
}

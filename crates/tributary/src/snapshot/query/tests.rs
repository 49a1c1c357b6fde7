use super::*;

fn shape(names: &[&str], filters: &[&str]) -> Shape {
    let column = |(name, attnum): (&&str, i16)| Column {
        attnum,
        name: (*name).to_owned(),
        type_oid: Oid(23),
        type_modifier: -1,
    };
    Shape {
        relation: Oid(16_400),
        schema: "we.ird".to_owned(),
        name: "a \"b\"".to_owned(),
        announced: Oid(16_400),
        root: Oid(16_400),
        above: Vec::new(),
        filenode: 16_400,
        has_blocks: true,
        definition: 0,
        columns: names.iter().zip(1..).map(column).collect(),
        filters: filters.iter().map(|filter| (*filter).to_owned()).collect(),
    }
}

#[test]
fn the_text_of_a_copy() {
    let part = Blocks { from: 8, until: Some(16) };
    let since = Since::at((1 << 32) + 700, (1 << 32) + 900);
    assert!(since.is_some());
    for (shape, texts, blocks, since, expected) in [
        (
            shape(&["id", "ID\""], &[]),
            [false, false],
            Blocks::ALL,
            None,
            r#"SELECT "id", "ID""" FROM ONLY "we.ird"."a ""b""""#,
        ),
        (shape(&[], &[]), [false; 2], Blocks::ALL, None, r#"SELECT  FROM ONLY "we.ird"."a ""b""""#),
        (
            shape(&["a", "b"], &["(id > 5)", "(x OR y)"]),
            [false, true],
            part,
            since,
            r#"SELECT "a", CASE WHEN "b" IS DISTINCT FROM NULL THEN pg_catalog.format('%s', "b") END FROM ONLY "we.ird"."a ""b""" WHERE ctid >= '(8,0)'::pg_catalog.tid AND ctid < '(16,0)'::pg_catalog.tid AND (pg_catalog.age('700'::pg_catalog.xid) < 0 OR pg_catalog.age(xmin) <= pg_catalog.age('700'::pg_catalog.xid)) AND (((id > 5)) OR ((x OR y)))"#,
        ),
        (
            shape(&["a"], &[]),
            [false, false],
            Blocks { from: 16, until: None },
            None,
            r#"SELECT "a" FROM ONLY "we.ird"."a ""b""" WHERE ctid >= '(16,0)'::pg_catalog.tid"#,
        ),
    ] {
        let found = copy(&shape, &texts, blocks, since);
        assert_eq!(found, format!("COPY ({expected}) TO STDOUT (FORMAT binary)"));
    }
}

#[test]
fn rows_are_told_apart_by_age_while_that_can_be_told() {
    let epoch = 1 << 32;
    assert!(Since::at(700, 700).is_some());
    assert!(Since::at(700, 700 + (1 << 31) - 1).is_some());
    assert_eq!(Since::at(700, 700 + (1 << 31)), None);
    assert_eq!(Since::at(700, epoch + 900), None, "the same 32 bits, an epoch later");
    assert_eq!(Since::at(epoch + 2, epoch + 900), None, "stands for frozen rows");
    assert_eq!(Since::at(epoch + 3, epoch + 900), Some(Since { xid: 3 }));
    assert!(Since::at(epoch - 1, epoch + 900).is_some(), "across the wraparound");
}

#[test]
fn types_that_are_not_surely_read_as_binary_are_text() {
    use tables::types::{Attribute, TypeFacts, TypeKind};
    let mut types = TypeCatalog::default();
    let mut learn = |oid: u32, name: &str, kind: TypeKind| {
        types.learn(TypeFacts { oid: Oid(oid), schema: "public".to_owned(), name: name.to_owned(), kind });
    };
    learn(20_001, "mood", TypeKind::Enum);
    learn(20_002, "hstore", TypeKind::Base { delimiter: b',', is_sent: true });
    learn(20_003, "unsent", TypeKind::Base { delimiter: b',', is_sent: false });
    learn(20_004, "unknown", TypeKind::Base { delimiter: b',', is_sent: true });
    let attribute = Attribute { name: "a".to_owned(), type_oid: Oid(23), type_modifier: -1 };
    learn(20_005, "pair", TypeKind::Composite { attributes: vec![attribute] });
    learn(20_006, "moods", TypeKind::Array { element: Oid(20_001) });
    for (oid, is_text) in [
        (20, false),
        (25, false),
        (1700, false),
        (3802, false),
        (1009, false),
        (20_001, false),
        (20_006, false),
        // "char" prints differently by version, and a row type's binary form tells only of attributes that it has now.
        (18, true),
        (20_005, true),
        (20_002, true),
        // No send function at all: a binary COPY would fail.
        (20_003, true),
        (20_004, true),
        (20_007, true),
    ] {
        let mut one = shape(&["c"], &[]);
        one.columns[0].type_oid = Oid(oid);
        assert_eq!(one.texts(&types, false).as_ref(), [is_text], "type {oid}");
    }
}

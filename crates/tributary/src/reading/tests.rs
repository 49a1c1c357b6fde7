use std::path::Path;

use clap::ValueEnum as _;
use pgoutput::Oid;
use tables::types::{LakeField, LakeType, Profile, TypeCatalog, TypeRules};

use super::*;

fn column(name: &str, lake: LakeType) -> LakeColumn {
    LakeColumn {
        name: name.to_owned(),
        former: Vec::new(),
        lake,
        has_ended: false,
        may_be_unchanged: false,
        may_be_raw: false,
        initial_default: None,
    }
}

fn table(name: &str, columns: Vec<LakeColumn>, key: &[&str]) -> LakeTable {
    LakeTable {
        name: format!("public.{name}"),
        whole: vec![format!("public.{name}")],
        schema: "public".to_owned(),
        table: name.to_owned(),
        changes: format!("{name}_changes"),
        location: format!("s3://bucket/shop/public/{name}/data"),
        columns,
        key: key.iter().map(|name| (*name).to_owned()).collect(),
        has_before: false,
        folders: Folders::ByCommit { since: "2026-11-01".to_owned() },
        has_files: true,
    }
}

/// Partitioned, renamed, with values that may be left out, a renamed column, one that ended, and every type.
fn orders() -> LakeTable {
    let point = ["x", "y"].map(|name| LakeField { name: name.to_owned(), lake: LakeType::Float64 });
    let mut all = table(
        "orders",
        vec![
            column("id", LakeType::Int64),
            LakeColumn { may_be_raw: true, former: vec!["d'ay".to_owned()], ..column("day", LakeType::Date) },
            LakeColumn { may_be_unchanged: true, ..column("doc", LakeType::Utf8) },
            LakeColumn {
                may_be_unchanged: true,
                former: vec!["remark".to_owned()],
                ..column("note", LakeType::Utf8)
            },
            LakeColumn {
                initial_default: Some("0".to_owned()),
                ..column("price", LakeType::Decimal { precision: 10, scale: 2 })
            },
            LakeColumn { has_ended: true, ..column("gone", LakeType::Int32) },
            column("at", LakeType::TimestampTz),
            column("wall", LakeType::Timestamp),
            column("hour", LakeType::Time),
            column("flag", LakeType::Boolean),
            column("half", LakeType::Float32),
            column("raw", LakeType::Binary),
            column("ident", LakeType::Uuid),
            column("sixteen", LakeType::Fixed16),
            column("doc_json", LakeType::Json),
            column("tags", LakeType::List(Box::new(LakeType::Utf8))),
            column("attributes", LakeType::Map),
            column("place", LakeType::Struct(point.into())),
        ],
        &["id", "day"],
    );
    all.whole.push("sales.orders".to_owned());
    all.has_before = true;
    all
}

fn samples() -> Vec<LakeTable> {
    let ledger =
        table("ledger", vec![column("account", LakeType::Int32), column("entry", LakeType::Utf8)], &[]);
    // Without a key, and with values that are one in the lake.
    let spans = table(
        "spans",
        vec![
            column("n", LakeType::Int32),
            LakeColumn { may_be_raw: true, ..column("until", LakeType::Timestamp) },
            LakeColumn {
                may_be_raw: true,
                ..column("steps", LakeType::List(Box::new(LakeType::TimestampTz)))
            },
            column("tags", LakeType::List(Box::new(LakeType::Map))),
        ],
        &[],
    );
    let mut events =
        table("events", vec![column("id", LakeType::Int64), column("kind", LakeType::Utf8)], &["id"]);
    events.folders = Folders::ByColumns(vec!["created_at_day".to_owned(), "tenant_bucket".to_owned()]);
    // A name that would like to end its quotes, and a table that has the name of another one's files.
    let mut odd = table(
        "odd_1a2b3c4d",
        vec![
            column("a\"b`c'd\\", LakeType::Int64),
            LakeColumn { may_be_unchanged: true, ..column("it's \\ `\"", LakeType::Utf8) },
        ],
        &["a\"b`c'd\\"],
    );
    odd.whole = vec!["public.od'd\\".to_owned()];
    let taken = table("orders_changes", vec![column("id", LakeType::Int64)], &["id"]);
    let mut all = vec![orders(), ledger, events, odd, taken, spans];
    tell_apart(&mut all);
    all
}

fn script(engine: Engine) -> String {
    let mut text = String::new();
    for table in samples() {
        for statement in statements(engine, &table) {
            for remark in statement.remarks {
                text.push_str(&format!("-- {remark}\n"));
            }
            text.push_str(&format!("{};\n\n", statement.sql));
        }
    }
    text
}

/// `UPDATE_GOLDEN=1` writes what comes out now; `tests/e2e/reading.rs` has another parser read them.
#[test]
fn what_each_engine_is_told() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1");
    for engine in Engine::value_variants() {
        let name = engine.to_possible_value().expect("a name");
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/reading/golden/{}.sql", name.get_name()));
        let found = script(*engine);
        if update {
            std::fs::write(&path, &found).expect("written");
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(golden == found, "{} is not what comes out now; UPDATE_GOLDEN=1 writes it", path.display());
    }
}

#[test]
fn no_name_ends_the_quotes_that_it_stands_in() {
    for engine in Engine::value_variants() {
        let name = engine.name("a\"b`c");
        let (quote, inner) = (name.chars().next().expect("a quote"), &name[1..name.len() - 1]);
        assert!(!inner.replace(&format!("{quote}{quote}"), "").contains(quote), "{engine:?}: {name}");
    }
    assert_eq!(Engine::Spark.text("it's \\"), "'it\\'s \\\\'");
    assert_eq!(Engine::Snowflake.text("it's \\"), "'it''s \\\\'");
    assert_eq!(Engine::DuckDb.text("it's \\"), "'it''s \\'");
}

#[test]
fn a_table_over_files_never_has_the_name_of_another_table() {
    let names: Vec<String> = samples().into_iter().map(|table| table.changes).collect();
    assert_eq!(names[0], "orders_changes_of");
    assert_eq!(names[4], "orders_changes_changes");
}

#[test]
fn only_what_may_be_left_out_is_looked_for() {
    let plain = table("plain", vec![column("id", LakeType::Int64), column("n", LakeType::Int32)], &["id"]);
    let text = current::view(Engine::DuckDb, &plain).sql;
    assert!(!text.contains("_cdc_unchanged") && !text.contains("first_value"), "{text}");
    assert!(current::view(Engine::DuckDb, &orders()).sql.contains("_cdc_unresolved"));
}

#[test]
fn values_that_are_one_in_the_lake_are_told_apart_by_their_text() {
    let found = Engine::value_variants().iter().map(|engine| {
        let text = current::view(*engine, &orders()).sql;
        let partitions = text.matches("PARTITION BY ").count() - text.matches("PARTITION BY CASE").count();
        let exact = format!("PARTITION BY {}, {}, _cdc_exact_0", engine.name("id"), engine.name("day"));
        assert_eq!(text.matches(&exact).count(), partitions, "{engine:?}: {text}");
        let line = text.lines().find(|line| line.ends_with(" AS _cdc_exact_0,")).expect("the text");
        line.trim().to_owned()
    });
    let expected = [
        "coalesce(c._cdc_raw['day'], c._cdc_raw['d''ay']) AS _cdc_exact_0,",
        "coalesce(element_at(c._cdc_raw, 'day'), element_at(c._cdc_raw, 'd''ay')) AS _cdc_exact_0,",
        "coalesce(element_at(c._cdc_raw, 'day'), element_at(c._cdc_raw, 'd''ay')) AS _cdc_exact_0,",
        r"coalesce(try_element_at(c._cdc_raw, 'day'), try_element_at(c._cdc_raw, 'd\'ay')) AS _cdc_exact_0,",
        "coalesce(c._cdc_raw['day']::varchar, c._cdc_raw['d''ay']::varchar) AS _cdc_exact_0,",
        "coalesce((select max(_cdc_r.value) from c._cdc_raw as _cdc_r where _cdc_r.key = 'day'), (select max(_cdc_r.value) from c._cdc_raw as _cdc_r where _cdc_r.key = 'd''ay')) AS _cdc_exact_0,",
    ];
    assert_eq!(found.collect::<Vec<String>>(), expected);
    // Of a key that tells everything no text is looked at.
    let mut plain = orders();
    plain.key.truncate(1);
    assert!(!current::view(Engine::DuckDb, &plain).sql.contains("_cdc_exact"));
}

#[test]
fn only_types_with_values_that_the_lake_has_not_may_be_raw() {
    let of = |rules: &TypeRules, oid: u32, modifier: i32| {
        may_be_raw(&TypeCatalog::new(rules.clone()).resolve(Oid(oid), modifier).codec)
    };
    let rules = TypeRules::default();
    // bool, bytea, name, int8, int2, int4, text, oid, float4, float8, bpchar, varchar, time, numeric, uuid, jsonb, int4range, xid8.
    for oid in [16, 17, 19, 20, 21, 23, 25, 26, 700, 701, 1042, 1043, 1083, 1700, 2950, 3802, 3904, 5069] {
        assert!(!of(&rules, oid, -1), "{oid}");
    }
    // "char", int4[], date, timestamp, timestamptz, date[]; numeric(10,2).
    for oid in [18, 1007, 1082, 1114, 1184, 1182] {
        assert!(of(&rules, oid, -1), "{oid}");
    }
    assert!(of(&rules, 1700, (10 << 16 | 2) + 4));
    // What is refused now may be in older files.
    let rules = TypeRules::new(Profile::Portable, [("date", "error")], []).expect("rules");
    assert!(of(&rules, 1082, -1));
}

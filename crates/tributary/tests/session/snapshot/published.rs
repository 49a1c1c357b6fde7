//! Columns, rows and texts are those of the stream.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use pgoutput::{Decoder, Message, Options};
use tributary::source::session::proto_version;
use tributary::source::{Session, Start};

use super::super::{Got, start, until};

const TABLES: &str = "
    CREATE SCHEMA s;
    CREATE TABLE plain (id int8 PRIMARY KEY, a text, b int);
    CREATE TABLE s.other (id int8 PRIMARY KEY, a text, b int);
    CREATE TABLE generated (id int8 PRIMARY KEY, a text, b int, twice int GENERATED ALWAYS AS (b * 2) STORED);
    CREATE TABLE root (id int8 PRIMARY KEY, a text, b int) PARTITION BY RANGE (id);
    CREATE TABLE low (gone int, b int, id int8 NOT NULL, a text);
    ALTER TABLE low DROP gone;
    ALTER TABLE root ATTACH PARTITION low FOR VALUES FROM (0) TO (10);
    CREATE TABLE middle PARTITION OF root FOR VALUES FROM (10) TO (30) PARTITION BY RANGE (id);
    CREATE TABLE middle1 PARTITION OF middle FOR VALUES FROM (10) TO (20);
    CREATE TABLE s.middle2 PARTITION OF middle FOR VALUES FROM (20) TO (30);";

const ROWS: &str = "
    INSERT INTO plain SELECT g, 'a', g FROM generate_series(1, 29) g;
    INSERT INTO s.other SELECT g, 'a', g FROM generate_series(101, 129) g;
    INSERT INTO generated SELECT g, 'a', g FROM generate_series(201, 229) g;
    INSERT INTO root SELECT g, 'a', g FROM generate_series(0, 29) g";

/// What a table is to a reader: the columns of its rows, and the rows.
type Seen = BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)>;

fn add(seen: &mut Seen, table: &str, columns: &[String], row: &[Option<String>]) {
    let entry = seen.entry(table.to_owned()).or_default();
    entry.0.extend(columns.iter().cloned());
    // By name: leaves have columns in another order.
    let mut cells: Vec<String> =
        columns.iter().zip(row).map(|(name, cell)| format!("{name}={cell:?}")).collect();
    cells.sort();
    entry.1.insert(cells.join(" "));
}

/// What the stream has of the rows.
async fn streamed(server: &Server, source: &Source, slot: &str) -> Seen {
    let mut session = Box::pin(Session::connect(&source.options)).await.expect("a session");
    let created = session.create_slot(slot, LIMIT).await.expect("a slot");
    let publications = vec!["p".to_owned(), "q".to_owned()];
    let start = Start { publications, ..start(slot, created.consistent_point, "p") };
    let mut stream = session.start(&start).await.expect("a stream");
    source.execute(&format!("{ROWS}; SELECT pg_logical_emit_message(true, 'end', 'the end')")).await;
    let messages = until(&mut stream, "the end").await.expect("the stream");
    let options = Options { proto_version: proto_version(server.major * 10_000), streaming_parallel: false };
    let mut decoder = Decoder::new(options);
    let mut relations = BTreeMap::new();
    let mut seen = Seen::new();
    for message in &messages {
        let Got::Wal(bytes) = message else { continue };
        match decoder.decode(bytes).expect("a message") {
            Message::Relation(relation) => {
                let columns: Vec<String> =
                    relation.columns.iter().map(|column| column.name.to_owned()).collect();
                relations.insert(relation.oid, (relation.name.to_owned(), columns));
            }
            Message::Insert(insert) => {
                let (name, columns) = &relations[&insert.relation];
                let row: Vec<Option<String>> = insert.new.cells().map(text).collect();
                add(&mut seen, family(name), columns, &row);
            }
            _ => {}
        }
    }
    seen
}

fn text(cell: Cell<'_>) -> Option<String> {
    match value(cell) {
        Value::Null => None,
        Value::Text(text) => Some(text),
        Value::Binary(bytes) => panic!("{bytes:?} in a text stream"),
    }
}

/// Rows of leaves are compared whether they come as the leaf's or the root's.
fn family(table: &str) -> &str {
    match table {
        "root" | "low" | "middle" | "middle1" | "middle2" => "root",
        other => other,
    }
}

/// What a snapshot has of them.
async fn copied(source: &Source, publications: &[String]) -> Seen {
    let point = source.point().await;
    let mut worker = source.worker(&point).await;
    let mut seen = Seen::new();
    let mut oids = Vec::new();
    for name in ["plain", "s.other", "generated", "root", "low", "middle", "middle1", "s.middle2"] {
        oids.push(source.oid(name).await);
    }
    for shape in worker.shapes(publications, &oids).await.expect("shapes") {
        let columns: Vec<String> = shape.columns.iter().map(|column| column.name.clone()).collect();
        let texts = vec![true; columns.len()];
        let Begun::Reading(mut reading) = worker.read(&shape, &texts, Blocks::ALL, None).await.expect("rows")
        else {
            panic!("{}", shape.name)
        };
        while reading.fill().await.expect("rows") {
            reading
                .drain(|tuple| {
                    let row: Vec<Option<String>> = tuple.cells().map(text).collect();
                    add(&mut seen, family(&shape.name), &columns, &row);
                    Ok(())
                })
                .unwrap();
        }
        reading.end().await.expect("the end");
    }
    seen
}

#[tokio::test]
async fn columns_and_rows_are_those_that_the_stream_has() {
    for server in servers() {
        // Publication p, publication q, and the oldest server that has them.
        let cases = [
            ("FOR ALL TABLES", "", 14),
            ("FOR ALL TABLES WITH (publish_via_partition_root = true)", "", 14),
            ("FOR TABLE plain, root", "FOR TABLE generated", 14),
            ("FOR TABLE root WITH (publish_via_partition_root = true)", "FOR TABLE middle1", 14),
            ("FOR TABLE middle1, low", "", 14),
            ("FOR TABLE plain (id, b), low (id)", "", 15),
            ("FOR TABLE root (a, id) WITH (publish_via_partition_root = true)", "", 15),
            ("FOR TABLE plain WHERE (id > 5 AND a <> 'x'), root WITH (publish = 'insert')", "", 15),
            ("FOR TABLE root WHERE (id > 15) WITH (publish_via_partition_root = true)", "", 15),
            ("FOR TABLE plain WHERE (id > 20)", "FOR TABLE plain WHERE (id < 5)", 15),
            ("FOR TABLE plain WHERE (id > 20)", "FOR TABLE plain", 15),
            ("FOR TABLE plain WHERE (id > 20)", "FOR TABLES IN SCHEMA public", 15),
            ("FOR TABLE plain WHERE (id > 20)", "FOR ALL TABLES", 15),
            ("FOR TABLES IN SCHEMA s", "", 15),
            ("FOR TABLES IN SCHEMA s WITH (publish_via_partition_root = true)", "", 15),
            ("FOR TABLE low WHERE (id > 7), middle1 WHERE (id > 17)", "", 15),
            // The topmost counts, and the other does not.
            (
                "FOR TABLE root WHERE (id > 15) WITH (publish_via_partition_root = true)",
                "FOR TABLE middle WHERE (id > 12) WITH (publish_via_partition_root = true)",
                15,
            ),
            (
                "FOR TABLE middle WHERE (id > 25) WITH (publish_via_partition_root = true)",
                "FOR TABLE root",
                15,
            ),
            ("FOR TABLE root, low WHERE (id < 3)", "", 15),
            (
                "FOR TABLE root WHERE (id > 15), low WHERE (id < 3) WITH (publish_via_partition_root = true)",
                "",
                15,
            ),
            ("FOR ALL TABLES WITH (publish_generated_columns = stored)", "", 18),
            ("FOR TABLE generated (id, twice)", "", 18),
        ];
        for (number, (first, second, since)) in cases.iter().enumerate() {
            if server.major < *since {
                continue;
            }
            let source = Source::new(&server, "t_published").await;
            source.execute(TABLES).await;
            source.execute(&format!("CREATE PUBLICATION p {first}; CREATE PUBLICATION q {second}")).await;
            let stream = streamed(&server, &source, &format!("t_published_{number}")).await;
            let copy = copied(&source, &["p".to_owned(), "q".to_owned(), "missing".to_owned()]).await;
            assert!(!stream.is_empty(), "{first}; {second}");
            assert_eq!(copy, stream, "{first}; {second}; on {}", server.major);
        }
    }
}

/// As text a cell is what the output function prints, which simple queries and the stream print.
#[tokio::test]
async fn a_text_is_what_the_output_function_prints() {
    for server in servers() {
        let source = Source::new(&server, "t_texts").await;
        source
            .execute(
                r#"CREATE TYPE pair AS (a int, b text); CREATE TYPE mood AS ENUM ('sad', 'ok');
                CREATE DOMAIN flag AS bool;
                CREATE TABLE t (id int8 PRIMARY KEY, "bool" bool, "Char" "char", padded char(5), "pair" pair, pairs pair[],
                  m mood, f flag, x xml, e text, i interval, money money, at timestamptz, b bytea, r float8, n name, item aclitem);
                INSERT INTO t VALUES
                  (1, true, 'a', 'ab', (1, null), array[row(1, 'x')::pair, null], 'ok', true, '<a/>', '', '1 day', 12.5,
                   '2026-01-02 03:04:05.6+07', '\x00ff', 0.1, 'n', 'postgres=r/postgres'),
                  (3, false, '', '', (null, null)::pair, '{}', 'sad', false, '', '%s', '-1 mon', -1, 'infinity', '', 'NaN', '', null),
                  (4, null, '\377', 'ab   ', row(null, '')::pair, array[null]::pair[], null, null, null, E'a\nb', null, null,
                   '0044-03-15 BC', null, '-0', null, null);
                INSERT INTO t (id) VALUES (2); CREATE PUBLICATION p FOR TABLE t"#,
            )
            .await;
        let point = source.point().await;
        let mut worker = source.worker(&point).await;
        let shape = shape_of(&mut worker, source.oid("t").await).await;
        let texts = vec![true; shape.columns.len()];
        let mut found = Vec::new();
        let Begun::Reading(mut reading) = worker.read(&shape, &texts, Blocks::ALL, None).await.unwrap()
        else {
            panic!("rows")
        };
        while reading.fill().await.unwrap() {
            reading
                .drain(|tuple| {
                    found.push(tuple.cells().map(text).collect::<Vec<_>>());
                    Ok(())
                })
                .unwrap();
        }
        reading.end().await.unwrap();
        let printed =
            source.catalogs.client().simple_query("SELECT * FROM public.t ORDER BY ctid").await.unwrap();
        let printed: Vec<Vec<Option<String>>> = printed
            .iter()
            .filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => {
                    Some((0..row.len()).map(|cell| row.get(cell).map(str::to_owned)).collect())
                }
                _ => None,
            })
            .collect();
        assert_eq!(printed.len(), 4);
        assert_eq!(found, printed, "on {}", server.major);
        assert_eq!(found[1][4].as_deref(), Some("(,)"), "a row of NULLs is no NULL");
        // Without knowledge of its types, all that is not built in is asked for as text: aclitem cannot be had otherwise.
        let texts = shape.texts(&TypeCatalog::default(), false);
        let asked: Vec<&str> = shape
            .columns
            .iter()
            .zip(&texts)
            .filter(|(_, is_text)| **is_text)
            .map(|(column, _)| column.name.as_str())
            .collect();
        assert_eq!(asked, ["Char", "pair", "pairs", "m", "f", "item"]);
        assert_eq!(read_all(&mut worker, &shape).await.len(), 4);
    }
}

#[tokio::test]
async fn tables_without_columns_and_databases_without_an_encoding() {
    for server in servers() {
        let admin = server.sql("postgres").await;
        admin.execute("database", "DROP DATABASE IF EXISTS t_ascii WITH (FORCE)").await.unwrap();
        admin
            .execute(
                "database",
                "CREATE DATABASE t_ascii ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
            )
            .await
            .unwrap();
        let admin = server.sql("t_ascii").await;
        let source = Source::of(&server, admin, "postgres", "t_ascii").await;
        source
            .execute(
                "CREATE TABLE t (id int8, a text, b text); CREATE TABLE empty (); CREATE PUBLICATION p FOR TABLE t, empty; \
                 INSERT INTO t VALUES (1, E'caf\\351', 'b'); INSERT INTO empty DEFAULT VALUES; INSERT INTO empty DEFAULT VALUES",
            )
            .await;
        let point = source.point().await;
        let mut worker = source.worker(&point).await;
        let shape = shape_of(&mut worker, source.oid("t").await).await;
        assert_eq!(read_all(&mut worker, &shape).await[0][1], Value::Binary(b"caf\xe9".to_vec()), "T94");
        let shape = shape_of(&mut worker, source.oid("empty").await).await;
        assert_eq!(read_all(&mut worker, &shape).await, [vec![], vec![]]);
    }
}

//! Plans, and pieces of relations.

use std::collections::BTreeSet;

use super::*;
use tributary::snapshot::plan::{Limits, tasks};
use tributary::snapshot::query;

#[tokio::test]
async fn pieces_of_a_relation_are_the_relation() {
    for server in servers() {
        let source = Source::new(&server, "t_pieces").await;
        source
            .execute(
                "CREATE TABLE t (id int8 PRIMARY KEY, note text, large text); \
                 ALTER TABLE t ALTER large SET STORAGE EXTERNAL; CREATE PUBLICATION p FOR TABLE t; \
                 INSERT INTO t SELECT g, repeat('x', 100), CASE WHEN g % 100 = 0 THEN repeat('y', 9000) END \
                 FROM generate_series(1, 20000) g; \
                 UPDATE t SET note = 'short' WHERE id % 3 = 0; DELETE FROM t WHERE id % 7 = 0",
            )
            .await;
        let point = source.point().await;
        source.execute("VACUUM t").await;
        // What comes later is behind the end, or in place of what was deleted.
        source
            .execute(
                "UPDATE t SET note = 'late'; INSERT INTO t SELECT g FROM generate_series(30000, 40000) g",
            )
            .await;
        let relations = source.relations(&point, &["t"]).await;
        let [relation] = relations.as_slice() else { panic!("{relations:?}") };
        assert!(relation.toast_bytes > 200 * 9000, "{relation:?}");
        assert_eq!(relation.heap_bytes, u64::from(relation.blocks) * 8192);
        let tasks = tasks(relations, Limits { bytes: 500_000, relations: 10 });
        assert!(tasks.len() > 5, "{}", tasks.len());
        let mut worker = source.worker(&point).await;
        let shape = shape_of(&mut worker, source.oid("t").await).await;
        let mut found = Vec::new();
        for task in &tasks {
            for piece in &task.pieces {
                let query = query::copy(&shape, &[false; 3], piece.blocks, None);
                let inner = query
                    .strip_prefix("COPY (")
                    .unwrap()
                    .strip_suffix(") TO STDOUT (FORMAT binary)")
                    .unwrap();
                let rows = source.admin.query("plan", &format!("EXPLAIN {inner}"), &[]).await.unwrap();
                let plan: String = rows[0].get(0);
                assert!(plan.starts_with("Tid Range Scan"), "{plan}");
                found.extend(read(&mut worker, &shape, piece.blocks, None).await.unwrap().rows());
            }
        }
        found.sort();
        let expected = (1..=20_000).filter(|id| id % 7 != 0).map(|id| {
            let note = if id % 3 == 0 { "short".to_owned() } else { "x".repeat(100) };
            let large =
                if id % 100 == 0 { Value::Binary("y".repeat(9000).into_bytes()) } else { Value::Null };
            vec![Value::int8(id), Value::Binary(note.into_bytes()), large]
        });
        let mut expected: Vec<Vec<Value>> = expected.collect();
        expected.sort();
        assert!(found == expected, "{} of {} rows", found.len(), expected.len());
    }
}

#[tokio::test]
async fn only_what_has_rows_is_planned() {
    for server in servers() {
        let source = Source::new(&server, "t_planned").await;
        source
            .execute(
                "CREATE TABLE root (id int8) PARTITION BY RANGE (id); \
                 CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (10); \
                 CREATE UNLOGGED TABLE unlogged (id int8); CREATE VIEW view AS SELECT 1 AS id; \
                 CREATE TABLE parent (id int8); CREATE TABLE child () INHERITS (parent); \
                 INSERT INTO parent SELECT generate_series(1, 10); INSERT INTO child SELECT generate_series(11, 20); \
                 ANALYZE parent; CREATE PUBLICATION p FOR ALL TABLES WITH (publish = 'insert'); CREATE TABLE dropped (id int8)",
            )
            .await;
        let point = source.point().await;
        let dropped = source.oid("dropped").await;
        source.execute("DROP TABLE dropped; CREATE TABLE late (id int8)").await;
        let (root, leaf) = (source.oid("root").await, source.oid("leaf").await);
        let mut wanted = vec![(root, root), (leaf, root), (dropped, dropped), (Oid(4_000_000_000), root)];
        for name in ["unlogged", "view", "parent", "child", "late"] {
            let oid = source.oid(name).await;
            wanted.push((oid, oid));
        }
        let session = transaction(&source.options, &point.snapshot, Patience::default()).await.unwrap();
        let mut relations = plan::relations(&session, &wanted).await.unwrap();
        relations.sort_by_key(|relation| relation.oid);
        let names: Vec<&str> = relations.iter().map(|relation| relation.name.as_str()).collect();
        // What was dropped since was there at the point; its reader finds that it is gone.
        assert_eq!(names, ["leaf", "parent", "child", "dropped"], "on {}", server.major);
        assert_eq!(relations[0].root, root);
        assert_eq!((relations[1].blocks, relations[1].rows, relations[1].has_blocks), (1, Some(10), true));
        assert_eq!((relations[0].rows, relations[3].blocks), (None, 0), "never analyzed; gone");
        // It had rows at the point.
        source.execute("TRUNCATE ONLY parent; DELETE FROM child").await;
        source.execute("VACUUM child").await;
        let relations = source.relations(&point, &["parent", "child"]).await;
        assert_eq!(relations[0].heap_bytes, 0);
        assert!(relations[1].heap_bytes > 0, "{relations:?}");
        let mut worker = source.worker(&point).await;
        let shape = shape_of(&mut worker, relations[0].oid).await;
        assert_eq!(read(&mut worker, &shape, Blocks::ALL, None).await.unwrap(), Outcome::Changed);
        let shape = shape_of(&mut worker, relations[1].oid).await;
        assert_eq!(read_all(&mut worker, &shape).await.len(), 10);
        source.execute("INSERT INTO parent SELECT generate_series(1, 10)").await;
        let point = source.point().await;
        // A parent's rows are its own, without those of its children.
        let mut worker = source.worker(&point).await;
        let shape = shape_of(&mut worker, source.oid("parent").await).await;
        assert_eq!(read_all(&mut worker, &shape).await.len(), 10);
        let shapes = worker.shapes(&["p".to_owned()], &[root, leaf, Oid(4_000_000_000)]).await.unwrap();
        assert_eq!(shapes.iter().map(|shape| shape.relation).collect::<Vec<_>>(), [leaf]);
    }
}

#[tokio::test]
async fn rows_written_since_a_point_are_among_those_that_are_read_again() {
    for server in servers() {
        let source = Source::new(&server, "t_since").await;
        source
            .execute(
                "CREATE TABLE t (id int8 PRIMARY KEY, note text); CREATE PUBLICATION p FOR TABLE t; \
                 INSERT INTO t SELECT g, 'old' FROM generate_series(1, 1000) g",
            )
            .await;
        // Committed after the point by a transaction that had begun before it, in part as a subtransaction.
        source.execute("CREATE TABLE other (id int8)").await;
        let earlier = source.point().await;
        source
            .execute(
                "BEGIN; UPDATE t SET note = 'new' WHERE id <= 10; SAVEPOINT s; UPDATE t SET note = 'new' WHERE id BETWEEN 11 AND 20; \
                 RELEASE s; COMMIT; INSERT INTO t SELECT g, 'new' FROM generate_series(1001, 1005) g; \
                 DELETE FROM t WHERE id BETWEEN 500 AND 600",
            )
            .await;
        source.execute("VACUUM FREEZE t").await;
        // What was frozen still tells its age.
        source.execute("UPDATE t SET note = 'newest' WHERE id = 700").await;
        let point = source.point().await;
        let mut worker = source.worker(&point).await;
        let shape = shape_of(&mut worker, source.oid("t").await).await;
        let since = Since::point(earlier.xmin, &point).expect("not that old");
        let found = read(&mut worker, &shape, Blocks::ALL, Some(since)).await.unwrap().ids();
        let found: BTreeSet<i64> = found.into_iter().collect();
        let expected: BTreeSet<i64> = (1..=20).chain([700]).chain(1001..=1005).collect();
        assert_eq!(found, expected, "on {}", server.major);
        assert_eq!(Since::point(earlier.xmin, &point).map(|_| ()), Some(()));
        let nothing = Since::point(point.xmax, &point).unwrap();
        assert_eq!(
            read(&mut worker, &shape, Blocks::ALL, Some(nothing)).await.unwrap().ids(),
            Vec::<i64>::new()
        );
    }
}

/// What the condition is made of: age counts around the 32 bits, and says that what was frozen by 9.3 is older than anything.
#[tokio::test]
async fn ages_are_what_the_condition_takes_them_for() {
    for server in servers() {
        let sql = server.sql("postgres").await;
        let query = "WITH next AS (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int8 % 4294967296 AS xid), \
             ages(back, age) AS (SELECT back, age((((xid - back) + 4294967296) % 4294967296)::text::xid) \
             FROM next, (VALUES (0::int8), (1), (100000), (2147483000)) AS b(back)) \
             SELECT bool_and(abs(age - back) <= 50), (SELECT age('2'::xid)), \
             (SELECT age((((xid + 1000) % 4294967296)::text)::xid) FROM next) FROM ages";
        let rows = sql.query("ages", query, &[]).await.unwrap();
        assert!(rows[0].get::<_, bool>(0), "on {}", server.major);
        assert_eq!(rows[0].get::<_, i32>(1), i32::MAX, "frozen by an old version");
        assert!(rows[0].get::<_, i32>(2) < 0, "ahead of now");
    }
}

/// Five roots with 2,000 leaves each, on the default lock table.
#[tokio::test]
#[ignore = "a minute a server"]
async fn ten_thousand_leaves_on_the_default_lock_table() {
    for server in servers() {
        let source = Source::new(&server, "t_leaves").await;
        let mut wanted = Vec::new();
        for root in 0..5 {
            source
                .execute(&format!(
                    "CREATE TABLE r{root} (id int8 NOT NULL, note text) PARTITION BY RANGE (id)"
                ))
                .await;
            for from in (0..2000).step_by(100) {
                source
                    .execute(&format!(
                        "DO $$ BEGIN FOR i IN {from}..{} LOOP EXECUTE format('CREATE TABLE r{root}_%s PARTITION OF r{root} \
                         FOR VALUES FROM (%s) TO (%s)', i, i * 10, i * 10 + 10); END LOOP; END $$",
                        from + 99
                    ))
                    .await;
            }
            for from in (0..20_000).step_by(1000) {
                source
                    .execute(&format!(
                        "INSERT INTO r{root} SELECT g FROM generate_series({from}, {}, 5) g",
                        from + 999
                    ))
                    .await;
            }
            let root = source.oid(&format!("r{root}")).await;
            let leaves = source
                .admin
                .query("leaves", "SELECT inhrelid FROM pg_inherits WHERE inhparent = $1::oid", &[&root.0])
                .await
                .unwrap();
            wanted.extend(leaves.iter().map(|row| (Oid(row.get(0)), root)));
        }
        source.execute("CREATE PUBLICATION p FOR ALL TABLES").await;
        let point = source.point().await;
        let begun = std::time::Instant::now();
        let session = transaction(&source.options, &point.snapshot, Patience::default()).await.unwrap();
        let relations = plan::relations(&session, &wanted).await.unwrap();
        assert_eq!(relations.len(), 10_000);
        println!("{}: planned in {:?}", server.major, begun.elapsed());
        let tasks = tasks(relations, Limits::default());
        assert!(tasks.iter().all(|task| task.pieces.len() <= 200));
        let mut worker = source.worker(&point).await;
        let mut rows = 0;
        for task in &tasks {
            let oids: Vec<Oid> = task.pieces.iter().map(|piece| piece.relation).collect();
            let shapes = worker.shapes(&["p".to_owned()], &oids).await.unwrap();
            assert_eq!(shapes.len(), oids.len());
            for shape in &shapes {
                rows += read(&mut worker, shape, Blocks::ALL, None).await.unwrap().rows().len();
            }
        }
        assert_eq!(rows, 5 * 4000);
        println!("{}: read after {:?}", server.major, begun.elapsed());
    }
}

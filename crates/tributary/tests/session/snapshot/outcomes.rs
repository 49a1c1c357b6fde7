//! What can be in the way of reading a relation.

use super::*;
use tributary::snapshot::worker::{Verdict, verdict};

const TABLES: &str = "
    CREATE TABLE plain (id int8 PRIMARY KEY, note text);
    CREATE TABLE other (id int8 PRIMARY KEY);
    INSERT INTO plain SELECT g, 'n' || g FROM generate_series(1, 100) g;
    INSERT INTO other VALUES (7);
    CREATE PUBLICATION p FOR ALL TABLES;";

/// Whether a statement gets its lock at once.
async fn is_free(source: &Source, sql: &str) -> bool {
    let result = source.admin.execute("ddl", &format!("SET lock_timeout = '200ms'; {sql}")).await;
    source.execute("RESET lock_timeout").await;
    result.is_ok()
}

#[tokio::test]
async fn a_relation_that_was_altered_since_the_point_is_not_read() {
    for server in servers() {
        let source = Source::new(&server, "t_changed").await;
        for (ddl, expected) in [
            ("VACUUM FULL plain", Outcome::Changed),
            ("TRUNCATE plain", Outcome::Changed),
            ("CLUSTER plain USING plain_pkey", Outcome::Changed),
            ("ALTER TABLE plain ALTER note TYPE bytea USING note::bytea", Outcome::Changed),
            ("ALTER TABLE plain ALTER note TYPE varchar", Outcome::Changed),
            ("ALTER TABLE plain ADD extra int", Outcome::Changed),
            ("ALTER TABLE plain DROP note", Outcome::Changed),
            ("ALTER TABLE plain RENAME note TO remark", Outcome::Changed),
            ("ALTER TABLE plain RENAME TO renamed", Outcome::Changed),
            ("CREATE SCHEMA s; ALTER TABLE plain SET SCHEMA s", Outcome::Changed),
            (
                "ALTER TABLE plain RENAME TO renamed; CREATE TABLE plain (id int8, note text)",
                Outcome::Changed,
            ),
            ("DROP TABLE plain", Outcome::Gone),
            ("DROP TABLE plain; CREATE TABLE plain (id int8, note text)", Outcome::Gone),
        ] {
            for after_shapes in [false, true] {
                source
                    .execute("DROP PUBLICATION IF EXISTS p; DROP SCHEMA IF EXISTS public, s CASCADE; CREATE SCHEMA public")
                    .await;
                source.execute(TABLES).await;
                let oid = source.oid("plain").await;
                let point = source.point().await;
                let mut worker = source.worker(&point).await;
                if !after_shapes {
                    source.execute(ddl).await;
                }
                let shape = shape_of(&mut worker, oid).await;
                if after_shapes {
                    source.execute(ddl).await;
                }
                let found = read(&mut worker, &shape, Blocks::ALL, None).await.expect(ddl);
                assert_eq!(found, expected, "{ddl} on {}, {after_shapes}", server.major);
                // It holds nothing, and reads on.
                assert!(is_free(&source, "LOCK TABLE other").await);
                let shape = shape_of(&mut worker, source.oid("other").await).await;
                assert_eq!(read(&mut worker, &shape, Blocks::ALL, None).await.unwrap().ids(), [7]);
            }
        }
    }
}

#[tokio::test]
async fn what_does_not_alter_a_relation_does_not_stop_it() {
    for server in servers() {
        let source = Source::new(&server, "t_unchanged").await;
        source.execute(TABLES).await;
        let point = source.point().await;
        source
            .execute(
                "CREATE INDEX ON plain (note); ANALYZE plain; ALTER TABLE plain REPLICA IDENTITY FULL; \
                 ALTER TABLE plain ALTER note SET NOT NULL; ALTER TABLE plain ALTER note SET DEFAULT 'x'; \
                 DELETE FROM plain WHERE id > 50; UPDATE plain SET note = 'new'",
            )
            .await;
        source.execute("VACUUM plain").await;
        let mut worker = source.worker(&point).await;
        let shape = shape_of(&mut worker, source.oid("plain").await).await;
        let rows = read_all(&mut worker, &shape).await;
        assert_eq!(rows.len(), 100);
        assert_eq!(rows[99], [Value::int8(100), Value::Binary(b"n100".to_vec())]);
    }
}

#[tokio::test]
async fn what_may_not_be_read_is_set_aside_and_the_rest_goes_on() {
    for server in servers() {
        server.replication_role("t_reader").await;
        let admin = server.database("t_denied").await;
        let source = Source::of(&server, admin, "t_reader", "t_denied").await;
        source.execute(TABLES).await;
        source
            .execute(
                "CREATE SCHEMA hidden; CREATE TABLE hidden.t (id int8); \
                 CREATE TABLE secured (id int8); ALTER TABLE secured ENABLE ROW LEVEL SECURITY; \
                 CREATE POLICY nobody ON secured USING (false); INSERT INTO secured VALUES (1); \
                 GRANT SELECT ON other, secured, hidden.t TO t_reader; GRANT SELECT (id) ON plain TO t_reader",
            )
            .await;
        let point = source.point().await;
        let mut worker = source.worker(&point).await;
        for name in ["plain", "secured", "hidden.t"] {
            let shape = shape_of(&mut worker, source.oid(name).await).await;
            let error = read(&mut worker, &shape, Blocks::ALL, None).await.expect_err(name);
            assert_eq!(verdict(&error), Verdict::SetAside, "{name}: {error:?}");
            assert!(error.hint_text().unwrap().contains("GRANT SELECT"), "{error:?}");
        }
        let shape = shape_of(&mut worker, source.oid("other").await).await;
        assert_eq!(read(&mut worker, &shape, Blocks::ALL, None).await.unwrap().ids(), [7]);
        // The right to the published columns is enough.
        if server.major >= 15 {
            source.execute("DROP PUBLICATION p; CREATE PUBLICATION p FOR TABLE plain (id)").await;
            let point = source.point().await;
            let mut worker = source.worker(&point).await;
            let shape = shape_of(&mut worker, source.oid("plain").await).await;
            assert_eq!(read_all(&mut worker, &shape).await.len(), 100);
        }
    }
}

#[tokio::test]
async fn a_lock_is_waited_for_so_long_and_held_no_longer_than_a_read() {
    for server in servers() {
        let source = Source::new(&server, "t_locked").await;
        source.execute(TABLES).await;
        let point = source.point().await;
        let mut worker = source.worker(&point).await;
        let shape = shape_of(&mut worker, source.oid("plain").await).await;
        let other = shape_of(&mut worker, source.oid("other").await).await;
        let holder = server.sql("t_locked").await;
        holder.execute("lock", "BEGIN; LOCK TABLE plain").await.unwrap();
        // Planning does not wait for it.
        let relations = source.relations(&point, &["plain", "other"]).await;
        assert_eq!(relations.len(), 2);
        let begun = std::time::Instant::now();
        let error = read(&mut worker, &shape, Blocks::ALL, None).await.unwrap_err();
        assert!((250..3000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
        assert_eq!(verdict(&error), Verdict::Retry, "{error:?}");
        assert_eq!(read(&mut worker, &other, Blocks::ALL, None).await.unwrap().ids(), [7]);
        holder.execute("lock", "ROLLBACK").await.unwrap();
        let texts = shape.texts(&TypeCatalog::default(), false);
        let Begun::Reading(mut reading) = worker.read(&shape, &texts, Blocks::ALL, None).await.unwrap()
        else {
            panic!("it is there again")
        };
        assert!(!is_free(&source, "LOCK TABLE plain").await, "it is being read");
        assert!(is_free(&source, "LOCK TABLE other").await);
        while reading.fill().await.unwrap() {
            reading.drain(|_| Ok(())).unwrap();
        }
        assert_eq!(reading.end().await.unwrap(), 100);
        assert!(is_free(&source, "LOCK TABLE plain").await, "it was read");
        let rows = source
            .admin
            .query(
                "locks",
                "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
                 WHERE a.datname = current_database() AND a.state = 'idle in transaction' AND l.relation >= 16384",
                &[],
            )
            .await
            .unwrap();
        assert_eq!(rows[0].get::<_, i64>(0), 0);
    }
}

#[tokio::test]
async fn a_read_that_is_given_up_leaves_the_worker_in_use() {
    for server in servers() {
        let source = Source::new(&server, "t_given_up").await;
        source.execute(TABLES).await;
        source
            .execute("INSERT INTO plain SELECT g, repeat('x', 500) FROM generate_series(101, 20000) g")
            .await;
        let point = source.point().await;
        let mut worker = source.worker(&point).await;
        let shape = shape_of(&mut worker, source.oid("plain").await).await;
        let texts = shape.texts(&TypeCatalog::default(), false);
        let Begun::Reading(mut reading) = worker.read(&shape, &texts, Blocks::ALL, None).await.unwrap()
        else {
            panic!("rows")
        };
        assert!(reading.fill().await.unwrap());
        let mut taken = 0;
        reading
            .drain(|_| {
                taken += 1;
                Ok(())
            })
            .unwrap();
        assert!(taken > 100 && taken < 20_000, "{taken} rows at once");
        assert!(reading.end().await.is_err(), "its rows were not all taken");
        let other = shape_of(&mut worker, source.oid("other").await).await;
        assert_eq!(read(&mut worker, &other, Blocks::ALL, None).await.unwrap().ids(), [7]);
        assert_eq!(read_all(&mut worker, &shape).await.len(), 20_000);
        // A worker that is dropped while it reads does not keep the lock.
        let Begun::Reading(mut reading) = worker.read(&shape, &texts, Blocks::ALL, None).await.unwrap()
        else {
            panic!("rows")
        };
        assert!(reading.fill().await.unwrap());
        drop(reading);
        drop(worker);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(is_free(&source, "LOCK TABLE plain").await);
    }
}

#[tokio::test]
async fn a_cancelled_statement_is_tried_again() {
    for server in servers() {
        let source = Source::new(&server, "t_cancelled").await;
        source.execute(TABLES).await;
        source
            .execute("INSERT INTO plain SELECT g, repeat('x', 500) FROM generate_series(101, 20000) g")
            .await;
        let point = source.point().await;
        let patience = Patience { statement: Some(Duration::from_millis(300)), ..Patience::default() };
        let mut worker =
            Worker::open(&source.options, &point.snapshot, Arc::clone(&source.catalogs), patience)
                .await
                .unwrap();
        let shape = shape_of(&mut worker, source.oid("plain").await).await;
        let texts = shape.texts(&TypeCatalog::default(), false);
        let Begun::Reading(mut reading) = worker.read(&shape, &texts, Blocks::ALL, None).await.unwrap()
        else {
            panic!("rows")
        };
        // It is the taker that is slow.
        tokio::time::sleep(Duration::from_millis(600)).await;
        let error = loop {
            let drained = match reading.fill().await {
                Ok(true) => reading.drain(|_| Ok(())),
                Ok(false) => panic!("it was not cancelled"),
                Err(error) => Err(error),
            };
            if let Err(error) = drained {
                break error;
            }
        };
        assert_eq!(verdict(&error), Verdict::Retry, "{error:?}");
        drop(reading);
        let other = shape_of(&mut worker, source.oid("other").await).await;
        assert_eq!(read(&mut worker, &other, Blocks::ALL, None).await.unwrap().ids(), [7]);
    }
}

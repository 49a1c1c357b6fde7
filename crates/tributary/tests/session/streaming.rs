//! Streams: rows, positions, keepalives, errors and ends.

use std::time::{Duration, Instant};

use pgoutput::{Cell, Decoder, Lsn, Message, Options};
use tributary::error::Kind;
use tributary::source::session::proto_version;
use tributary::source::{Session, is_slot_active, slot};

use super::{Got, next, servers, servers_of, start, stream_from_new_slot, until};

#[tokio::test]
async fn a_session_from_sign_in_to_stop() {
    for server in servers() {
        let sql = server.database("t_session").await;
        server.replication_role("t_session_role").await;
        sql.execute("table", "CREATE TABLE a (id int PRIMARY KEY, x text); CREATE PUBLICATION \"it's \"\"p\"\"\" FOR TABLE a; INSERT INTO a VALUES (1, 'before')").await.unwrap();
        let options = server.options("t_session_role", "t_session", "");
        let mut session = Session::connect(&options).await.expect("a session");
        assert_eq!(session.server_version() / 10_000, server.major);
        let system = session.identify_system().await.expect("a system");
        assert!(system.id.len() > 10 && system.timeline >= 1 && system.wal_lsn > Lsn::ZERO, "{system:?}");
        assert_eq!(session.timeline_history(1).await.expect("none"), []);
        let created = session.create_slot("t_session", Duration::from_secs(30)).await.expect("a slot");

        // The exported snapshot holds what was before, and only that.
        sql.execute("row", "INSERT INTO a VALUES (2, 'after')").await.unwrap();
        let snapshot = created.snapshot.clone().expect("a snapshot");
        let begin = format!("BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '{snapshot}'");
        sql.execute("snapshot", &begin).await.expect("a snapshot that lives");
        let rows = sql.query("rows", "SELECT id FROM public.a", &[]).await.unwrap();
        assert_eq!(rows.len(), 1);
        sql.execute("snapshot", "COMMIT").await.unwrap();

        let mut stream = session
            .start(&start("t_session", created.consistent_point, "it's \"p\""))
            .await
            .expect("a stream");
        let messages = until(&mut stream, "after").await.expect("the row");
        assert!(!messages.iter().any(|message| message.holds("before")));

        let commit = next(&mut stream).await.expect("a commit");
        let end_lsn = decode_transaction(server.major, messages.iter().chain([&commit]));
        assert!(end_lsn > created.consistent_point);

        // What was confirmed last is what the slot has after a stop.
        stream.set_positions(end_lsn, end_lsn);
        stream.stop().await.expect("an orderly end");
        let found = slot::slot(&sql, "t_session").await.unwrap().expect("the slot");
        assert_eq!(found.confirmed_flush, Some(end_lsn));
        assert_eq!(found.database.as_deref(), Some("t_session"));
        assert!(!found.active && !found.two_phase && found.invalidation.is_none(), "{found:?}");
        assert_eq!(found.failover.is_some(), server.major >= 17);
        slot::drop_slot(&sql, "t_session").await.expect("dropped");
        slot::drop_slot(&sql, "t_session").await.expect("dropped already");
        assert_eq!(slot::slot(&sql, "t_session").await.unwrap(), None);
    }
}

/// Decodes begin, relation, one insert and commit, and gives the end.
fn decode_transaction<'g>(major: u32, messages: impl Iterator<Item = &'g Got>) -> Lsn {
    let options = Options { proto_version: proto_version(major * 10_000), streaming_parallel: false };
    let mut decoder = Decoder::new(options);
    let mut order = String::new();
    let mut end = Lsn::ZERO;
    for got in messages {
        let Got::Wal(frame) = got else { panic!("{got:?}") };
        match decoder.decode(frame).expect("a message") {
            Message::Begin(_) => order.push('B'),
            Message::Relation(relation) => {
                order.push('R');
                assert_eq!((relation.namespace, relation.name), ("public", "a"));
            }
            Message::Insert(insert) => {
                order.push('I');
                let cells: Vec<Cell<'_>> = insert.new.cells().collect();
                assert_eq!(cells, [Cell::Text(b"2"), Cell::Text(b"after")]);
            }
            Message::Commit(commit) => {
                order.push('C');
                end = commit.end_lsn;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(order, "BRIC");
    end
}

/// T87
#[tokio::test]
async fn settings_of_roles_and_databases_do_not_reach_the_values() {
    for server in servers() {
        let sql = server.database("t_guc").await;
        server.replication_role("t_guc_role").await;
        for setting in [
            "DateStyle = 'German'",
            "IntervalStyle = 'iso_8601'",
            "TimeZone = 'Asia/Kolkata'",
            "extra_float_digits = -15",
            "bytea_output = 'escape'",
            "client_encoding = 'LATIN1'",
            "statement_timeout = '1s'",
            "lock_timeout = '1s'",
            "idle_in_transaction_session_timeout = '1s'",
            "idle_session_timeout = '1s'",
            "search_path = 'evil'",
        ] {
            sql.execute("role", &format!("ALTER ROLE t_guc_role IN DATABASE t_guc SET {setting}"))
                .await
                .unwrap();
        }
        sql.execute(
            "table",
            "CREATE TABLE v (d date, t timestamptz, i interval, f float8, b bytea, x text); \
             CREATE PUBLICATION p FOR TABLE v",
        )
        .await
        .unwrap();
        // The URL's own options do not win either.
        let options = server.options("t_guc_role", "t_guc", "options=-c%20TimeZone%3DCET");
        let (mut stream, _) = stream_from_new_slot(&options, "t_guc", "p").await;
        sql.execute(
            "row",
            "INSERT INTO v VALUES ('2026-03-04', '2026-03-04 05:06:07+00', '1 day 2 hours', 0.1::float8 + 0.2::float8, \
             'a\\001'::bytea, 'ümläut')",
        )
        .await
        .unwrap();
        let row = until(&mut stream, "2026-03-04").await.expect("the row").pop().unwrap();
        for text in ["2026-03-04 05:06:07+00", "1 day 02:00:00", "0.30000000000000004", "\\x6101", "ümläut"]
        {
            assert!(row.holds(text), "{text} on {server:?}");
        }
        stream.stop().await.unwrap();

        let ours = tributary::source::connect_sql(&options).await.expect("SQL");
        let settings = ours
            .query(
                "settings",
                "SELECT current_setting('TimeZone') || left(current_setting('DateStyle'), 3) || current_setting('bytea_output') \
                 || current_setting('statement_timeout') || current_setting('idle_session_timeout')",
                &[],
            )
            .await
            .unwrap();
        assert_eq!(settings[0].get::<_, &str>(0), "UTCISOhex00");
        drop(ours);
        slot::drop_slot(&sql, "t_guc").await.unwrap();
    }
}

/// T94
#[tokio::test]
async fn a_sql_ascii_database_sends_its_bytes_as_they_are() {
    for server in servers() {
        let admin = server.sql("postgres").await;
        drop(server.database("t_ascii").await);
        admin.execute("database", "DROP DATABASE t_ascii WITH (FORCE)").await.unwrap();
        admin
            .execute("database", "CREATE DATABASE t_ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
            .await
            .unwrap();
        let sql = server.sql("t_ascii").await;
        sql.execute("table", "CREATE TABLE a (x text); CREATE PUBLICATION p FOR TABLE a").await.unwrap();
        let (mut stream, _) =
            stream_from_new_slot(&server.options("postgres", "t_ascii", ""), "t_ascii", "p").await;
        sql.execute("row", "INSERT INTO a VALUES ('marker' || convert_from('\\xe9'::bytea, 'SQL_ASCII'))")
            .await
            .unwrap();
        let row = until(&mut stream, "marker").await.expect("bytes that are not UTF-8").pop().unwrap();
        let Got::Wal(message) = row else { panic!() };
        assert!(message.ends_with(b"marker\xe9"));
        stream.stop().await.unwrap();
        slot::drop_slot(&sql, "t_ascii").await.unwrap();
    }
}

/// T57: reading may pause for as long as it likes while statuses go out.
#[tokio::test]
async fn statuses_alone_keep_a_session_that_does_not_read() {
    for server in servers() {
        let sql = server.database("t_pause").await;
        sql.execute("table", "CREATE TABLE a (x text); CREATE PUBLICATION p FOR TABLE a").await.unwrap();
        let options = server.options("postgres", "t_pause", "options=-c%20wal_sender_timeout%3D2s");
        let (mut stream, at) = stream_from_new_slot(&options, "t_pause", "p").await;
        sql.execute("rows", "INSERT INTO a SELECT repeat(i::text, 1000) FROM generate_series(1, 20000) i")
            .await
            .unwrap();
        stream.set_positions(at, at);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(6) {
            stream.send_status(false).await.expect("a status");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        sql.execute("row", "INSERT INTO a VALUES ('the last')").await.unwrap();
        until(&mut stream, "the last").await.expect("everything, after the pause");
        stream.stop().await.unwrap();

        // Without statuses the server gives up, which is transient.
        let session = Session::connect(&options).await.unwrap();
        let mut stream = session.start(&start("t_pause", at, "p")).await.expect("a stream");
        tokio::time::sleep(Duration::from_secs(4)).await;
        let error = loop {
            match next(&mut stream).await {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), Kind::Transient, "{error:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
        slot::drop_slot(&sql, "t_pause").await.unwrap();
    }
}

#[tokio::test]
async fn slots_that_cannot_be_used() {
    for server in servers() {
        let sql = server.database("t_slots").await;
        let other = server.database("t_slots_other").await;
        sql.execute("publication", "CREATE PUBLICATION p FOR ALL TABLES").await.unwrap();
        let options = server.options("postgres", "t_slots", "");
        let (stream, at) = stream_from_new_slot(&options, "t_slots", "p").await;

        let second = Session::connect(&options).await.unwrap();
        let error = second.start(&start("t_slots", at, "p")).await.expect_err("active");
        assert_eq!(error.kind(), Kind::Transient, "{error:?}");
        assert!(is_slot_active(&error));
        let error = slot::drop_slot(&sql, "t_slots").await.expect_err("active");
        assert!(is_slot_active(&error), "{error:?}");
        stream.stop().await.unwrap();

        let second = Session::connect(&options).await.unwrap();
        let error = second.start(&start("t_slots_missing", at, "p")).await.expect_err("missing");
        assert_eq!(error.kind(), Kind::SourceHalted, "{error:?}");
        assert!(!is_slot_active(&error));

        let second = Session::connect(&server.options("postgres", "t_slots_other", "")).await.unwrap();
        let error = second.start(&start("t_slots", at, "p")).await.expect_err("of another database");
        assert_eq!(error.kind(), Kind::SourceHalted, "{error:?}");

        let mut second = Session::connect(&options).await.unwrap();
        let error = second.create_slot("t_slots", Duration::from_secs(5)).await.expect_err("exists");
        assert_eq!(error.kind(), Kind::Definite, "{error:?}");
        // The session goes on after an error.
        second.identify_system().await.expect("an answer");
        second.drop_slot("t_slots").await.expect("dropped");
        drop((sql, other));
    }
}

/// T52: 17 and older end the stream; 18 only warns, and would skip the changes.
#[tokio::test]
async fn a_missing_publication_halts() {
    for server in servers() {
        let sql = server.database("t_pub").await;
        sql.execute("table", "CREATE TABLE a (id int); CREATE PUBLICATION p FOR TABLE a").await.unwrap();
        let options = server.options("postgres", "t_pub", "");
        let (mut stream, _) = stream_from_new_slot(&options, "t_pub", "gone").await;
        sql.execute("row", "INSERT INTO a VALUES (1)").await.unwrap();
        let error = loop {
            match next(&mut stream).await {
                // Postgres 14 opens the transaction before it looks.
                Ok(Got::Wal(message)) if message.first() == Some(&b'B') => {}
                Ok(Got::Wal(message)) => panic!("a message without a publication: {message:?}"),
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), Kind::SourceHalted, "{error:?}");
        assert!(error.chain().contains("gone"), "{error:?}");
        drop(stream);
        tokio::time::sleep(Duration::from_millis(300)).await;
        slot::drop_slot(&sql, "t_pub").await.unwrap();
    }
}

/// T70: and a slot that was given up does not come to be later.
#[tokio::test]
async fn creating_a_slot_is_given_up_in_time() {
    for server in servers() {
        let sql = server.database("t_wait").await;
        let open = server.sql("t_wait").await;
        open.execute("transaction", "CREATE TABLE a (id int); BEGIN; INSERT INTO a VALUES (1)")
            .await
            .unwrap();
        let mut session = Session::connect(&server.options("postgres", "t_wait", "")).await.unwrap();
        let error =
            session.create_slot("t_wait", Duration::from_secs(1)).await.expect_err("an open transaction");
        assert_eq!(error.kind(), Kind::Transient, "{error:?}");
        assert!(tributary::source::session::is_slot_wait(&error));
        let oldest = tributary::source::catalog::oldest_transaction(&sql).await.unwrap();
        assert!(oldest.is_some());
        open.execute("transaction", "COMMIT").await.unwrap();
        assert_eq!(slot::slot(&sql, "t_wait").await.unwrap(), None);
        // The session is in step again.
        session.create_slot("t_wait", Duration::from_secs(30)).await.expect("a slot now");
        session.drop_slot("t_wait").await.expect("dropped");
    }
}

#[tokio::test]
async fn a_big_value_passes_and_its_memory_is_given_back() {
    for server in servers() {
        let sql = server.database("t_big").await;
        sql.execute("table", "CREATE TABLE a (x text); CREATE PUBLICATION p FOR TABLE a").await.unwrap();
        let (mut stream, _) =
            stream_from_new_slot(&server.options("postgres", "t_big", ""), "t_big", "p").await;
        sql.execute("row", "INSERT INTO a VALUES (repeat('x', 64 << 20) || 'end of it')").await.unwrap();
        let row = until(&mut stream, "end of it").await.expect("the row").pop().unwrap();
        let Got::Wal(message) = row else { panic!() };
        assert!(message.len() > 64 << 20);
        assert!(stream.buffer_bytes() < 66 << 20, "{}", stream.buffer_bytes());
        sql.execute("row", "INSERT INTO a VALUES ('small')").await.unwrap();
        until(&mut stream, "small").await.expect("the next row");
        assert!(stream.buffer_bytes() < 2 << 20, "{}", stream.buffer_bytes());
        stream.stop().await.unwrap();
        slot::drop_slot(&sql, "t_big").await.unwrap();
    }
}

#[tokio::test]
async fn stopping_in_the_middle_of_a_big_transaction_takes_a_bounded_time() {
    for server in servers() {
        let sql = server.database("t_stop").await;
        sql.execute("table", "CREATE TABLE a (x text); CREATE PUBLICATION p FOR TABLE a").await.unwrap();
        let (mut stream, at) =
            stream_from_new_slot(&server.options("postgres", "t_stop", ""), "t_stop", "p").await;
        sql.execute("rows", "INSERT INTO a SELECT repeat(i::text, 1000) FROM generate_series(1, 50000) i")
            .await
            .unwrap();
        next(&mut stream).await.expect("the beginning");
        stream.set_positions(at, at);
        let begun = Instant::now();
        stream.stop().await.expect("an end");
        assert!(begun.elapsed() < Duration::from_secs(7), "{:?}", begun.elapsed());
        tokio::time::sleep(Duration::from_millis(500)).await;
        sql.query("sessions", "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 't_stop' AND active", &[]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        slot::drop_slot(&sql, "t_stop").await.unwrap();
    }
}

/// T63: a server that is shut down waits for us, and we for nothing. `TRIBUTARY_TEST_PG_DOWN` names servers to shut down.
#[tokio::test]
async fn a_fast_shutdown_ends_the_stream_and_does_not_hang() {
    for server in servers_of("TRIBUTARY_TEST_PG_DOWN") {
        let sql = server.database("t_down").await;
        sql.execute("table", "CREATE TABLE a (x text); CREATE PUBLICATION p FOR TABLE a").await.unwrap();
        let (mut stream, _) =
            stream_from_new_slot(&server.options("postgres", "t_down", ""), "t_down", "p").await;
        sql.execute("row", "INSERT INTO a VALUES ('the last')").await.unwrap();
        until(&mut stream, "the last").await.expect("the row");
        // Whether it succeeds is not told: the server may end the program as well, and this session before it answers.
        let shutdown = "COPY (SELECT 1) TO PROGRAM 'kill -INT $(head -1 postmaster.pid)'";
        sql.execute("shutdown", shutdown).await.ok();
        let begun = Instant::now();
        loop {
            match next(&mut stream).await.expect("no error") {
                Got::Ended => break,
                Got::Wal(_) => {}
                // Everything up to there is durable here: the server waits for just that.
                Got::Keepalive { wal_end, .. } => {
                    stream.set_positions(wal_end, wal_end);
                    // The server may have ended, satisfied, between its keepalive and this.
                    if let Err(error) = stream.send_status(false).await {
                        assert_eq!(error.kind(), Kind::Transient, "{error:?}");
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        match stream.stop().await {
            Ok(()) => {}
            Err(error) => assert_eq!(error.kind(), Kind::Transient, "{error:?}"),
        }
        let refused = async {
            while Session::connect(&server.options("postgres", "t_down", "")).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), refused).await.expect("the server is down");
        let error = Session::connect(&server.options("postgres", "t_down", "")).await.err().expect("down");
        assert_eq!(error.kind(), Kind::Transient, "{error:?}");
    }
}

//! The consistent point and its keeper.

use super::*;
use tributary::error::Kind;
use tributary::snapshot::worker::{Verdict, verdict};
use tributary::source::catalog::written_lsn;

async fn slots(source: &Source) -> i64 {
    let rows = source
        .admin
        .query("slots", "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()", &[])
        .await
        .unwrap();
    rows[0].get(0)
}

/// T71, T73: the snapshot is kept by a session of ours, and the slot that found it keeps nothing.
#[tokio::test]
async fn workers_see_the_point_after_its_slot_is_gone() {
    for server in servers() {
        let source = Source::new(&server, "t_point").await;
        source
            .execute("CREATE TABLE t (id int8 PRIMARY KEY); CREATE PUBLICATION p FOR TABLE t; INSERT INTO t VALUES (1)")
            .await;
        let before = written_lsn(&source.admin).await.unwrap().unwrap();
        let point = source.point().await;
        assert_eq!(slots(&source).await, 0, "the slot went with its session");
        source.execute("INSERT INTO t VALUES (2); DELETE FROM t WHERE id = 1").await;
        let after = written_lsn(&source.admin).await.unwrap().unwrap();
        assert!(before <= point.lsn && point.lsn < after, "{before} {} {after}", point.lsn);
        assert!((3..=point.xmax).contains(&point.xmin), "{} {}", point.xmin, point.xmax);
        assert!((tributary::clock::unix_micros() - point.time_unix_micros).abs() < 60_000_000);
        for _ in 0..2 {
            let mut worker = source.worker(&point).await;
            let shape = shape_of(&mut worker, source.oid("t").await).await;
            assert_eq!(read(&mut worker, &shape, Blocks::ALL, None).await.unwrap().ids(), [1]);
        }
        point.check().await.expect("it is kept");
        let name = point.snapshot.clone();
        drop(point);
        tokio::time::sleep(Duration::from_millis(200)).await;
        let gone = transaction(&source.options, &name, Patience::default()).await.unwrap_err();
        assert_eq!(verdict(&gone), Verdict::NewPoint, "{gone:?}");
    }
}

/// T72: the stream begins where the snapshot ends: every transaction is in exactly one of them.
#[tokio::test]
async fn every_transaction_is_in_the_snapshot_or_in_the_stream() {
    for server in servers() {
        let source = Source::new(&server, "t_point_load").await;
        source.execute("CREATE TABLE t (id int8 PRIMARY KEY); CREATE PUBLICATION p FOR TABLE t").await;
        let (mut stream, _) =
            Box::pin(super::super::stream_from_new_slot(&source.options, "t_point_load", "p")).await;
        let writer = server.sql("t_point_load").await;
        let load = tokio::spawn(async move {
            for id in 0..2000 {
                writer.execute("load", &format!("INSERT INTO t VALUES ({id})")).await.expect("insert");
            }
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut points = Vec::new();
        for _ in 0..5 {
            let point = source.point().await;
            let mut worker = source.worker(&point).await;
            let shape = shape_of(&mut worker, source.oid("t").await).await;
            let mut ids = read(&mut worker, &shape, Blocks::ALL, None).await.unwrap().ids();
            ids.sort_unstable();
            points.push((point.lsn, ids));
        }
        load.await.unwrap();
        source.execute("SELECT pg_logical_emit_message(true, 'end', 'the end')").await;
        let messages = super::super::until(&mut stream, "the end").await.expect("the stream");
        let mut decoder = pgoutput::Decoder::new(pgoutput::Options {
            proto_version: tributary::source::session::proto_version(server.major * 10_000),
            streaming_parallel: false,
        });
        let mut commit = pgoutput::Lsn::ZERO;
        let mut streamed: Vec<(pgoutput::Lsn, i64)> = Vec::new();
        for message in &messages {
            let super::super::Got::Wal(bytes) = message else { continue };
            match decoder.decode(bytes).expect("a message") {
                pgoutput::Message::Begin(begin) => commit = begin.final_lsn,
                pgoutput::Message::Insert(insert) => {
                    let Some(Cell::Text(id)) = insert.new.cells().next() else { panic!("an id") };
                    streamed.push((commit, std::str::from_utf8(id).unwrap().parse().unwrap()));
                }
                _ => {}
            }
        }
        assert_eq!(streamed.len(), 2000);
        assert!(
            points.iter().any(|(_, ids)| !ids.is_empty() && ids.len() < 2000),
            "nothing was written meanwhile"
        );
        for (lsn, ids) in points {
            let before: Vec<i64> = streamed.iter().filter(|(at, _)| *at < lsn).map(|(_, id)| *id).collect();
            assert_eq!(ids, before, "at {lsn}");
        }
    }
}

/// T70
#[tokio::test]
async fn an_open_transaction_is_named_and_not_waited_for_without_end() {
    for server in servers() {
        let source = Source::new(&server, "t_point_wait").await;
        source.execute("CREATE TABLE t (id int8 PRIMARY KEY)").await;
        let other = server.sql("t_point_wait").await;
        other
            .execute("open", "SET application_name = 'batch job'; BEGIN; INSERT INTO t VALUES (1)")
            .await
            .unwrap();
        let rows = other.query("pid", "SELECT pg_backend_pid()", &[]).await.unwrap();
        let pid: i32 = rows[0].get(0);
        let wait = Duration::from_secs(1);
        let error = source.find_point(wait).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Transient);
        let text = error.to_string();
        assert!(text.contains(&format!("process {pid}")) && text.contains("batch job"), "{text}");
        assert_eq!(slots(&source).await, 0, "nothing is left behind");
        other.execute("end", "ROLLBACK").await.unwrap();
        drop(source.point().await);
    }
}

#[tokio::test]
async fn a_snapshot_ends_with_its_keeper() {
    for server in servers() {
        let source = Source::new(&server, "t_point_lost").await;
        let point = source.point().await;
        source
            .execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE datname = current_database() AND state = 'idle in transaction'",
            )
            .await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(point.check().await.is_err());
        let error = transaction(&source.options, &point.snapshot, Patience::default()).await.unwrap_err();
        assert_eq!(verdict(&error), Verdict::NewPoint, "{error:?}");
    }
}

//! Slots as servers show them: what they keep, who else does, and copies for standbys.

use std::time::Duration;

use pgoutput::Lsn;
use tributary::source::catalog::OpenTransaction;
use tributary::source::held::{By, holders, why};
use tributary::source::{Session, slot};

use super::servers;

const LIMIT: Duration = Duration::from_secs(30);

/// What is not confirmed is told from what is kept for a transaction, and other slots and the oldest transaction are seen.
#[tokio::test]
async fn who_holds_the_log_is_read_of_every_version() {
    for server in servers() {
        let sql = server.database("t_held").await;
        let options = server.options("postgres", "t_held", "sslmode=disable");
        let mut session = Session::connect(&options).await.expect("a session");
        let created = session.create_slot("t_held", LIMIT).await.expect("a slot");
        drop(session);
        sql.query(
            "another slot",
            "SELECT pg_create_logical_replication_slot('t_held_other', 'pgoutput')",
            &[],
        )
        .await
        .expect("a slot");
        sql.execute("log", "CREATE TABLE t (body text); INSERT INTO t SELECT repeat('x', 1000) FROM generate_series(1, 1000)")
            .await
            .expect("rows");
        let found = slot::slot(&sql, "t_held").await.expect("an answer").expect("the slot");
        assert_eq!(found.confirmed_flush, Some(created.consistent_point), "Postgres {}", server.major);
        let (retained, behind) = (found.retained_bytes.unwrap(), found.behind_bytes.unwrap());
        assert!((1_000_000..=retained).contains(&behind), "{behind} of {retained}");
        assert!(
            found.restart_lsn.unwrap() <= created.consistent_point && found.restart_lsn.unwrap() > Lsn::ZERO
        );

        let writer = server.sql("t_held").await;
        writer.execute("a transaction", "BEGIN; INSERT INTO t VALUES ('open')").await.expect("rows");
        let seen = holders(&sql, None, "t_held").await.expect("holders");
        let other = seen.slots.iter().find(|slot| slot.name == "t_held_other").expect("the other slot");
        assert!(!other.is_physical && !other.active && other.retained_bytes >= 1_000_000, "{other:?}");
        assert!(seen.slots.iter().all(|slot| slot.name != "t_held"), "ours is no other one");
        assert!(seen.others_retain() >= other.retained_bytes);
        // Tests run at once, so that it need not be ours.
        assert!(matches!(
            seen.oldest,
            Some(OpenTransaction::Session { .. } | OpenTransaction::Prepared { .. })
        ));
        writer.execute("the end", "ROLLBACK").await.expect("done");

        let large = slot::Slot { retained_bytes: Some(1 << 40), behind_bytes: Some(1 << 40), ..found };
        let held = why(None, &large, &seen, None);
        assert_eq!(held.first().map(|held| held.by), Some(By::Nobody), "{held:?}");
        for name in ["t_held", "t_held_other"] {
            slot::drop_slot(&sql, name).await.expect("dropped");
        }
    }
}

/// T74: standbys copy only slots that say so; it can be said later, too.
#[tokio::test]
async fn t74_slots_are_for_failover_if_they_are_made_so() {
    for server in servers().into_iter().filter(|server| server.major >= 17) {
        let sql = server.database("t_failover").await;
        let options = server.options("postgres", "t_failover", "sslmode=disable");
        let mut session = Session::connect(&options).await.expect("a session");
        session.create_failover_slot("t_failover", LIMIT).await.expect("a slot");
        session.create_slot("t_plain", LIMIT).await.expect("a slot");
        let failover =
            async |name: &str| slot::slot(&sql, name).await.expect("an answer").expect("the slot").failover;
        assert_eq!((failover("t_failover").await, failover("t_plain").await), (Some(true), Some(false)));
        session.alter_slot_to_failover("t_plain").await.expect("altered");
        assert_eq!(failover("t_plain").await, Some(true));
        for name in ["t_failover", "t_plain"] {
            slot::drop_slot(&sql, name).await.expect("dropped");
        }
    }
}

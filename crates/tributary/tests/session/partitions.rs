//! What the catalogs say of how a table became a partition.

use pgoutput::Oid;
use tributary::source::catalog::next_xid;
use tributary::source::partitions::{attached, born, empty};

use super::servers;

/// Each line is a transaction. Only tables whose name begins with `born` had no row that was not a partition's.
const LIVES: &[&str] = &[
    "CREATE TABLE keyed (id int NOT NULL, v text, p int NOT NULL, PRIMARY KEY (id, p)) PARTITION BY LIST (p)",
    "CREATE TABLE bare (v text, p int) PARTITION BY LIST (p)",
    "CREATE TABLE ranges (v text, p int) PARTITION BY RANGE (p)",
    "CREATE TABLE born_alone PARTITION OF keyed FOR VALUES IN (1)",
    "CREATE TABLE born_filled PARTITION OF keyed FOR VALUES IN (2); INSERT INTO keyed VALUES (1, 'x', 2); ALTER TABLE born_filled ADD CHECK (id > 0)",
    "CREATE TABLE born_indexed PARTITION OF keyed (v DEFAULT 'z') FOR VALUES IN (3)",
    "CREATE INDEX ON keyed (v)",
    "CREATE TABLE born_altered PARTITION OF bare FOR VALUES IN (4)",
    "ALTER TABLE born_altered ALTER COLUMN v SET STATISTICS 10",
    "CREATE TABLE born_default PARTITION OF bare DEFAULT",
    "CREATE TABLE born_range PARTITION OF ranges FOR VALUES FROM (1) TO (2)",
    "CREATE TABLE born_middle PARTITION OF keyed FOR VALUES IN (5) PARTITION BY LIST (id); CREATE TABLE born_below PARTITION OF born_middle DEFAULT",
    // With rows from before, in one transaction and in several.
    "CREATE TABLE attached (id int NOT NULL, v text, p int NOT NULL, PRIMARY KEY (id, p)); INSERT INTO attached VALUES (1, 'x', 11); ALTER TABLE keyed ATTACH PARTITION attached FOR VALUES IN (11)",
    "CREATE TABLE attached_later (LIKE bare); INSERT INTO attached_later VALUES ('x', 12)",
    "ALTER TABLE bare ATTACH PARTITION attached_later FOR VALUES IN (12)",
    "CREATE TABLE again PARTITION OF bare FOR VALUES IN (13); ALTER TABLE bare DETACH PARTITION again; INSERT INTO again VALUES ('x', 13); ALTER TABLE bare ATTACH PARTITION again FOR VALUES IN (13)",
    // Its partition is one from its first moment, but was not one of a published table.
    "CREATE TABLE attached_middle (v text, p int) PARTITION BY LIST (p); CREATE TABLE born_in_middle PARTITION OF attached_middle FOR VALUES IN (14); INSERT INTO attached_middle VALUES ('x', 14); ALTER TABLE bare ATTACH PARTITION attached_middle FOR VALUES IN (14)",
    // It had its columns from another table, in another way.
    "CREATE TABLE parent (v text, p int); CREATE TABLE child () INHERITS (parent); INSERT INTO child VALUES ('x', 15); ALTER TABLE child NO INHERIT parent; ALTER TABLE bare ATTACH PARTITION child FOR VALUES IN (15)",
    "CREATE TABLE tried (v text, p int); INSERT INTO tried VALUES ('x', 17); ALTER TABLE bare ATTACH PARTITION tried FOR VALUES IN (17)",
    // Rows of an unlogged table are in no stream; what became of it later does not tell.
    "CREATE UNLOGGED TABLE unlogged PARTITION OF bare FOR VALUES IN (16); INSERT INTO bare VALUES ('x', 16)",
    "ALTER TABLE unlogged SET LOGGED",
];

#[tokio::test]
async fn partitions_that_never_were_anything_else() {
    for server in servers() {
        let sql = server.database("t_partitions").await;
        let early = "CREATE TABLE early (v text, p int) PARTITION BY LIST (p); CREATE TABLE early_1 PARTITION OF early FOR VALUES IN (1)";
        sql.execute("early", early).await.unwrap();
        sql.execute("publication", "CREATE PUBLICATION everything FOR ALL TABLES").await.unwrap();
        let names = ["everything".to_owned()];
        let since = next_xid(&sql).await.unwrap();
        for life in LIVES {
            sql.execute(life, life).await.expect("a life");
        }
        // What is undone, and thawed afterwards, tells nothing either.
        for undone in [
            "ALTER TABLE attached ALTER COLUMN v SET STATISTICS 10",
            "ALTER TABLE bare DETACH PARTITION tried",
            "DROP TABLE again",
        ] {
            sql.execute("undone", &format!("BEGIN; {undone}; ROLLBACK")).await.unwrap();
        }
        for vacuum in ["", "VACUUM FREEZE pg_attribute", "VACUUM FREEZE pg_inherits", "ANALYZE born_range"] {
            sql.execute("vacuum", vacuum).await.unwrap();
            let partitions: Vec<Oid> =
                attached(&sql).await.unwrap().into_iter().map(|attached| attached.partition).collect();
            let found: Vec<u32> =
                born(&sql, &partitions, &names, since).await.unwrap().into_iter().map(|oid| oid.0).collect();
            let names = "SELECT relname::text FROM pg_class WHERE oid = ANY($1::oid[]) ORDER BY 1";
            let rows = sql.query("names", names, &[&found]).await.unwrap();
            let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
            let wrong: Vec<&String> = names.iter().filter(|name| !name.starts_with("born")).collect();
            assert!(wrong.is_empty(), "{server:?} {vacuum}: {wrong:?}");
            // One whose columns lie at the end of a block is not found.
            assert!(names.len() >= 7, "{server:?} {vacuum}: {names:?}");
            let without_rows = empty(&sql, &partitions).await.unwrap().len();
            assert_eq!(without_rows, 7, "{server:?}");
        }
        // What is published since later may have rows from before.
        sql.execute(
            "later",
            "CREATE PUBLICATION later FOR ALL TABLES; CREATE PUBLICATION parts FOR TABLE born_alone",
        )
        .await
        .unwrap();
        let partitions: Vec<Oid> =
            attached(&sql).await.unwrap().into_iter().map(|attached| attached.partition).collect();
        let found = born(&sql, &partitions, &["later".into(), "parts".into()], since).await.unwrap();
        assert_eq!(found, [], "{server:?}");
    }
}

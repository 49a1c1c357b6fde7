//! What is read from the catalogs, by a role that may replicate and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use pgoutput::{Oid, ReplicaIdentity};
use tables::fold::{Pattern, Patterns, Selection, is_made_up};
use tables::lineage::Link;
use tables::types::TypeKind;
use tributary::source::catalog::{
    IdentityReason, facts_all, facts_for, identity_problems, publication, published_roots,
    server as server_facts,
};
use tributary::source::partitions::{folded, names_fingerprint};
use tributary::source::{Folding, Sql, connect_sql};

use super::{Server, servers};

const TABLES: &str = r#"
    CREATE SCHEMA "we.ird";
    CREATE TYPE mood AS ENUM ('sad', 'ok');
    CREATE DOMAIN price AS numeric(10,2);
    CREATE DOMAIN prices AS price[];
    CREATE TYPE pair AS (a int, b mood);
    CREATE TABLE orders (id bigint, at date, m mood, ps prices, c pair, PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
    CREATE TABLE orders_2026 PARTITION OF orders FOR VALUES FROM ('2026-01-01') TO ('2027-01-01') PARTITION BY LIST (id);
    CREATE TABLE "we.ird"."orders 2026 1" PARTITION OF orders_2026 FOR VALUES IN (1);
    CREATE TABLE orders_2026_rest PARTITION OF orders_2026 DEFAULT;
    CREATE TABLE orders_rest PARTITION OF orders DEFAULT;
    ALTER TABLE orders REPLICA IDENTITY FULL;
    CREATE TABLE plain (id int, k text NOT NULL, x int, UNIQUE (k), PRIMARY KEY (id) INCLUDE (x));
    ALTER TABLE plain REPLICA IDENTITY USING INDEX plain_k_key;
    CREATE TABLE parent (id int);
    CREATE TABLE child () INHERITS (parent);
    CREATE TABLE nokey (x int);
    CREATE TABLE nothing (id int PRIMARY KEY);
    ALTER TABLE nothing REPLICA IDENTITY NOTHING;
    CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY);
    CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE);
"#;

async fn set_up(server: &Server, database: &str) -> (Sql, Sql) {
    let admin = server.database(database).await;
    admin.execute("tables", TABLES).await.expect("tables");
    server.replication_role("t_catalog_role").await;
    let ours = connect_sql(&server.options("t_catalog_role", database, "")).await.expect("an ordinary role");
    (admin, ours)
}

/// By partitions alone.
fn folding(to_root: bool) -> Folding {
    Folding::new(to_root, Selection::new(&[], &[]).unwrap(), Patterns::default(), Vec::new())
}

#[tokio::test]
async fn leaves_by_inheritance_and_by_their_names() {
    for server in servers() {
        let (admin, ours) = set_up(&server, "t_rules").await;
        let more = "CREATE TABLE grandchild () INHERITS (child); CREATE PUBLICATION p FOR ALL TABLES";
        admin.execute("more tables", more).await.expect("more tables");
        let patterns =
            [(r"public\.no(key|thing)", "lake.no"), (r"public\.(?<which>orders|deferred)", "public.plain")];
        let patterns = patterns.map(|(expression, into)| Pattern::new(expression, into).unwrap()).to_vec();
        let patterns = Patterns::new(patterns, std::iter::empty());
        let inherit = Selection::new(&["public.parent".into()], &[]).unwrap();
        let folding = Folding::new(true, inherit, patterns, Vec::new());
        let facts = facts_all(&ours, &["p".into()], &folding).await.unwrap();
        let root = |name: &str| facts.roots.iter().find(|root| root.name == name).map(|root| root.oid);
        let leaf = |name: &str| {
            facts.leaves.iter().find(|leaf| leaf.name == name).map(|leaf| (Some(leaf.root), leaf.link))
        };
        let made_up =
            facts.roots.iter().find(|root| (root.schema.as_str(), root.name.as_str()) == ("lake", "no"));
        let made_up = made_up.expect("a table that is in no catalog");
        assert!(is_made_up(made_up.oid));
        assert_eq!(made_up.primary_key, ["id"]);
        for name in ["nokey", "nothing"] {
            assert_eq!(leaf(name), Some((Some(made_up.oid), Link::Rule)), "{name}");
            assert_eq!(root(name), None);
        }
        for name in ["child", "grandchild"] {
            assert_eq!(leaf(name), Some((root("parent"), Link::Rule)), "{name}");
        }
        // A partitioned table is a leaf with all its partitions.
        let orders = oid(&admin, "orders").await;
        assert_eq!(leaf("orders"), Some((root("plain"), Link::Rule)));
        assert_eq!(leaf("orders_rest"), Some((root("plain"), Link::Below(orders))));
        let one = facts_for(&ours, &folding, &[oid(&admin, "grandchild").await, made_up.oid], &[], &[])
            .await
            .unwrap();
        assert_eq!(
            one.leaves.iter().map(|leaf| leaf.root).collect::<Vec<_>>(),
            [oid(&admin, "parent").await]
        );
        let mut names: Vec<&str> = one.roots.iter().map(|root| root.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!((names, one.gone), (vec!["no", "parent"], vec![]));
        let mut roots = published_roots(&ours, &["p".into()], &folding).await.unwrap();
        let mut all: Vec<Oid> = facts.roots.iter().map(|root| root.oid).collect();
        roots.sort_unstable();
        all.sort_unstable();
        assert_eq!(roots, all);
        let mut folded: Vec<(Oid, bool)> = folded(&ours, &["p".into()], &folding, None)
            .await
            .unwrap()
            .iter()
            .map(|found| (found.partition, found.by == 1))
            .collect();
        folded.sort_unstable();
        let mut expected = Vec::new();
        for (name, by_name) in [
            ("nokey", true),
            ("nothing", true),
            ("orders", true),
            ("deferred", true),
            ("child", false),
            ("grandchild", false),
        ] {
            expected.push((oid(&admin, name).await, by_name));
        }
        expected.sort_unstable();
        assert_eq!(folded, expected);
        let before = names_fingerprint(&ours).await.unwrap();
        admin.execute("rename", "ALTER TABLE nokey RENAME TO key").await.expect("rename");
        assert_ne!(names_fingerprint(&ours).await.unwrap(), before);
    }
}

async fn oid(admin: &Sql, name: &str) -> Oid {
    let rows = admin.query("oid", "SELECT $1::text::regclass::oid", &[&name]).await.unwrap();
    Oid(rows[0].get(0))
}

#[tokio::test]
async fn published_tables_with_their_partitions_keys_and_types() {
    for server in servers() {
        let (admin, ours) = set_up(&server, "t_catalog").await;
        let orders = oid(&admin, "orders").await;
        // The same facts, whichever way the same rows are published.
        for create in [
            "CREATE PUBLICATION p FOR TABLE orders, plain",
            "CREATE PUBLICATION p FOR TABLE orders, plain WITH (publish_via_partition_root = true)",
            "CREATE PUBLICATION p FOR TABLE orders_2026, orders_rest, plain",
        ] {
            admin.execute("publication", &format!("DROP PUBLICATION IF EXISTS p; {create}")).await.unwrap();
            let facts =
                facts_all(&ours, &["p".into(), "missing".into()], &folding(true)).await.expect(create);
            let roots: BTreeMap<&str, _> =
                facts.roots.iter().map(|root| (root.name.as_str(), root)).collect();
            assert_eq!(roots.keys().copied().collect::<Vec<_>>(), ["orders", "plain"], "{create}");
            assert_eq!(roots["orders"].primary_key, ["at", "id"]);
            assert_eq!(roots["orders"].replica_identity, ReplicaIdentity::Full);
            assert_eq!(roots["plain"].primary_key, ["id"]);
            assert_eq!(roots["plain"].replica_identity, ReplicaIdentity::Index);
            let mut leaves: Vec<String> =
                facts.leaves.iter().map(|leaf| format!("{}/{}", leaf.schema, leaf.name)).collect();
            leaves.sort();
            assert_eq!(
                leaves,
                [
                    "public/orders_2026",
                    "public/orders_2026_rest",
                    "public/orders_rest",
                    "we.ird/orders 2026 1"
                ],
                "{create}"
            );
            assert!(
                facts
                    .leaves
                    .iter()
                    .all(|leaf| leaf.root == orders && leaf.replica_identity == ReplicaIdentity::Default)
            );
            let types: BTreeMap<&str, &TypeKind> =
                facts.types.iter().map(|facts| (facts.name.as_str(), &facts.kind)).collect();
            assert_eq!(types["mood"], &TypeKind::Enum);
            let TypeKind::Composite { attributes } = types["pair"] else { panic!("{:?}", types["pair"]) };
            let attributes: Vec<(&str, bool)> =
                attributes.iter().map(|found| (found.name.as_str(), found.type_oid == Oid(23))).collect();
            assert_eq!(attributes, [("a", true), ("b", false)]);
            assert!(
                matches!(types["price"], TypeKind::Domain { base: Oid(1700), type_modifier } if *type_modifier > 0)
            );
            let price = facts.types.iter().find(|facts| facts.name == "price").unwrap().oid;
            assert_eq!(types["_price"], &TypeKind::Array { element: price });
            assert!(matches!(types["prices"], TypeKind::Domain { .. }));
        }
        let facts = facts_all(&ours, &["p".into()], &folding(false)).await.unwrap();
        assert!(facts.leaves.is_empty());
        assert_eq!(facts.roots.len(), 5, "every relation for itself: {:?}", facts.roots);
    }
}

#[tokio::test]
async fn publications_of_everything_and_of_schemas() {
    for server in servers() {
        let (admin, ours) = set_up(&server, "t_catalog_all").await;
        admin.execute("publication", "CREATE PUBLICATION p FOR ALL TABLES").await.unwrap();
        let facts = facts_all(&ours, &["p".into()], &folding(true)).await.unwrap();
        let mut roots: Vec<&str> = facts.roots.iter().map(|root| root.name.as_str()).collect();
        roots.sort_unstable();
        assert_eq!(roots, ["child", "deferred", "nokey", "nothing", "orders", "parent", "plain"]);
        assert_eq!(facts.leaves.len(), 4);
        if server.major >= 15 {
            admin
                .execute("publication", "CREATE PUBLICATION s FOR TABLES IN SCHEMA \"we.ird\"")
                .await
                .unwrap();
            let facts = facts_all(&ours, &["s".into()], &folding(true)).await.unwrap();
            assert_eq!(facts.leaves.len(), 1);
            // The root lies in another schema, and is told of all the same.
            assert_eq!(facts.roots.iter().map(|root| root.name.as_str()).collect::<Vec<_>>(), ["orders"]);
        }
    }
}

/// Until somebody finishes it, a partition that is being detached is nobody's for all who look.
#[tokio::test]
async fn a_partition_that_is_being_detached_is_a_root() {
    for server in servers() {
        let (admin, ours) = set_up(&server, "t_catalog_pending").await;
        let tables = "CREATE TABLE events (id int) PARTITION BY LIST (id);
            CREATE TABLE events_1 PARTITION OF events FOR VALUES IN (1) PARTITION BY LIST (id);
            CREATE TABLE events_1_1 PARTITION OF events_1 FOR VALUES IN (1);
            CREATE PUBLICATION p FOR TABLE events";
        admin.execute("tables", tables).await.unwrap();
        let reader = connect_sql(&server.options("postgres", "t_catalog_pending", "")).await.unwrap();
        reader.execute("a reader that does not end", "BEGIN; SELECT FROM public.events").await.unwrap();
        admin.execute("patience", "SET statement_timeout = '300ms'").await.unwrap();
        let detach = "ALTER TABLE events DETACH PARTITION events_1 CONCURRENTLY";
        admin.execute("detach", detach).await.expect_err("it waits for the reader");
        let (events, pending) = (oid(&admin, "events").await, oid(&admin, "events_1").await);
        let facts = facts_all(&ours, &["p".into()], &folding(true)).await.unwrap();
        let roots: BTreeMap<&str, Oid> =
            facts.leaves.iter().map(|leaf| (leaf.name.as_str(), leaf.root)).collect();
        assert_eq!(roots, BTreeMap::from([("events_1", pending), ("events_1_1", pending)]));
        let expected = BTreeSet::from([events, pending]);
        assert_eq!(facts.roots.iter().map(|root| root.oid).collect::<BTreeSet<_>>(), expected);
        let roots = published_roots(&ours, &["p".into()], &folding(true)).await.unwrap();
        assert_eq!(roots.into_iter().collect::<BTreeSet<_>>(), expected);
    }
}

#[tokio::test]
async fn relations_and_types_that_appear_or_are_gone() {
    for server in servers() {
        let (admin, ours) = set_up(&server, "t_catalog_new").await;
        let leaf = oid(&admin, "orders_2026_rest").await;
        let plain = oid(&admin, "plain").await;
        let gone = Oid(4_000_000_000);
        let rows = admin.query("type", "SELECT 'prices'::regtype::oid", &[]).await.unwrap();
        let prices = Oid(rows[0].get(0));
        let facts = facts_for(&ours, &folding(true), &[leaf, plain, gone], &[prices, gone], &[])
            .await
            .expect("facts");
        assert_eq!(facts.leaves.len(), 1);
        assert_eq!(facts.leaves[0].root, oid(&admin, "orders").await);
        let mut roots: Vec<&str> = facts.roots.iter().map(|root| root.name.as_str()).collect();
        roots.sort_unstable();
        assert_eq!(roots, ["orders", "plain"]);
        assert_eq!(facts.gone, [gone, gone], "relation and type");
        let names: Vec<&str> = facts.types.iter().map(|facts| facts.name.as_str()).collect();
        for name in ["prices", "_price", "price"] {
            assert!(names.contains(&name), "{name} in {names:?}");
        }
        // A detached partition is a table of its own.
        admin
            .execute("detach", "ALTER TABLE public.orders DETACH PARTITION public.orders_rest")
            .await
            .unwrap();
        let detached = oid(&admin, "orders_rest").await;
        let facts = facts_for(&ours, &folding(true), &[detached], &[], &[]).await.unwrap();
        assert_eq!((facts.leaves.len(), facts.roots.len(), facts.gone.len()), (0, 1, 0));
        let changed = facts_for(&ours, &folding(true), &[], &[], &[plain, gone]).await.unwrap();
        assert_eq!(changed.roots.len(), 1, "its key may have another name");
        let columns: Vec<(Oid, usize)> =
            changed.columns.iter().map(|(oid, columns)| (*oid, columns.len())).collect();
        assert!(
            matches!(columns.as_slice(), [(known, 1..), (nobody, 0)] if (*known, *nobody) == (plain, gone))
        );
        let nothing = facts_for(&ours, &folding(true), &[], &[], &[]).await.unwrap();
        assert!(nothing.roots.is_empty() && nothing.types.is_empty());
    }
}

/// T36, T46, T49
#[tokio::test]
async fn a_publications_hash_changes_with_its_definition() {
    for server in servers() {
        let (admin, ours) = set_up(&server, "t_catalog_hash").await;
        admin.execute("publication", "CREATE PUBLICATION p FOR TABLE plain").await.unwrap();
        admin
            .execute("publication", "CREATE PUBLICATION q FOR ALL TABLES WITH (publish = 'insert')")
            .await
            .unwrap();
        let names = ["q".to_owned(), "p".to_owned(), "missing".to_owned()];
        let found = publication(&ours, &names).await.unwrap();
        assert_eq!(found.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["p", "q"]);
        assert!(found[1].all_tables && found[1].insert && !found[1].update && !found[0].all_tables);
        let mut hashes = vec![found[0].definition_hash.clone()];
        let mut changes = vec![
            "ALTER PUBLICATION p SET (publish_via_partition_root = true)",
            "ALTER PUBLICATION p ADD TABLE orders",
            "ALTER PUBLICATION p SET (publish = 'insert, update')",
        ];
        if server.major >= 15 {
            changes.extend([
                "ALTER PUBLICATION p SET TABLE plain (id, k)",
                "ALTER PUBLICATION p SET TABLE plain WHERE (id > 5)",
                "ALTER PUBLICATION p ADD TABLES IN SCHEMA \"we.ird\"",
            ]);
        }
        if server.major >= 18 {
            changes.push("ALTER PUBLICATION p SET (publish_generated_columns = stored)");
        }
        for change in changes {
            admin.execute("change", change).await.expect(change);
            let hash = publication(&ours, &names).await.unwrap()[0].definition_hash.clone();
            assert_eq!(hash.len(), 64);
            assert!(!hashes.contains(&hash), "{change}");
            assert_eq!(hash, publication(&ours, &names).await.unwrap()[0].definition_hash, "stable");
            hashes.push(hash);
        }
        // Ordinary changes of a table are none of the publication.
        let before = publication(&ours, &names).await.unwrap();
        admin
            .execute("column", "ALTER TABLE public.plain ADD COLUMN y int; ANALYZE public.plain")
            .await
            .unwrap();
        assert_eq!(before, publication(&ours, &names).await.unwrap());
    }
}

/// T47
#[tokio::test]
async fn tables_that_a_publication_would_hurt() {
    for server in servers() {
        let (admin, ours) = set_up(&server, "t_catalog_identity").await;
        admin
            .execute("partitions", "CREATE TABLE log (x int) PARTITION BY LIST (x); CREATE TABLE log_1 PARTITION OF log FOR VALUES IN (1); CREATE TABLE log_2 PARTITION OF log FOR VALUES IN (2)")
            .await
            .unwrap();
        let found = identity_problems(&ours, &[]).await.unwrap();
        let short: Vec<(&str, IdentityReason, u64)> =
            found.iter().map(|problem| (problem.table.as_str(), problem.reason, problem.relations)).collect();
        assert_eq!(
            short,
            [
                ("child", IdentityReason::NoPrimaryKey, 1),
                ("deferred", IdentityReason::NoPrimaryKey, 1),
                ("log", IdentityReason::NoPrimaryKey, 2),
                ("nokey", IdentityReason::NoPrimaryKey, 1),
                ("nothing", IdentityReason::Nothing, 1),
                ("parent", IdentityReason::NoPrimaryKey, 1),
            ]
        );
        assert_eq!(found[2].example, "public.log_1");
        admin.execute("publication", "CREATE PUBLICATION p FOR TABLE log, plain; CREATE PUBLICATION i FOR TABLE nokey WITH (publish = 'insert')").await.unwrap();
        let found = identity_problems(&ours, &["p".into(), "i".into()]).await.unwrap();
        assert_eq!(found.iter().map(|problem| problem.table.as_str()).collect::<Vec<_>>(), ["log"]);
    }
}

#[tokio::test]
async fn settings_of_the_server() {
    for server in servers() {
        let (_admin, ours) = set_up(&server, "t_catalog_server").await;
        let facts = server_facts(&ours).await.expect("facts");
        assert_eq!(facts.version / 10_000, server.major);
        assert_eq!((facts.wal_level.as_str(), facts.encoding.as_str()), ("logical", "UTF8"));
        assert!(!facts.in_recovery && facts.may_replicate && !facts.is_superuser);
        assert!(facts.current_lsn.is_some() && facts.max_replication_slots > 0 && facts.max_wal_senders > 0);
        assert_eq!(facts.max_slot_wal_keep_bytes, None);
        assert_eq!(facts.idle_replication_slot_timeout, None);
    }
}

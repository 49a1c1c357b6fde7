//! The SQL that `setup` prints and runs.
//!
//! Owns: its wording.
//! Does not: run anything.
//! Holds: every name is quoted.
//! Fails: never.

use crate::source::sql::{quote_identifier, quote_literal};

/// `"schema"."table"`
pub(crate) fn qualified(schema: &str, table: &str) -> String {
    format!("{}.{}", quote_identifier(schema), quote_identifier(table))
}

/// A role that can stream. The password is the administrator's to choose.
pub(super) fn create_role(role: &str) -> String {
    format!("CREATE ROLE {} LOGIN REPLICATION PASSWORD '…';", quote_identifier(role))
}

pub(super) fn alter_role(role: &str) -> String {
    format!("ALTER ROLE {} REPLICATION;", quote_identifier(role))
}

pub(super) fn grant_connect(database: &str, role: &str) -> String {
    format!("GRANT CONNECT ON DATABASE {} TO {};", quote_identifier(database), quote_identifier(role))
}

pub(super) fn grant_schema(schema: &str, role: &str) -> [String; 2] {
    let (schema, role) = (quote_identifier(schema), quote_identifier(role));
    [
        format!("GRANT USAGE ON SCHEMA {schema} TO {role};"),
        format!("GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role};"),
    ]
}

/// Off, so that truncate, attach and detach of a partition can be seen.
const VIA_ROOT: &str = "WITH (publish_via_partition_root = false)";

pub(super) fn publish_all(publication: &str) -> String {
    format!("CREATE PUBLICATION {} FOR ALL TABLES {VIA_ROOT};", quote_identifier(publication))
}

pub(super) fn publish_tables(publication: &str, tables: &[(String, String)]) -> String {
    let tables: Vec<String> = tables.iter().map(|(schema, table)| qualified(schema, table)).collect();
    format!(
        "CREATE PUBLICATION {} FOR TABLE\n  {}\n  {VIA_ROOT};",
        quote_identifier(publication),
        tables.join(",\n  ")
    )
}

/// One table.
pub(super) fn identity(schema: &str, table: &str, identity: &str) -> String {
    format!("ALTER TABLE {} REPLICA IDENTITY {identity};", qualified(schema, table))
}

/// A root with all its partitions: ALTER TABLE does not reach them by itself. Each in a transaction of its own, since
/// thousands of locks do not fit into one.
pub(super) fn identity_of_partitions(schema: &str, table: &str, identity: &str) -> String {
    let root = quote_literal(&qualified(schema, table));
    format!(
        "DO $$ DECLARE part regclass; BEGIN\n  FOR part IN SELECT relid FROM pg_partition_tree({root}) LOOP\n    \
         EXECUTE format('ALTER TABLE %s REPLICA IDENTITY {identity}', part); COMMIT;\n  END LOOP;\nEND $$;"
    )
}

//! The SQL that `setup` prints and runs.
//!
//! Owns: its wording.
//! Does not: run anything.
//! Holds: every name is quoted.
//! Fails: never.

use crate::source::DDL_PREFIX;
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

/// What makes the stream tell of tables that are made, altered or dropped. It runs as its owner, so that no DDL of anybody fails for a privilege, and
/// says nothing of temporary tables. `pg_temp` is looked at last: unless it is named it comes first, and whoever makes a temporary `pg_class` there
/// would have the owner run what they like.
pub(super) fn ddl_events() -> Vec<String> {
    let function = |name: &str, found: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION public.{name}() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$\n\
             BEGIN\n  IF EXISTS ({found}) THEN\n    PERFORM pg_catalog.pg_logical_emit_message(true, {}, tg_tag);\n  END IF;\nEND $$;",
            quote_literal(DDL_PREFIX)
        )
    };
    // Half of it may be there, or disabled.
    let drops = TRIGGERS.map(|name| format!("DROP EVENT TRIGGER IF EXISTS {name};"));
    let made = [
        function(
            TRIGGERS[0],
            "SELECT FROM pg_catalog.pg_event_trigger_ddl_commands() d JOIN pg_catalog.pg_class c ON c.oid = d.objid\n    \
             WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'",
        ),
        format!(
            "CREATE EVENT TRIGGER {0} ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE', 'CREATE SCHEMA')\n  \
             EXECUTE FUNCTION public.{0}();",
            TRIGGERS[0]
        ),
        function(
            TRIGGERS[1],
            "SELECT FROM pg_catalog.pg_event_trigger_dropped_objects() d WHERE d.object_type = 'table' AND NOT d.is_temporary",
        ),
        format!("CREATE EVENT TRIGGER {0} ON sql_drop EXECUTE FUNCTION public.{0}();", TRIGGERS[1]),
    ];
    drops.into_iter().chain(made).collect()
}

/// Takes that away again.
pub(crate) fn drop_ddl_events() -> String {
    let drops = TRIGGERS
        .map(|name| format!("DROP EVENT TRIGGER IF EXISTS {name}; DROP FUNCTION IF EXISTS public.{name}();"));
    drops.join(" ")
}

/// The event triggers of [`ddl_events`]; their functions have the same names.
pub(crate) const TRIGGERS: [&str; 2] = ["tributary_ddl", "tributary_drop"];

/// A root with all its partitions: ALTER TABLE does not reach them by itself. Each in a transaction of its own, since
/// thousands of locks do not fit into one.
pub(super) fn identity_of_partitions(schema: &str, table: &str, identity: &str) -> String {
    let root = quote_literal(&qualified(schema, table));
    format!(
        "DO $$ DECLARE part regclass; BEGIN\n  FOR part IN SELECT relid FROM pg_partition_tree({root}) LOOP\n    \
         EXECUTE format('ALTER TABLE %s REPLICA IDENTITY {identity}', part); COMMIT;\n  END LOOP;\nEND $$;"
    )
}

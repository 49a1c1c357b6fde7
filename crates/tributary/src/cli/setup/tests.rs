use super::plan::{Step, StepState};
use super::*;

#[test]
fn sql_quotes_every_name() {
    let tables = [("public".to_owned(), "orders".to_owned()), ("we\"ird".to_owned(), "T x".to_owned())];
    assert_eq!(
        statements::publish_tables("tributary", &tables),
        "CREATE PUBLICATION \"tributary\" FOR TABLE\n  \"public\".\"orders\",\n  \"we\"\"ird\".\"T x\"\n  \
         WITH (publish_via_partition_root = false);"
    );
    assert_eq!(
        statements::publish_all("a"),
        "CREATE PUBLICATION \"a\" FOR ALL TABLES WITH (publish_via_partition_root = false);"
    );
    assert_eq!(statements::alter_role("c'd"), "ALTER ROLE \"c'd\" REPLICATION;");
    assert!(
        statements::identity_of_partitions("s", "it's", "FULL")
            .contains("pg_partition_tree('\"s\".\"it''s\"')")
    );
}

#[test]
fn what_is_there_is_shown_as_a_comment_and_what_breaks_as_a_warning() {
    let step =
        |name, state, sql: &str| Step { name, title: name.to_owned(), state, sql: vec![sql.to_owned()] };
    let plan = Plan {
        steps: vec![
            step("role", StepState::Present, "CREATE ROLE x;"),
            step("publication", StepState::Missing, "CREATE PUBLICATION y;"),
        ],
        broken: vec![Remedy {
            schema: "public".to_owned(),
            table: "log".to_owned(),
            what: "public.log: no primary key".to_owned(),
            sql: "ALTER TABLE \"public\".\"log\" REPLICA IDENTITY FULL;".to_owned(),
            relations: 1,
        }],
        warnings: Vec::new(),
    };
    let answer = print(&plan);
    for line in [
        "-- role: present",
        "-- CREATE ROLE x;",
        "-- publication: missing",
        "CREATE PUBLICATION y;",
        "--   public.log: no primary key",
        "ALTER TABLE \"public\".\"log\" REPLICA IDENTITY FULL;",
    ] {
        assert!(answer.text.lines().any(|found| found == line), "no `{line}` in\n{}", answer.text);
    }
    assert_eq!(answer.document["steps"][1]["state"], "missing");
    assert_eq!(answer.document["warnings"]["update_and_delete_fail"][0]["table"], "public.log");
}

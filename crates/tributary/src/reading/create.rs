//! The table over the files.
//!
//! Owns: the statement that makes it in each engine, and the one that has an engine look for new folders.
//! Does not: make views of it.
//! Holds: files without a column read NULL there; columns that ended, and former names, are columns too.
//! Fails: never.

use tables::schema::{BEFORE_COLUMN, METADATA_COLUMNS};
use tables::types::LakeType;

use super::{Engine, Folders, LakeTable, Statement};

/// What makes the table.
pub(super) fn statements(engine: Engine, table: &LakeTable) -> Vec<Statement> {
    let columns = columns(engine, table);
    match engine {
        Engine::DuckDb => duckdb(table, &columns),
        Engine::Athena => athena(table, &columns),
        Engine::Trino => trino(table, &columns),
        Engine::Spark => spark(table, &columns),
        Engine::Snowflake => snowflake(table, &columns),
        Engine::Redshift => redshift(table, &columns),
    }
}

/// The table over the files, as a query names it.
pub(super) fn changes(engine: Engine, table: &LakeTable) -> String {
    let schema = match engine {
        // An external schema, which has nothing but tables over files.
        Engine::Redshift => format!("{}_lake", table.schema),
        Engine::DuckDb | Engine::Athena | Engine::Trino | Engine::Spark | Engine::Snowflake => {
            table.schema.clone()
        }
    };
    format!("{}.{}", engine.name(&schema), engine.name(&table.changes))
}

struct Columns {
    /// Name and type, both as the engine writes them.
    readable: Vec<(String, String)>,
    /// What it cannot read.
    remarks: Vec<String>,
}

fn columns(engine: Engine, table: &LakeTable) -> Columns {
    let texts = LakeType::List(Box::new(LakeType::Utf8));
    let own = table.columns.iter().flat_map(|column| column.names().map(|name| (name, column.lake.clone())));
    let before = table.has_before.then_some((BEFORE_COLUMN, LakeType::Map));
    let metadata = METADATA_COLUMNS.into_iter().zip([
        LakeType::Utf8,
        LakeType::Int64,
        LakeType::Int64,
        LakeType::TimestampTz,
        LakeType::Int64,
        LakeType::Utf8,
        texts,
        LakeType::Map,
    ]);
    let mut columns = Columns { readable: Vec::new(), remarks: Vec::new() };
    for (name, lake) in metadata.chain(before).chain(own) {
        match engine.type_of(&lake) {
            Some(of) => columns.readable.push((engine.name_in_ddl(name), of)),
            None => columns.remarks.push(format!(
                "without {}: this engine does not read it as {}; `types.columns` gives it another form",
                one_line(name),
                one_line(&lake.iceberg())
            )),
        }
    }
    columns
}

impl Columns {
    fn list(&self) -> String {
        let lines: Vec<String> = self.readable.iter().map(|(name, of)| format!("  {name} {of}")).collect();
        lines.join(",\n")
    }

    fn statement(&self, sql: String) -> Statement {
        Statement { remarks: self.remarks.clone(), sql }
    }
}

fn duckdb(table: &LakeTable, columns: &Columns) -> Vec<Statement> {
    let engine = Engine::DuckDb;
    // Local files are named by their path.
    let location = table.location.strip_prefix("file://").unwrap_or(&table.location);
    let files = engine.text(&format!("{location}/**/*.parquet"));
    let is_by_commit = matches!(table.folders, Folders::ByCommit { .. });
    let empty: Vec<String> =
        columns.readable.iter().map(|(name, of)| format!("NULL::{of} AS {name}")).collect();
    let empty = format!("SELECT {}\nWHERE false", empty.join(", "));
    // Columns that no file has are there all the same, and NULL.
    let sql = if table.has_files {
        format!(
            "SELECT * FROM read_parquet({files}, union_by_name = true, hive_partitioning = {is_by_commit}{})\nUNION ALL BY NAME\n{empty}",
            if is_by_commit { ", hive_types_autocast = false" } else { "" }
        )
    } else {
        empty
    };
    let schema = format!("CREATE SCHEMA IF NOT EXISTS {}", engine.name(&table.schema));
    let view = format!("CREATE OR REPLACE VIEW {} AS\n{sql}", changes(engine, table));
    let mut view = columns.statement(view);
    if !table.has_files {
        view = view.remark("there are no files yet; make it again once there are");
    }
    vec![Statement::new(schema), view]
}

fn partitions(engine: Engine, table: &LakeTable, of: &str) -> String {
    let keys = table.folders.keys();
    let keys: Vec<String> = keys.iter().map(|key| format!("{}{of}", engine.name_in_ddl(key))).collect();
    keys.join(", ")
}

fn athena(table: &LakeTable, columns: &Columns) -> Vec<Statement> {
    let engine = Engine::Athena;
    let name = format!("{}.{}", engine.name_in_ddl(&table.schema), engine.name_in_ddl(&table.changes));
    let location = format!("{}/", table.location);
    let mut properties = vec![("parquet.compression".to_owned(), "ZSTD".to_owned())];
    if let Folders::ByCommit { since } = &table.folders {
        // Computed from the names, so that nobody has to tell the catalog of new hours.
        let template = format!("{location}cdc_date=${{cdc_date}}/cdc_hour=${{cdc_hour}}/");
        let projection = [
            ("projection.enabled", "true"),
            ("projection.cdc_date.type", "date"),
            ("projection.cdc_date.format", "yyyy-MM-dd"),
            ("projection.cdc_date.range", &format!("{since},NOW+1DAY")),
            ("projection.cdc_hour.type", "integer"),
            ("projection.cdc_hour.range", "0,23"),
            ("projection.cdc_hour.digits", "2"),
            ("storage.location.template", &template),
        ];
        properties.extend(projection.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
    let properties: Vec<String> = properties
        .iter()
        .map(|(key, value)| format!("  {} = {}", engine.text_in_ddl(key), engine.text_in_ddl(value)))
        .collect();
    let create = format!(
        "CREATE EXTERNAL TABLE IF NOT EXISTS {name} (\n{}\n)\nPARTITIONED BY ({})\nSTORED AS PARQUET\nLOCATION {}\nTBLPROPERTIES (\n{}\n)",
        columns.list(),
        partitions(engine, table, " string"),
        engine.text_in_ddl(&location),
        properties.join(",\n"),
    );
    let schema = format!("CREATE SCHEMA IF NOT EXISTS {}", engine.name_in_ddl(&table.schema));
    let mut all = vec![Statement::new(schema), columns.statement(create)];
    if matches!(table.folders, Folders::ByColumns(_)) {
        let look = format!("MSCK REPAIR TABLE {name}");
        all.push(Statement::new(look).remark("again whenever there are new folders"));
    }
    all
}

fn trino(table: &LakeTable, columns: &Columns) -> Vec<Statement> {
    let engine = Engine::Trino;
    let keys = table.folders.keys();
    let quoted: Vec<String> = keys.iter().map(|key| engine.text(key)).collect();
    let of_keys: Vec<String> = keys.iter().map(|key| format!("  {} varchar", engine.name(key))).collect();
    let create = format!(
        "CREATE TABLE IF NOT EXISTS {} (\n{},\n{}\n)\nWITH (\n  external_location = {},\n  format = 'PARQUET',\n  partitioned_by = ARRAY[{}]\n)",
        changes(engine, table),
        columns.list(),
        of_keys.join(",\n"),
        engine.text(&format!("{}/", table.location)),
        quoted.join(", "),
    );
    let look = format!(
        "CALL system.sync_partition_metadata({}, {}, 'FULL')",
        engine.text(&table.schema),
        engine.text(&table.changes)
    );
    vec![
        Statement::new(format!("CREATE SCHEMA IF NOT EXISTS {}", engine.name(&table.schema))),
        columns.statement(create).remark(
            "in the catalog of the Hive connector, with hive.timestamp-precision=MICROSECONDS, hive.non-managed-table-writes-enabled=true",
        ),
        Statement::new(look).remark("again whenever there are new folders: every hour"),
    ]
}

fn spark(table: &LakeTable, columns: &Columns) -> Vec<Statement> {
    let engine = Engine::Spark;
    // Keys are columns there, last ones.
    let of_keys: Vec<String> =
        table.folders.keys().iter().map(|key| format!("  {} string", engine.name(key))).collect();
    let create = format!(
        "CREATE TABLE IF NOT EXISTS {} (\n{},\n{}\n)\nUSING PARQUET\nPARTITIONED BY ({})\nLOCATION {}",
        changes(engine, table),
        columns.list(),
        of_keys.join(",\n"),
        partitions(engine, table, ""),
        engine.text(&format!("{}/", table.location.replacen("s3://", "s3a://", 1))),
    );
    vec![
        Statement::new(format!("CREATE SCHEMA IF NOT EXISTS {}", engine.name(&table.schema))),
        columns.statement(create),
        Statement::new(format!("MSCK REPAIR TABLE {}", changes(engine, table)))
            .remark("again whenever there are new folders: every hour"),
    ]
}

fn snowflake(table: &LakeTable, columns: &Columns) -> Vec<Statement> {
    let engine = Engine::Snowflake;
    let (stage, folder) = stage(&table.location);
    // Names of ours are not quoted in the view, and so in upper case.
    let ours: Vec<String> =
        METADATA_COLUMNS.iter().chain([&BEFORE_COLUMN]).map(|name| engine.name(name)).collect();
    let column = |(name, of): &(String, String)| {
        let declared = if ours.contains(name) { name.trim_matches('"') } else { name };
        format!("  {declared} {of} AS (VALUE:{name}::{of})")
    };
    let mut lines: Vec<String> = columns.readable.iter().map(column).collect();
    let of_key = |key: &str| {
        let pattern = engine.text(&format!("{key}=([^/]*)/"));
        format!(
            "  {} varchar AS (regexp_substr(METADATA$FILENAME, {pattern}, 1, 1, 'e', 1))",
            engine.name(key)
        )
    };
    lines.extend(table.folders.keys().into_iter().map(of_key));
    let name = changes(engine, table);
    let create = format!(
        "CREATE EXTERNAL TABLE IF NOT EXISTS {name} (\n{}\n)\nPARTITION BY ({})\nLOCATION = @{STAGE}/{folder}/\nAUTO_REFRESH = false\nFILE_FORMAT = (TYPE = PARQUET)",
        lines.join(",\n"),
        partitions(engine, table, ""),
    );
    vec![
        Statement::new(format!("CREATE SCHEMA IF NOT EXISTS {}", engine.name(&table.schema))),
        columns.statement(create).remark(format!(
            "needs, once: CREATE STAGE {STAGE} URL = {} STORAGE_INTEGRATION = …",
            engine.text(stage)
        )),
        Statement::new(format!("ALTER EXTERNAL TABLE {name} REFRESH"))
            .remark("again whenever there are new files, or AUTO_REFRESH = true with S3 event notifications"),
    ]
}

/// The lake's URL, and a table's folder in it.
fn stage(location: &str) -> (&str, String) {
    let folders: Vec<&str> = location.rsplitn(4, '/').collect();
    match folders.as_slice() {
        [data, table, schema, lake] => (lake, format!("{schema}/{table}/{data}")),
        _ => (location, String::new()),
    }
}

fn redshift(table: &LakeTable, columns: &Columns) -> Vec<Statement> {
    let engine = Engine::Redshift;
    let external = engine.name(&format!("{}_lake", table.schema));
    let database = engine.text(&format!("{}_lake", table.schema));
    // Without partitions: it looks into all folders below, new ones included.
    let create = format!(
        "CREATE EXTERNAL TABLE {} (\n{}\n)\nSTORED AS PARQUET\nLOCATION {}",
        changes(engine, table),
        columns.list(),
        engine.text(&format!("{}/", table.location)),
    );
    vec![
        Statement::new(format!(
            "CREATE EXTERNAL SCHEMA IF NOT EXISTS {external}\nFROM DATA CATALOG\nDATABASE {database}\nIAM_ROLE default\nCREATE EXTERNAL DATABASE IF NOT EXISTS"
        )),
        Statement::new(format!("CREATE SCHEMA IF NOT EXISTS {}", engine.name(&table.schema))),
        columns.statement(create),
    ]
}

/// What stands in a remark cannot end it.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

const STAGE: &str = "tributary_lake";

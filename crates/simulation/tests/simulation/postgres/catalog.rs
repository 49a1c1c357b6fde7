//! What the catalogs answer.
//!
//! Owns: every question that the daemon asks, by words that only it has, and the types of its answer.
//! Does not: parse SQL. A question that is new here ends the simulation with its text.
//! Holds: answers are of now, however far the stream is.
//! Fails: panics on a question that nobody foresaw.

use std::collections::BTreeMap;

use pgoutput::Lsn;

use super::Server;
use super::database::{Database, Shape, Slot};

/// A value on the wire.
pub(super) type Cell = Option<Vec<u8>>;
/// Rows.
pub(super) type Answer = Vec<Vec<Cell>>;

/// A question, with the types of its parameters.
#[derive(Clone, Debug)]
pub(super) struct Query {
    kind: &'static Kind,
    parameters: Vec<u32>,
}

/// How a question is told, what its answer has, and who answers.
struct Kind {
    words: &'static str,
    columns: &'static [u32],
    answer: fn(&Database, &[Option<Vec<u8>>]) -> Answer,
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.words)
    }
}

const BOOL: u32 = 16;
const INT8: u32 = 20;
const INT2: u32 = 21;
const INT4: u32 = 23;
const TEXT: u32 = 25;
const OID: u32 = 26;
const FLOAT8: u32 = 701;
const TEXTS: u32 = 1009;
const INT4S: u32 = 1007;
const INT8S: u32 = 1016;
const OIDS: u32 = 1028;

/// In the order in which they are looked for: what another one has as well stands behind it.
static KINDS: &[Kind] = &[
    Kind { words: "FROM pg_prepared_xacts", columns: &[TEXT, INT4, TEXT, FLOAT8], answer: nothing },
    Kind { words: "current_setting('server_version_num')::int4", columns: &[INT4, TEXT], answer: version },
    Kind { words: "SELECT to_jsonb(s)::text", columns: &[TEXT, INT8, INT4, BOOL, INT8], answer: slot },
    Kind { words: "s.slot_type = 'physical'", columns: &[TEXT, BOOL, BOOL, INT8, INT4], answer: nothing },
    Kind {
        words: "encode(sha256(",
        columns: &[TEXT, BOOL, BOOL, BOOL, BOOL, BOOL, BOOL, TEXT],
        answer: publication,
    },
    Kind { words: "SELECT p.pubname || ' options'", columns: &[TEXT, TEXT], answer: members },
    Kind { words: "bool_or(p.pubviaroot)", columns: &[BOOL, BOOL], answer: reach },
    Kind {
        words: "rolreplication",
        columns: &[BOOL, TEXT, INT8, INT8, INT8, INT8, TEXT, TEXT, INT8, INT8, TEXT, BOOL, TEXT, BOOL, BOOL],
        answer: settings,
    },
    Kind { words: "SELECT age('3'::xid)", columns: &[INT4], answer: next_xid },
    Kind { words: "AS status FROM asked", columns: &[INT8, TEXT], answer: nothing },
    Kind { words: "'committed') = 'committed' END FROM asked", columns: &[BOOL], answer: sees },
    Kind { words: "wal_block_size", columns: &[TEXT, INT8], answer: written },
    Kind {
        words: "GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
        columns: &[TEXT, TEXT, TEXT, INT8, TEXT],
        answer: nothing,
    },
    Kind { words: "SELECT coalesce(sum(hashint8extended(", columns: &[TEXT], answer: fingerprint },
    Kind { words: "SELECT i.inhrelid, i.xmin::text::int8", columns: &[OID, INT8], answer: attached },
    Kind { words: "SELECT b.oid, b.top FROM below", columns: &[OID, OID], answer: below },
    Kind { words: "SELECT oid FROM pg_class WHERE oid = ANY", columns: &[OID], answer: existing },
    Kind { words: "pg_relation_size(c.oid) = 0", columns: &[OID], answer: nothing },
    Kind { words: "made.attname = 'ctid'", columns: &[OID], answer: nothing },
    Kind { words: "a.attgenerated <> ''", columns: &[OID, TEXT, INT2, TEXT, BOOL, BOOL], answer: columns },
    Kind {
        words: "SELECT DISTINCT n.nspname::text, c.relname::text, c.relispartition",
        columns: &[TEXT, TEXT, BOOL, OID],
        answer: nothing,
    },
    Kind {
        words: "t.typsubscript",
        columns: &[OID, TEXT, TEXT, TEXT, OID, INT4, OID, BOOL, INT4, BOOL, OID, OID, TEXTS, OIDS, INT4S],
        answer: nothing,
    },
    Kind {
        words: "above.oid IS NULL FROM tree",
        columns: &[OID, TEXT, TEXT, OID, TEXT, BOOL],
        answer: leaves,
    },
    Kind { words: "wanted(oid) AS", columns: &[OID, TEXT, TEXT, TEXT, TEXTS], answer: published },
    Kind { words: "GROUP BY i.indrelid", columns: &[OID, TEXTS], answer: keys },
    Kind {
        words: "WHERE c.oid = ANY($1::oid[]) AND c.relispartition",
        columns: &[OID, TEXT, TEXT, OID, TEXT],
        answer: leaves_named,
    },
    Kind {
        words: "OR c.oid = ANY($1::oid[]) AND NOT c.relispartition",
        columns: &[OID, TEXT, TEXT, TEXT, TEXTS],
        answer: roots_named,
    },
    Kind {
        words: "AND c.oid = ANY($1::oid[]) AND NOT c.relispartition",
        columns: &[OID, TEXT, TEXT, TEXT, TEXTS],
        answer: roots_named,
    },
];

impl Query {
    pub(super) fn of(sql: &str) -> Query {
        let kind = KINDS.iter().find(|kind| sql.contains(kind.words));
        let kind = kind.unwrap_or_else(|| panic!("the catalogs are asked what nobody foresaw: {sql}"));
        Query { kind, parameters: (1..).map_while(|number| cast_of(sql, number)).collect() }
    }

    /// The body of a ParameterDescription.
    pub(super) fn parameters(&self) -> Vec<u8> {
        let count = u16::try_from(self.parameters.len()).expect("few").to_be_bytes();
        count.into_iter().chain(self.parameters.iter().flat_map(|oid| oid.to_be_bytes())).collect()
    }

    /// The body of a RowDescription.
    pub(super) fn description(&self) -> Vec<u8> {
        let mut body = u16::try_from(self.kind.columns.len()).expect("few").to_be_bytes().to_vec();
        for oid in self.kind.columns {
            // Name, table, column, type, its size, its modifier, binary.
            body.extend(b"c\0");
            body.extend([0; 6]);
            body.extend(oid.to_be_bytes());
            body.extend((-1_i16).to_be_bytes());
            body.extend((-1_i32).to_be_bytes());
            body.extend(1_u16.to_be_bytes());
        }
        body
    }
}

/// The type that a query gives a parameter: each has a cast somewhere.
fn cast_of(sql: &str, number: usize) -> Option<u32> {
    let name = format!("${number}::");
    let (_, cast) = sql.split_once(&name)?;
    let end = cast.find(|c: char| !(c.is_ascii_alphanumeric() || c == '[' || c == ']')).unwrap_or(cast.len());
    Some(match &cast[..end] {
        "text" => TEXT,
        "bool" => BOOL,
        "text[]" => TEXTS,
        "oid[]" => OIDS,
        "int8[]" => INT8S,
        other => panic!("a parameter of type {other}: {sql}"),
    })
}

pub(super) fn answer(server: &Server, query: &Query, parameters: &[Option<Vec<u8>>]) -> Answer {
    (query.kind.answer)(&server.database(), parameters)
}

/// A command of the replication protocol, or a simple query; rows are text.
pub(super) fn command(
    server: &Server,
    parameters: &BTreeMap<String, String>,
    sql: &str,
) -> Result<Answer, (&'static str, String)> {
    let text = |text: &str| Some(text.as_bytes().to_vec());
    let word = sql.split(' ').next().unwrap_or_default();
    let mut database = server.database();
    match word {
        "SET" | "RESET" => Ok(Vec::new()),
        "SELECT" if sql.contains("server_version_num") => Ok(vec![vec![text(&database.version.to_string())]]),
        // What the start-up packet asked for.
        "SELECT" if sql.contains("current_setting('DateStyle')") => {
            let names =
                sql.split("current_setting('").skip(1).map(|rest| rest.split('\'').next().expect("a name"));
            Ok(vec![
                names
                    .map(|name| text(parameters.get(&name.to_lowercase()).map_or("", String::as_str)))
                    .collect(),
            ])
        }
        "IDENTIFY_SYSTEM" => Ok(vec![vec![
            text(&database.system_id),
            text(&database.timeline.to_string()),
            text(&database.written.to_string()),
            text("shop"),
        ]]),
        "TIMELINE_HISTORY" => {
            let lines = database
                .history
                .iter()
                .map(|(timeline, end)| format!("{timeline}\t{end}\tno recovery target specified\n"));
            Ok(vec![vec![text("00000002.history"), text(&lines.collect::<String>())]])
        }
        "CREATE_REPLICATION_SLOT" => {
            if database.slot.is_some() {
                return Err(("42710", "replication slot \"tributary\" already exists".to_owned()));
            }
            let at = database.write(100);
            let consistent_point = database.written;
            database.consistent_point = consistent_point;
            database.slot = Some(Slot { confirmed: consistent_point, saved: consistent_point, active: None });
            server.trace.say(format!("postgres: slot created at {at}, consistent at {consistent_point}"));
            Ok(vec![vec![
                text("tributary"),
                text(&consistent_point.to_string()),
                text("00000003-1"),
                text("pgoutput"),
            ]])
        }
        _ => panic!("a command that nobody foresaw: {sql}"),
    }
}

fn of_text(text: &str) -> Cell {
    Some(text.as_bytes().to_vec())
}

fn of_bool(yes: bool) -> Cell {
    Some(vec![u8::from(yes)])
}

fn of_int8(number: i64) -> Cell {
    Some(number.to_be_bytes().to_vec())
}

fn of_int4(number: i32) -> Cell {
    Some(number.to_be_bytes().to_vec())
}

fn of_oid(oid: u32) -> Cell {
    Some(oid.to_be_bytes().to_vec())
}

fn of_texts(texts: &[&str]) -> Cell {
    let mut bytes = Vec::new();
    let count = u32::try_from(texts.len()).expect("few");
    bytes.extend(u32::from(count > 0).to_be_bytes());
    bytes.extend(0_u32.to_be_bytes());
    bytes.extend(TEXT.to_be_bytes());
    if count > 0 {
        bytes.extend(count.to_be_bytes());
        bytes.extend(1_u32.to_be_bytes());
    }
    for text in texts {
        bytes.extend(u32::try_from(text.len()).expect("short").to_be_bytes());
        bytes.extend(text.as_bytes());
    }
    Some(bytes)
}

/// The elements of an array of OIDs.
fn oids(parameter: &Option<Vec<u8>>) -> Vec<u32> {
    let bytes = parameter.as_deref().unwrap_or_default();
    let elements = bytes.get(20..).unwrap_or_default();
    elements.chunks(8).map(|element| u32::from_be_bytes(*element.last_chunk().expect("four bytes"))).collect()
}

fn nothing(_: &Database, _: &[Option<Vec<u8>>]) -> Answer {
    Vec::new()
}

fn version(database: &Database, _: &[Option<Vec<u8>>]) -> Answer {
    vec![vec![of_int4(i32::try_from(database.version).expect("a version")), of_text("UTF8")]]
}

fn slot(database: &Database, _: &[Option<Vec<u8>>]) -> Answer {
    let Some(slot) = &database.slot else { return Vec::new() };
    let columns = serde_json::json!({
        "slot_name": "tributary", "plugin": "pgoutput", "database": "shop", "temporary": false, "two_phase": false,
        "active": slot.active.is_some(), "active_pid": slot.active, "wal_status": "reserved", "safe_wal_size": null,
        "confirmed_flush_lsn": slot.confirmed.to_string(), "restart_lsn": slot.confirmed.to_string(),
    });
    // Nothing is kept for a transaction that is open. Behind a crash the log may end before what was confirmed.
    let behind = database.written.0.cast_signed() - slot.confirmed.0.cast_signed();
    vec![vec![of_text(&columns.to_string()), of_int8(behind), of_int4(10), of_bool(false), of_int8(behind)]]
}

fn publication(_: &Database, _: &[Option<Vec<u8>>]) -> Answer {
    let mut row = vec![of_text("tributary"), of_bool(true), of_bool(false)];
    row.extend((0..4).map(|_| of_bool(true)));
    row.push(of_text("the definition"));
    vec![row]
}

fn members(_: &Database, _: &[Option<Vec<u8>>]) -> Answer {
    vec![vec![of_text("tributary options"), of_text("its hash")]]
}

fn reach(_: &Database, _: &[Option<Vec<u8>>]) -> Answer {
    vec![vec![of_bool(false), of_bool(true)]]
}

fn settings(database: &Database, _: &[Option<Vec<u8>>]) -> Answer {
    vec![vec![
        of_bool(false),
        of_text("logical"),
        of_int8(10),
        of_int8(i64::from(database.slot.is_some())),
        of_int8(10),
        of_int8(60_000),
        of_text("UTF8"),
        of_text(&database.written.to_string()),
        of_int8(-1),
        of_int8(0),
        of_text("s"),
        of_bool(false),
        of_text(""),
        of_bool(true),
        of_bool(false),
    ]]
}

fn next_xid(database: &Database, _: &[Option<Vec<u8>>]) -> Answer {
    vec![vec![of_int4(i32::try_from(database.next_xid - 3).expect("few"))]]
}

fn sees(_: &Database, _: &[Option<Vec<u8>>]) -> Answer {
    vec![vec![of_bool(true)]]
}

fn written(database: &Database, _: &[Option<Vec<u8>>]) -> Answer {
    vec![vec![of_text(&database.written.to_string()), of_int8(8192)]]
}

fn partitions(database: &Database) -> impl Iterator<Item = (u32, u32)> {
    database.shapes().filter_map(|shape| Some((shape.oid.0, shape.root?.1)))
}

fn fingerprint(database: &Database, _: &[Option<Vec<u8>>]) -> Answer {
    let known: Vec<String> = partitions(database).map(|(oid, by)| format!("{oid}@{by}")).collect();
    vec![vec![of_text(&known.join(" "))]]
}

fn attached(database: &Database, _: &[Option<Vec<u8>>]) -> Answer {
    partitions(database).map(|(oid, by)| vec![of_oid(oid), of_int8(i64::from(by))]).collect()
}

fn below(_: &Database, parameters: &[Option<Vec<u8>>]) -> Answer {
    oids(&parameters[0]).into_iter().map(|oid| vec![of_oid(oid), of_oid(oid)]).collect()
}

fn existing(database: &Database, parameters: &[Option<Vec<u8>>]) -> Answer {
    let wanted = oids(&parameters[0]);
    database
        .shapes()
        .filter(|shape| wanted.contains(&shape.oid.0))
        .map(|shape| vec![of_oid(shape.oid.0)])
        .collect()
}

fn columns(database: &Database, parameters: &[Option<Vec<u8>>]) -> Answer {
    let wanted = oids(&parameters[0]);
    let shapes = database.shapes().filter(|shape| wanted.contains(&shape.oid.0));
    let rows = shapes.flat_map(|shape| {
        let columns = shape.columns.iter();
        columns.map(|column| {
            let attnum = Some(column.attnum.to_be_bytes().to_vec());
            vec![of_oid(shape.oid.0), of_text(&column.name), attnum, None, of_bool(false), of_bool(false)]
        })
    });
    rows.collect()
}

fn identity(shape: &Shape) -> Cell {
    of_text(if shape.is_full { "f" } else { "d" })
}

fn leaf(shape: &Shape, root: u32) -> Vec<Cell> {
    vec![of_oid(shape.oid.0), of_text("public"), of_text(&shape.name), of_oid(root), identity(shape)]
}

fn leaves(database: &Database, _: &[Option<Vec<u8>>]) -> Answer {
    let leaves = database.shapes().filter_map(|shape| Some(leaf(shape, shape.root?.0.0)));
    leaves
        .map(|mut row| {
            row.push(of_bool(false));
            row
        })
        .collect()
}

fn leaves_named(database: &Database, parameters: &[Option<Vec<u8>>]) -> Answer {
    let wanted = oids(&parameters[0]);
    let named = database.shapes().filter(|shape| wanted.contains(&shape.oid.0));
    named.filter_map(|shape| Some(leaf(shape, shape.root?.0.0))).collect()
}

fn root(shape: &Shape, with_key: bool) -> Vec<Cell> {
    let key: Vec<&str> =
        shape.columns.iter().filter(|c| c.is_key && with_key).map(|c| c.name.as_str()).collect();
    vec![of_oid(shape.oid.0), of_text("public"), of_text(&shape.name), identity(shape), of_texts(&key)]
}

fn published(database: &Database, _: &[Option<Vec<u8>>]) -> Answer {
    database.shapes().filter(|shape| shape.root.is_none()).map(|shape| root(shape, false)).collect()
}

fn roots_named(database: &Database, parameters: &[Option<Vec<u8>>]) -> Answer {
    let wanted: Vec<u32> = parameters.iter().flat_map(oids).collect();
    let named = database.shapes().filter(|shape| wanted.contains(&shape.oid.0) && shape.root.is_none());
    named.map(|shape| root(shape, true)).collect()
}

fn keys(database: &Database, parameters: &[Option<Vec<u8>>]) -> Answer {
    let wanted = oids(&parameters[0]);
    let keyed = database.shapes().filter(|shape| wanted.contains(&shape.oid.0) && shape.has_key());
    keyed
        .map(|shape| {
            let key: Vec<&str> = shape.columns.iter().filter(|c| c.is_key).map(|c| c.name.as_str()).collect();
            vec![of_oid(shape.oid.0), of_texts(&key)]
        })
        .collect()
}

/// A position as Postgres prints it has no leading zeros in either half.
pub(super) fn parse_lsn(text: &str) -> Lsn {
    text.parse().unwrap_or_else(|_| panic!("not a position: {text}"))
}

//! The sums of a table at the source, computed by the source.
//!
//! Owns: the SQL that prints, hashes and sums rows, and the order in which relations are read.
//! Does not: move a row: only sums come back, and, for buckets that differ, hashes and keys.
//! Holds: a relation is locked (ACCESS SHARE) for no longer than its piece takes, a few dozen at once; one that was truncated or rewritten since the snapshot,
//! which then shows it empty, is never taken for what it was.
//! Fails: as the source does; [`Unread`] for a table whose relations are not what they were, or that we may not read.

use std::collections::HashMap;
use std::sync::Arc;

use pgoutput::Oid;

use super::pace::Pace;
use super::render::Canon;
use super::scope::{Compared, Leaf, Table};
use super::sums::{Hash, LONG, Lengths, Sums};
use crate::error::{Error, Result};
use crate::snapshot::plan::{self, Blocks, Limits, Piece, Relation};
use crate::source::Sql;
use crate::source::fault::server_error;
use crate::source::sql::{get, quote_identifier};

/// The source's side of a comparison.
pub struct Source<'a> {
    /// A session in the snapshot, behind the savepoint `relation`.
    pub sql: &'a Sql,
    /// Sees the catalogs as they are now.
    pub catalogs: &'a Sql,
    /// The encoding of the database.
    pub encoding: Encoding,
    /// How fast it is read, and how far it is.
    pub pace: &'a Pace,
}

/// What of a database's encoding matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// UTF-8, as the lake.
    Utf8,
    /// Bytes of any kind.
    SqlAscii,
    /// What the server converts.
    Other,
}

impl Encoding {
    /// By its name.
    pub fn of(name: &str) -> Encoding {
        match name {
            "UTF8" => Encoding::Utf8,
            "SQL_ASCII" => Encoding::SqlAscii,
            _ => Encoding::Other,
        }
    }

    /// What `length` is compared with.
    pub fn lengths(self) -> Lengths {
        if self == Encoding::Other { Lengths::Characters } else { Lengths::Bytes }
    }

    fn length(self, text: &str) -> String {
        if self == Encoding::Other { format!("length({text})") } else { format!("octet_length({text})") }
    }

    fn md5(self, text: &str) -> String {
        if self == Encoding::Other {
            format!("md5(convert_to({text}, 'UTF8'))")
        } else {
            format!("md5({text})")
        }
    }
}

/// Why the rows of a table could not be had, while those of others can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// A relation was altered, truncated or dropped since the snapshot.
    Changed(&'static str),
    /// The server does not give them: a privilege, row security, a damaged page.
    Refused(String),
}

/// A row of a bucket that differs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// The hash of each cell.
    pub cells: Vec<Hash>,
    /// Its key, as text.
    pub key: Vec<String>,
    /// How many there are, where rows have no key.
    pub count: i64,
}

impl Source<'_> {
    /// The sums of every bucket.
    pub async fn sums(&self, table: &Table) -> Result<Result<Vec<Sums>, Unread>> {
        let mut sums = vec![Sums::default(); usize::try_from(table.buckets).unwrap_or(1)];
        for task in tasks(table) {
            let query = sums_query(table, &self.parts(table, &task.pieces), self.encoding);
            let rows = match self.read(table, &query, &task.pieces, &[]).await? {
                Ok(rows) => rows,
                Err(unread) => return Ok(Err(unread)),
            };
            for row in &rows {
                let number = |column| -> Result<i128> {
                    get::<&str>(row, column)?.parse().map_err(|_| Error::bug("a sum that is no number"))
                };
                let bucket = usize::try_from(get::<i32>(row, 0)?).unwrap_or(usize::MAX);
                let found = Sums { rows: get(row, 1)?, first: number(2)?, second: number(3)? };
                sums.get_mut(bucket).ok_or_else(|| Error::bug("a bucket beyond the last"))?.join(found);
            }
            self.pace.moved(task.bytes).await;
        }
        Ok(Ok(sums))
    }

    /// The rows of some buckets, by the hash of their key.
    pub async fn rows(&self, table: &Table, buckets: &[i32]) -> Result<Result<HashMap<Hash, Shown>, Unread>> {
        let mut shown: HashMap<Hash, Shown> = HashMap::new();
        for task in tasks(table) {
            let query = rows_query(table, &self.parts(table, &task.pieces), self.encoding);
            let rows = match self.read(table, &query, &task.pieces, buckets).await? {
                Ok(rows) => rows,
                Err(unread) => return Ok(Err(unread)),
            };
            for row in &rows {
                let cells: Vec<String> = get(row, 1)?;
                let cells = cells.iter().map(|cell| unhex(cell)).collect::<Result<_>>()?;
                let row_of = shown.entry(unhex(get(row, 0)?)?).or_default();
                row_of.count += 1;
                (row_of.cells, row_of.key) = (cells, get(row, 2)?);
            }
            self.pace.moved(task.bytes).await;
        }
        Ok(Ok(shown))
    }

    /// Runs a query over pieces, and makes sure that their relations are what they were.
    async fn read(
        &self,
        table: &Table,
        query: &str,
        pieces: &[Piece],
        buckets: &[i32],
    ) -> Result<Result<Vec<tokio_postgres::Row>, Unread>> {
        let what = format!("rows of {}", table.name);
        let asked = match buckets {
            [] => self.sql.query(&what, query, &[]).await,
            buckets => self.sql.query(&what, query, &[&buckets]).await,
        };
        let rows = match asked {
            Err(error) if names_nothing(&error) => {
                self.sql.execute(&what, REWIND).await?;
                return Ok(Err(Unread::Changed("it was altered, or is being altered")));
            }
            Err(error) if is_refused(&error) => {
                self.sql.execute(&what, REWIND).await?;
                let hint = error.hint_text().map_or_else(String::new, |hint| format!(" ({hint})"));
                return Ok(Err(Unread::Refused(format!("{}{hint}", error.chain()))));
            }
            asked => asked?,
        };
        let changed = self.changed(table, pieces).await?;
        self.sql.execute(&what, REWIND).await?;
        Ok(if changed { Err(Unread::Changed("it was truncated or rewritten")) } else { Ok(rows) })
    }

    /// Whether relations that are locked have other files than they had at the snapshot.
    async fn changed(&self, table: &Table, pieces: &[Piece]) -> Result<bool> {
        let oids: Vec<u32> = pieces.iter().map(|piece| piece.relation.0).collect();
        let rows = self.catalogs.query("files of the tables", FILES, &[&oids]).await?;
        let now: HashMap<u32, u32> =
            rows.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect::<Result<_>>()?;
        let relations: HashMap<Oid, &Relation> =
            table.relations.iter().map(|(relation, _)| (relation.oid, relation)).collect();
        Ok(pieces.iter().any(|piece| {
            let then = relations.get(&piece.relation).map(|relation| relation.filenode);
            now.get(&piece.relation.0).copied() != then
        }))
    }

    fn parts(&self, table: &Table, pieces: &[Piece]) -> Vec<(Arc<Leaf>, Blocks)> {
        let leaves: HashMap<Oid, &Arc<Leaf>> =
            table.relations.iter().map(|(relation, leaf)| (relation.oid, leaf)).collect();
        let part = |piece: &Piece| Some((Arc::clone(leaves.get(&piece.relation)?), piece.blocks));
        pieces.iter().filter_map(part).collect()
    }
}

fn tasks(table: &Table) -> Vec<plan::Task> {
    // A query has each column of each relation.
    let relations = (COLUMNS_A_QUERY / table.columns.len().max(1)).clamp(1, RELATIONS_A_QUERY);
    let limits = Limits { relations, ..Limits::default() };
    plan::tasks(table.relations.iter().map(|(relation, _)| relation.clone()).collect(), limits)
}

/// The sums of pieces, by bucket.
fn sums_query(table: &Table, parts: &[(Arc<Leaf>, Blocks)], encoding: Encoding) -> String {
    let parts: Vec<String> = parts
        .iter()
        .map(|(leaf, blocks)| {
            let hashes = hashes(table, encoding);
            format!(
                "SELECT {}, {} AS first, {} AS second FROM (SELECT {hashes} FROM ({}) AS cells OFFSET 0) AS hashes",
                bucket(table.buckets),
                half("left"),
                half("right"),
                cells(table, leaf, *blocks)
            )
        })
        .collect();
    format!(
        "SELECT bucket, count(*), sum(first)::text, sum(second)::text FROM ({}) AS rows GROUP BY bucket",
        parts.join(" UNION ALL ")
    )
}

/// The rows of pieces that are in the buckets `$1`.
fn rows_query(table: &Table, parts: &[(Arc<Leaf>, Blocks)], encoding: Encoding) -> String {
    let each: Vec<String> = (0..table.columns.len()).map(|at| encoding.md5(&encoded(at, encoding))).collect();
    let keys = table.key.iter().map(|at| match encoding {
        // It may not be text.
        Encoding::SqlAscii => format!("md5(c{at})"),
        Encoding::Utf8 | Encoding::Other => format!("coalesce(left(c{at}, {KEY_SHOWN}), 'NULL')"),
    });
    let keys: Vec<String> = keys.collect();
    let parts: Vec<String> = parts
        .iter()
        .map(|(leaf, blocks)| {
            format!(
                "SELECT {}, k, each, keys FROM (SELECT {}, ARRAY[{}]::text[] AS each, ARRAY[{}]::text[] AS keys FROM ({}) AS cells OFFSET 0) AS hashes",
                bucket(table.buckets),
                hashes(table, encoding),
                each.join(", "),
                keys.join(", "),
                cells(table, leaf, *blocks)
            )
        })
        .collect();
    format!(
        "SELECT k, each, keys FROM ({}) AS rows WHERE bucket = ANY($1::int4[])",
        parts.join(" UNION ALL ")
    )
}

/// The first 32 bits of the key's hash.
fn bucket(buckets: u32) -> String {
    format!("(('x' || left(k, 8))::bit(32)::int8 % {buckets})::int4 AS bucket")
}

fn half(side: &str) -> String {
    format!("('x' || {side}(r, 16))::bit(64)::int8")
}

/// The hashes of the key, `k`, and of the row, `r`.
fn hashes(table: &Table, encoding: Encoding) -> String {
    let all: Vec<usize> = (0..table.columns.len()).collect();
    let row = encoding.md5(&joined(&all, encoding));
    match table.key.as_slice() {
        [] => format!("{row} AS k, {row} AS r"),
        key => format!("{} AS k, {row} AS r", encoding.md5(&joined(key, encoding))),
    }
}

/// The text of these cells, one after the other. A function takes 100 arguments.
fn joined(columns: &[usize], encoding: Encoding) -> String {
    if columns.is_empty() {
        return "''".to_owned();
    }
    let groups = columns.chunks(ARGUMENTS).map(|columns| {
        let cells: Vec<String> = columns.iter().map(|at| encoded(*at, encoding)).collect();
        format!("concat({})", cells.join(", "))
    });
    groups.collect::<Vec<_>>().join(" || ")
}

/// As `sums::append_cell` does it.
fn encoded(at: usize, encoding: Encoding) -> String {
    let (length, hash) = (encoding.length(&format!("c{at}")), encoding.md5(&format!("c{at}")));
    format!(
        "CASE WHEN c{at} IS NULL THEN '-' WHEN {length} > {LONG} THEN {length} || ':' || {hash} ELSE {length} || ':' || c{at} END"
    )
}

/// The cells of a piece as texts `c0`, `c1` and so on. `OFFSET 0`: each is printed once, however often it is named.
fn cells(table: &Table, leaf: &Leaf, blocks: Blocks) -> String {
    let columns = table.columns.iter().enumerate().map(|(at, column)| {
        let is_there = leaf.columns.contains(&column.name);
        format!("{} AS c{at}", if is_there { printed(column) } else { "NULL::text".to_owned() })
    });
    let columns: Vec<String> = columns.collect();
    let columns = if columns.is_empty() { "NULL".to_owned() } else { columns.join(", ") };
    let mut conditions = Vec::new();
    if blocks.from > 0 {
        conditions.push(format!("ctid >= '({},0)'::tid", blocks.from));
    }
    if let Some(until) = blocks.until {
        conditions.push(format!("ctid < '({until},0)'::tid"));
    }
    if !leaf.filters.is_empty() {
        let filters: Vec<String> = leaf.filters.iter().map(|filter| format!("({filter})")).collect();
        conditions.push(format!("({})", filters.join(" OR ")));
    }
    let condition =
        if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    format!("SELECT {columns} FROM ONLY {}{condition} OFFSET 0", leaf.quoted)
}

/// What is compared of a column, NULL for NULL. A row of NULLs is no NULL, though `IS NULL` says so.
fn printed(column: &Compared) -> String {
    let name = quote_identifier(&column.name);
    let text = match column.canon {
        Canon::Text => format!("format('%s', {name})"),
        Canon::Float4 => float(&name, "float4"),
        Canon::Float8 => float(&name, "float8"),
        Canon::Number => format!("trim_scale({name})::text"),
        Canon::Trim => format!("rtrim(format('%s', {name}), ' ')"),
        Canon::Interval => format!("encode(interval_send({name}), 'hex')"),
        Canon::Point => format!("encode(point_send({name}), 'hex')"),
        Canon::Char => char(&name),
    };
    format!("CASE WHEN {name} IS DISTINCT FROM NULL THEN {text} END")
}

fn float(name: &str, of: &str) -> String {
    format!("CASE WHEN {name} = 'NaN'::{of} THEN 'NaN' ELSE encode({of}send({name}), 'hex') END")
}

fn char(name: &str) -> String {
    let number = format!("{name}::int4");
    format!(
        "CASE WHEN {number} < 0 THEN concat(chr(92), ({number} & 192) >> 6, ({number} & 56) >> 3, {number} & 7) ELSE format('%s', {name}) END"
    )
}

fn unhex(digits: &str) -> Result<Hash> {
    let number = u128::from_str_radix(digits, 16).map_err(|_| Error::bug("a hash that is none"))?;
    Ok(number.to_be_bytes())
}

/// A column, type, table or schema that a query names is not there, or somebody holds it for longer than we wait.
fn names_nothing(error: &Error) -> bool {
    server_error(error).is_some_and(|error| {
        matches!(error.code.as_str(), "42703" | "42704" | "42P01" | "3F000" | LOCK_NOT_AVAILABLE)
    })
}

/// The server refuses a row or the whole of it, and will again: privileges and row security, values that cannot be printed, damaged pages.
fn is_refused(error: &Error) -> bool {
    server_error(error).is_some_and(|error| {
        matches!(error.code.as_str(), "42501" | "XX001" | "XX002") || error.code.starts_with("22")
    })
}

const FILES: &str = "SELECT oid, relfilenode FROM pg_class WHERE oid = ANY($1::oid[])";
const REWIND: &str = "ROLLBACK TO SAVEPOINT relation";
const LOCK_NOT_AVAILABLE: &str = "55P03";
const RELATIONS_A_QUERY: usize = 50;
const COLUMNS_A_QUERY: usize = 1_000;
const ARGUMENTS: usize = 90;
/// Characters of a key's column that are shown.
const KEY_SHOWN: usize = 200;

#[cfg(test)]
mod tests;

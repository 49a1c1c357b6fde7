//! The view of the current state.
//!
//! Owns: the query that finds, for every key, the row that counts.
//! Does not: need anything but window functions and joins, which all engines have.
//! Holds: the rules of the README. A row counts if it is the last one of its key, is no deletion, and no `T` of its relation, or of the
//! whole table, stands behind it. A cell that was not sent has the value of the row of the key before it; at a change of the key, that of
//! the row with the old key, which is deleted just before. Without a key, every deletion takes one of the equal rows. Keys and rows are the same
//! if value and exact text are: `infinity` is stored as the greatest date.
//! Fails: never; a cell whose value is further away than two changes of the key is NULL, and `_cdc_unresolved` names it.

use super::create::changes;
use super::{Engine, LakeColumn, LakeTable, Statement};

/// What makes the view.
pub(super) fn view(engine: Engine, table: &LakeTable) -> Statement {
    let query = Query { engine, table };
    let sql = if table.key.is_empty() { query.without_key() } else { query.by_key() };
    // Redshift only knows at run time what an external table has.
    let binding = if engine == Engine::Redshift { "\nWITH NO SCHEMA BINDING" } else { "" };
    let mut statement =
        Statement::new(format!("CREATE OR REPLACE VIEW {} AS\n{sql}{binding}", name(engine, table)));
    for column in table.live() {
        if column.initial_default.is_some() {
            statement = statement.remark(format!(
                "{}: rows from before the column have NULL until `tributary resync`, and its default in Postgres",
                column.name.replace(char::is_control, " ")
            ));
        }
    }
    statement
}

/// The view, as a query names it.
pub(super) fn name(engine: Engine, table: &LakeTable) -> String {
    format!("{}.{}", engine.name(&table.schema), engine.name(&table.table))
}

struct Query<'a> {
    engine: Engine,
    table: &'a LakeTable,
}

impl Query<'_> {
    fn by_key(&self) -> String {
        let toast: Vec<&LakeColumn> = self.shown().filter(|column| column.may_be_unchanged).collect();
        let key = self.identity();
        let mut parts = vec![
            format!("marks AS (\n{}\n)", self.marks()),
            format!("changes AS (\n{}\n)", self.changes(&toast)),
            format!("numbered AS (\n{}\n)", Query::numbered(&key, &toast)),
        ];
        let rows = if toast.is_empty() {
            "numbered"
        } else {
            parts.push(format!("filled AS (\n{}\n)", self.filled(&key, &toast)));
            "filled"
        };
        format!("WITH {}\n{}", parts.join(",\n"), self.last_rows(rows, &toast))
    }

    /// The last `T` of every relation; those of the whole table under one name.
    fn marks(&self) -> String {
        let whole: Vec<String> = self.table.whole.iter().map(|name| self.engine.text(name)).collect();
        let relation =
            format!("CASE WHEN _cdc_relation IN ({}) THEN '*' ELSE _cdc_relation END", whole.join(", "));
        format!(
            "  SELECT relation, _cdc_lsn, _cdc_seq FROM (
    SELECT {relation} AS relation, _cdc_lsn, _cdc_seq,
      row_number() OVER (PARTITION BY {relation} ORDER BY _cdc_lsn DESC, _cdc_seq DESC) AS nth
    FROM {} WHERE _cdc_op = 'T'
  ) AS every WHERE nth = 1",
            changes(self.engine, self.table)
        )
    }

    /// All rows, each column under the name that it has now, the exact text of what identifies a row, and whether a row carries a value.
    fn changes(&self, toast: &[&LakeColumn]) -> String {
        let mut columns: Vec<String> = self
            .shown()
            .map(|column| {
                let names: Vec<String> =
                    column.names().map(|name| format!("c.{}", self.engine.name(name))).collect();
                match names.as_slice() {
                    [name] => name.clone(),
                    _ => format!("coalesce({}) AS {}", names.join(", "), self.engine.name(&column.name)),
                }
            })
            .collect();
        columns.extend(METADATA.iter().map(|name| format!("c.{name}")));
        if self.shows_raw() {
            columns.push("c._cdc_raw".to_owned());
        }
        for (number, column) in self.inexact().enumerate() {
            columns.push(format!("{} AS {}", self.exact_text(column), exact(number)));
        }
        for (number, column) in toast.iter().enumerate() {
            let is_unchanged: Vec<String> =
                column.names().map(|name| self.engine.contains("c._cdc_unchanged", name)).collect();
            let is_raw = match column.may_be_raw {
                true => format!(" WHEN {} IS NOT NULL THEN {IN_RAW}", self.exact_text(column)),
                false => String::new(),
            };
            columns.push(format!(
                "CASE WHEN c._cdc_op = 'D' OR {} THEN 0{is_raw} ELSE 1 END AS _cdc_has_{number}",
                is_unchanged.join(" OR ")
            ));
        }
        format!(
            "  SELECT {}\n  FROM {} AS c WHERE c._cdc_op <> 'T'",
            columns.join(",\n    "),
            changes(self.engine, self.table)
        )
    }

    /// The last row of every key has `_cdc_nth` 1. A row's life begins with an insertion, or when it was read; a run of rows begins where
    /// one carries a value, or with a life.
    fn numbered(key: &str, toast: &[&LakeColumn]) -> String {
        let mut columns = vec![
            "changes.*".to_owned(),
            format!(
                "row_number() OVER (PARTITION BY {key} ORDER BY _cdc_lsn DESC, _cdc_seq DESC) AS _cdc_nth"
            ),
        ];
        let count = |what: &str, name: &str| {
            format!("sum(CASE WHEN {what} THEN 1 ELSE 0 END) OVER (PARTITION BY {key} {IN_ORDER}) AS {name}")
        };
        if !toast.is_empty() {
            columns.push(count("_cdc_op IN ('I', 'R')", "_cdc_life"));
        }
        for number in 0..toast.len() {
            let begins = format!("_cdc_has_{number} > 0 OR _cdc_op IN ('I', 'R')");
            columns.push(count(&begins, &format!("_cdc_run_{number}")));
        }
        format!("  SELECT {}\n  FROM changes", columns.join(",\n    "))
    }

    /// Every row with the value that begins its run, and with where its life began.
    fn filled(&self, key: &str, toast: &[&LakeColumn]) -> String {
        let first = |what: &str, within: &str, name: &str| {
            format!("first_value({what}) OVER (PARTITION BY {key}, {within} {IN_ORDER}) AS {name}")
        };
        let mut columns = vec![
            "numbered.*".to_owned(),
            first("_cdc_lsn", "_cdc_life", "_cdc_born_lsn"),
            first("_cdc_seq", "_cdc_life", "_cdc_born_seq"),
            // A row whose insertion nobody saw was made of no other one.
            first("_cdc_op", "_cdc_life", "_cdc_born_op"),
        ];
        for (number, column) in toast.iter().enumerate() {
            let run = format!("_cdc_run_{number}");
            columns.push(first(&self.engine.name(&column.name), &run, &format!("_cdc_value_{number}")));
            columns.push(first(&format!("_cdc_has_{number}"), &run, &format!("_cdc_known_{number}")));
        }
        format!("  SELECT {}\n  FROM numbered", columns.join(",\n    "))
    }

    fn last_rows(&self, rows: &str, toast: &[&LakeColumn]) -> String {
        let mut columns: Vec<String> = Vec::new();
        let mut unresolved: Vec<String> = Vec::new();
        for column in self.shown() {
            let name = self.engine.name(&column.name);
            match toast.iter().position(|other| other.name == column.name) {
                None => columns.push(format!("l.{name}")),
                Some(number) => {
                    let case = |row: &str| {
                        format!("WHEN {row}._cdc_known_{number} > 0 THEN {row}._cdc_value_{number}")
                    };
                    let cases: Vec<String> = ROWS.iter().map(|row| case(row)).collect();
                    columns.push(format!("CASE {} END AS {name}", cases.join(" ")));
                    let known = |row: &str| format!("coalesce({row}._cdc_known_{number}, 0) = 0");
                    let unknown: Vec<String> = ROWS.iter().map(|row| known(row)).collect();
                    let mut is_unknown = unknown.join(" AND ");
                    if column.may_be_raw {
                        // The text stands in the row that carries the value, and `_cdc_raw` is the last row's.
                        let found: Vec<String> =
                            ROWS.iter().map(|row| format!("nullif({row}._cdc_known_{number}, 0)")).collect();
                        is_unknown.push_str(&format!(
                            " OR (l._cdc_has_{number} = 0 AND coalesce({}) = {IN_RAW})",
                            found.join(", ")
                        ));
                    }
                    unresolved.push(format!(
                        "CASE WHEN {is_unknown} THEN {} ELSE '' END",
                        self.engine.text(&format!("{} ", column.name))
                    ));
                }
            }
        }
        columns.extend(METADATA.iter().map(|name| format!("l.{name}")));
        if self.shows_raw() {
            columns.push("l._cdc_raw".to_owned());
        }
        let mut joins = String::new();
        if !unresolved.is_empty() {
            columns.push(format!("nullif({}, '') AS _cdc_unresolved", unresolved.join(" || ")));
            // The old key's row, and the one of the key before that.
            for pair in ROWS.windows(2) {
                if let [row, before] = pair {
                    joins.push_str(&format!(
                        "LEFT JOIN {rows} AS {before} ON {before}._cdc_op = 'D' AND {row}._cdc_born_op = 'I' AND {before}._cdc_lsn = {row}._cdc_born_lsn AND {before}._cdc_seq = {row}._cdc_born_seq - 1\n"
                    ));
                }
            }
        }
        format!(
            "SELECT {}\nFROM {rows} AS l\n{joins}{MARKS}\nWHERE l._cdc_nth = 1 AND l._cdc_op <> 'D' AND {}",
            columns.join(",\n  "),
            Query::counts()
        )
    }

    fn without_key(&self) -> String {
        let all = self.identity();
        let shown: Vec<String> = self.shown().map(|column| self.engine.name(&column.name)).collect();
        let shown = shown.join(", ");
        let shown = if shown.is_empty() { String::new() } else { format!("{shown},\n  ") };
        let metadata = METADATA.join(", ");
        let raw = if self.shows_raw() { ", _cdc_raw" } else { "" };
        format!(
            "WITH marks AS (\n{}\n),
changes AS (\n{}\n),
living AS (
  SELECT l.*
  FROM changes AS l
  {MARKS}
  WHERE {}
),
counted AS (
  SELECT living.*,
    row_number() OVER (PARTITION BY {all}, CASE WHEN _cdc_op = 'D' THEN 1 ELSE 0 END ORDER BY _cdc_lsn DESC, _cdc_seq DESC) AS _cdc_nth,
    sum(CASE WHEN _cdc_op = 'D' THEN -1 ELSE 1 END) OVER (PARTITION BY {all}) AS _cdc_count
  FROM living
)
SELECT {shown}{metadata}{raw}
FROM counted
WHERE _cdc_op <> 'D' AND _cdc_nth <= _cdc_count",
            self.marks(),
            self.changes(&[]),
            Query::counts()
        )
    }

    /// No `T` stands behind the row.
    fn counts() -> String {
        let behind = |mark: &str| {
            format!(
                "({mark}._cdc_lsn IS NULL OR l._cdc_lsn > {mark}._cdc_lsn OR (l._cdc_lsn = {mark}._cdc_lsn AND l._cdc_seq > {mark}._cdc_seq))"
            )
        };
        format!("{}\n  AND {}", behind("own"), behind("whole"))
    }

    /// What a row is told apart from others by.
    fn identity(&self) -> String {
        let values = self.identifying().into_iter().map(|column| {
            let name = self.engine.name(&column.name);
            self.engine.comparable(&name, &column.lake)
        });
        let texts = (0..self.inexact().count()).map(exact);
        let all: Vec<String> = values.chain(texts).collect();
        // Of a table without columns all rows are equal.
        if all.is_empty() { "1".to_owned() } else { all.join(", ") }
    }

    /// The columns of the key, or all of them if there is none.
    fn identifying(&self) -> Vec<&LakeColumn> {
        if self.table.key.is_empty() {
            return self.shown().collect();
        }
        let of_key = |name: &String| self.table.live().find(|column| column.name == *name);
        self.table.key.iter().filter_map(of_key).collect()
    }

    /// Those of them whose value does not tell everything.
    fn inexact(&self) -> impl Iterator<Item = &LakeColumn> {
        self.identifying().into_iter().filter(|column| column.may_be_raw)
    }

    /// What `_cdc_raw` has of a column: under the name that it had then.
    fn exact_text(&self, column: &LakeColumn) -> String {
        let texts: Vec<String> = column.names().map(|name| self.engine.entry("c._cdc_raw", name)).collect();
        match texts.as_slice() {
            [text] => text.clone(),
            _ => format!("coalesce({})", texts.join(", ")),
        }
    }

    fn shown(&self) -> impl Iterator<Item = &LakeColumn> {
        self.table.live().filter(|column| self.engine.shows(&column.lake))
    }

    fn shows_raw(&self) -> bool {
        self.engine.shows(&tables::types::LakeType::Map)
    }
}

/// The exact text of a column that identifies rows.
fn exact(number: usize) -> String {
    format!("_cdc_exact_{number}")
}

/// Of `_cdc_has_…` and `_cdc_known_…`: the row carries a value, whose exact text is in its `_cdc_raw`. 0 is none, 1 one that the column tells.
const IN_RAW: u8 = 2;

/// What the view has of the row beside its own columns.
const METADATA: [&str; 5] = ["_cdc_op", "_cdc_lsn", "_cdc_seq", "_cdc_commit_ts", "_cdc_relation"];

/// The last row; the one with the old key that it was made of; and the one before that.
const ROWS: [&str; 3] = ["l", "o", "p"];

const IN_ORDER: &str = "ORDER BY _cdc_lsn, _cdc_seq ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW";

const MARKS: &str = "LEFT JOIN marks AS own ON own.relation = l._cdc_relation
LEFT JOIN marks AS whole ON whole.relation = '*'";

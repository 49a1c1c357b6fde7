//! The tables of the demo: three partitioned parents and a plain table.
//!
//! Owns: their columns, keys and leaves, the SQL that creates them, and how each type is written as comparable text.
//! Does not: fill them (`load`), or read them back (`proof`).
//! Holds: every table has a primary key that ends with `id`; some leaves have another column order than their root.
//! Fails: never.

use std::fmt::Write as _;

use super::random::Random;

/// The schema that the demo's tables live in.
pub(super) const SCHEMA: &str = "shop";

/// How a column's values are made up, and how they are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Int,
    BigInt,
    Numeric,
    Text,
    /// Text that is often long enough to be stored out of line (TOAST).
    LongText,
    Timestamp,
    Date,
    Bool,
    Json,
    Uuid,
    Status,
    IntArray,
    Bytes,
}

impl Kind {
    fn sql_type(self) -> &'static str {
        match self {
            Kind::Int => "integer",
            Kind::BigInt => "bigint",
            Kind::Numeric => "numeric(12,2)",
            Kind::Text | Kind::LongText => "text",
            Kind::Timestamp => "timestamp with time zone",
            Kind::Date => "date",
            Kind::Bool => "boolean",
            Kind::Json => "jsonb",
            Kind::Uuid => "uuid",
            Kind::Status => "shop.order_status",
            Kind::IntArray => "integer[]",
            Kind::Bytes => "bytea",
        }
    }
}

/// A column of a demo table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

impl Column {
    /// The SQL expression whose text equals what [`super::cells`] makes of the Parquet cell.
    pub(super) fn comparable_sql(&self) -> String {
        let name = self.name;
        match self.kind {
            // Both sides count from 1970, so that no rendering of a calendar comes between them.
            Kind::Timestamp => format!("(extract(epoch from {name}) * 1000000)::bigint::text"),
            Kind::Date => format!("({name} - date '1970-01-01')::text"),
            Kind::IntArray => format!("array_to_json({name})::text"),
            Kind::Bytes => format!("encode({name}, 'hex')"),
            Kind::Int
            | Kind::BigInt
            | Kind::Numeric
            | Kind::Text
            | Kind::LongText
            | Kind::Bool
            | Kind::Json
            | Kind::Uuid
            | Kind::Status => format!("{name}::text"),
        }
    }
}

/// What is fixed about a table.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) name: &'static str,
    /// How it is partitioned, for people.
    pub(super) partitioning: &'static str,
    pub(super) columns: &'static [Column],
    /// The primary key: the partition columns, then `id`.
    pub(super) key: &'static [&'static str],
}

impl Spec {
    /// The partition columns: the key without its `id`.
    pub(super) fn place_columns(&self) -> &'static [&'static str] {
        self.key.split_last().map_or(&[], |(_, place)| place)
    }

    /// The columns outside the key.
    pub(super) fn body(&self) -> impl Iterator<Item = &'static Column> + use<'_> {
        self.columns.iter().filter(|column| !self.key.contains(&column.name))
    }
}

/// Which rows a leaf takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// All: the plain table.
    Whole,
    Tenant(usize),
    Month(usize),
    RegionMonth(usize, usize),
}

impl Place {
    /// Literals for the partition columns of a new row of this leaf.
    pub(super) fn literals(self, random: &mut Random) -> Vec<String> {
        match self {
            Place::Whole => Vec::new(),
            Place::Tenant(tenant) => vec![tenant.to_string()],
            Place::Month(month) => vec![random.timestamp_in(month)],
            Place::RegionMonth(region, month) => {
                vec![format!("'{}'", region_name(region)), random.date_in(month)]
            }
        }
    }
}

/// A relation that stores rows.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) name: String,
    pub(super) place: Place,
}

impl Leaf {
    /// `schema.leaf`, as `_cdc_relation` has it.
    pub(super) fn qualified(&self) -> String {
        format!("{SCHEMA}.{}", self.name)
    }
}

/// A table and its leaves; a plain table is its own only leaf.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) spec: &'static Spec,
    pub(super) leaves: Vec<Leaf>,
}

impl Table {
    /// `schema.table`.
    pub(super) fn qualified(&self) -> String {
        format!("{SCHEMA}.{}", self.spec.name)
    }

    /// Whether it has partitions.
    pub(super) fn is_partitioned(&self) -> bool {
        !self.spec.place_columns().is_empty()
    }
}

/// All tables of the demo.
#[derive(Debug)]
pub(super) struct Shop {
    pub(super) tables: Vec<Table>,
}

impl Shop {
    /// A shop whose three partitioned parents have `leaves` leaves in all.
    pub(super) fn new(leaves: usize) -> Shop {
        let tenants = (leaves * 2 / 5).max(1);
        let months = (leaves * 3 / 10).max(1);
        let rest = leaves.saturating_sub(tenants + months).max(1);
        let orders = (1..=tenants)
            .map(|tenant| Leaf { name: format!("orders_t{tenant:05}"), place: Place::Tenant(tenant) });
        let events = (0..months)
            .map(|month| Leaf { name: format!("events_{}", month_name(month)), place: Place::Month(month) });
        let readings = (0..rest).map(|number| {
            let (region, month) = (number % REGIONS, number / REGIONS);
            Leaf {
                name: format!("readings_{}_{}", region_name(region), month_name(month)),
                place: Place::RegionMonth(region, month),
            }
        });
        let customers = Leaf { name: "customers".to_owned(), place: Place::Whole };
        Shop {
            tables: vec![
                Table { spec: &ORDERS, leaves: orders.collect() },
                Table { spec: &EVENTS, leaves: events.collect() },
                Table { spec: &READINGS, leaves: readings.collect() },
                Table { spec: &CUSTOMERS, leaves: vec![customers] },
            ],
        }
    }

    /// How many relations store rows.
    pub(super) fn leaf_count(&self) -> usize {
        self.tables.iter().map(|table| table.leaves.len()).sum()
    }

    /// The SQL that creates everything, in batches small enough to show progress, each with its number of leaves.
    pub(super) fn ddl(&self) -> Vec<(String, usize)> {
        let mut batches = vec![(PREPARATION.to_owned(), 0)];
        for table in &self.tables {
            batches.push((create_root(table), usize::from(!table.is_partitioned())));
            if table.is_partitioned() {
                for leaves in table.leaves.chunks(LEAVES_PER_BATCH) {
                    let sql = leaves.iter().map(|leaf| create_leaf(table.spec, leaf)).collect();
                    batches.push((sql, leaves.len()));
                }
            }
        }
        batches
    }
}

fn create_root(table: &Table) -> String {
    let spec = table.spec;
    let columns = column_list(spec, spec.columns.iter());
    let mut sql =
        format!("create table {}({columns}, primary key ({}))", table.qualified(), spec.key.join(", "));
    match table.leaves.first().map(|leaf| leaf.place) {
        Some(Place::Tenant(_)) => sql.push_str(" partition by list (tenant);"),
        Some(Place::Month(_)) => sql.push_str(" partition by range (happened_at);"),
        Some(Place::RegionMonth(..)) => {
            sql.push_str(" partition by list (region);");
            for region in 0..REGIONS.min(table.leaves.len()) {
                let name = region_name(region);
                let _ = write!(
                    sql,
                    "create table shop.readings_{name} partition of shop.readings for values in ('{name}') \
                     partition by range (taken_on);"
                );
            }
        }
        Some(Place::Whole) | None => sql.push(';'),
    }
    sql
}

fn create_leaf(spec: &Spec, leaf: &Leaf) -> String {
    let (parent, bounds, number) = match leaf.place {
        Place::Whole => return String::new(),
        Place::Tenant(tenant) => (spec.name.to_owned(), format!("in ({tenant})"), tenant),
        Place::Month(month) => (spec.name.to_owned(), month_bounds(month), month),
        Place::RegionMonth(region, month) => {
            (format!("{}_{}", spec.name, region_name(region)), month_bounds(month), month)
        }
    };
    let name = &leaf.name;
    if number % OTHER_ORDER_EVERY != 1 {
        return format!("create table shop.{name} partition of shop.{parent} for values {bounds};");
    }
    // Another column order and a dropped column, as tables that became partitions later have.
    let columns = column_list(spec, spec.columns.iter().rev());
    format!(
        "create table shop.{name}(gone integer, {columns}); alter table shop.{name} drop column gone; \
         alter table shop.{parent} attach partition shop.{name} for values {bounds};"
    )
}

fn column_list<'a>(spec: &Spec, columns: impl Iterator<Item = &'a Column>) -> String {
    let definitions: Vec<String> = columns
        .map(|column| {
            let not_null = if spec.key.contains(&column.name) { " not null" } else { "" };
            format!("{} {}{not_null}", column.name, column.kind.sql_type())
        })
        .collect();
    definitions.join(", ")
}

/// `2000_01` for month 0.
fn month_name(month: usize) -> String {
    let (year, month) = calendar(month);
    format!("{year:04}_{month:02}")
}

fn month_bounds(month: usize) -> String {
    let (year, first) = calendar(month);
    let (next_year, next) = calendar(month + 1);
    format!("from ('{year:04}-{first:02}-01') to ('{next_year:04}-{next:02}-01')")
}

/// Year and month of the month with this number; month 0 is January 2000.
pub(super) fn calendar(month: usize) -> (usize, usize) {
    (2000 + month / 12, month % 12 + 1)
}

fn region_name(region: usize) -> String {
    format!("r{region:02}")
}

/// Regions of the two-level table.
const REGIONS: usize = 10;
/// So that a batch takes well below a second.
const LEAVES_PER_BATCH: usize = 40;
/// One leaf in so many was a table of its own before it was attached.
const OTHER_ORDER_EVERY: usize = 5;

/// What the tables need: the enum, and text that does not compress (so that it goes out of line).
const PREPARATION: &str = "
create schema shop;
create type shop.order_status as enum ('new', 'paid', 'on hold', 'it''s gone');
create function shop.prose(seed bigint, pieces integer) returns text language sql immutable as $$
  select string_agg(md5(seed::text || ':' || piece::text), '') from generate_series(1, pieces) piece
$$;";

const fn column(name: &'static str, kind: Kind) -> Column {
    Column { name, kind }
}

static ORDERS: Spec = Spec {
    name: "orders",
    partitioning: "list of tenants",
    columns: &[
        column("id", Kind::BigInt),
        column("tenant", Kind::Int),
        column("customer", Kind::Int),
        column("status", Kind::Status),
        column("amount", Kind::Numeric),
        column("paid", Kind::Bool),
        column("ordered_at", Kind::Timestamp),
        column("deliver_on", Kind::Date),
        column("note", Kind::LongText),
        column("attributes", Kind::Json),
        column("reference", Kind::Uuid),
        column("tags", Kind::IntArray),
        column("signature", Kind::Bytes),
    ],
    key: &["tenant", "id"],
};

static EVENTS: Spec = Spec {
    name: "events",
    partitioning: "range of months",
    columns: &[
        column("id", Kind::BigInt),
        column("happened_at", Kind::Timestamp),
        column("kind", Kind::Text),
        column("actor", Kind::BigInt),
        column("payload", Kind::Json),
        column("body", Kind::LongText),
        column("attachment", Kind::Bytes),
        column("seen", Kind::Bool),
        column("cost", Kind::Numeric),
        column("session", Kind::Uuid),
    ],
    key: &["happened_at", "id"],
};

static READINGS: Spec = Spec {
    name: "readings",
    partitioning: "list of regions, then months",
    columns: &[
        column("id", Kind::BigInt),
        column("region", Kind::Text),
        column("taken_on", Kind::Date),
        column("sensor", Kind::Int),
        column("value", Kind::Numeric),
        column("total", Kind::BigInt),
        column("samples", Kind::IntArray),
        column("state", Kind::Status),
        column("comment", Kind::LongText),
        column("received_at", Kind::Timestamp),
    ],
    key: &["region", "taken_on", "id"],
};

static CUSTOMERS: Spec = Spec {
    name: "customers",
    partitioning: "plain table",
    columns: &[
        column("id", Kind::Int),
        column("name", Kind::Text),
        column("email", Kind::Text),
        column("balance", Kind::BigInt),
        column("credit", Kind::Numeric),
        column("born_on", Kind::Date),
        column("active", Kind::Bool),
        column("profile", Kind::Json),
        column("biography", Kind::LongText),
        column("token", Kind::Uuid),
        column("favourites", Kind::IntArray),
        column("photo", Kind::Bytes),
        column("joined_at", Kind::Timestamp),
    ],
    key: &["id"],
};

#[cfg(test)]
mod tests;

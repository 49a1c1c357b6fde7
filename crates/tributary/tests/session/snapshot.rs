//! Points, plans and workers of a snapshot.

#[path = "snapshot/outcomes.rs"]
mod outcomes;
#[path = "snapshot/pieces.rs"]
mod pieces;
#[path = "snapshot/points.rs"]
mod points;
#[path = "snapshot/published.rs"]
mod published;

use std::sync::Arc;
use std::time::Duration;

use pgoutput::{Cell, Oid};
use tables::types::TypeCatalog;
use tributary::snapshot::plan::{self, Blocks, Relation};
use tributary::snapshot::point::{Point, slot_name};
use tributary::snapshot::query::{Shape, Since};
use tributary::snapshot::worker::{Begun, Patience, Worker, transaction};
use tributary::source::{ConnectOptions, Sql, connect_sql};

use super::{Server, servers};

pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// A database, and a session that sees its catalogs.
pub(crate) struct Source {
    pub(crate) admin: Sql,
    pub(crate) options: ConnectOptions,
    pub(crate) catalogs: Arc<Sql>,
}

impl Source {
    pub(crate) async fn new(server: &Server, database: &str) -> Source {
        let admin = server.database(database).await;
        Source::of(server, admin, "postgres", database).await
    }

    pub(crate) async fn of(server: &Server, admin: Sql, user: &str, database: &str) -> Source {
        let options = server.options(user, database, "sslmode=disable");
        let catalogs = Arc::new(connect_sql(&options).await.expect("a session"));
        Source { admin, options, catalogs }
    }

    pub(crate) async fn execute(&self, sql: &str) {
        self.admin.execute("test", sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    pub(crate) async fn oid(&self, name: &str) -> Oid {
        let rows = self.admin.query("oid", "SELECT $1::text::regclass::oid", &[&name]).await.expect(name);
        Oid(rows[0].get(0))
    }

    pub(crate) async fn point(&self) -> Point {
        self.find_point(LIMIT).await.expect("a point")
    }

    /// Slots are the cluster's: every database has its own name for them.
    pub(crate) async fn find_point(&self, wait: Duration) -> tributary::error::Result<Point> {
        let slot = slot_name(&self.options.database, 1).expect("a name");
        Box::pin(Point::find(&self.options, &slot, wait)).await
    }

    pub(crate) async fn worker(&self, point: &Point) -> Worker {
        let patience = Patience { lock: Duration::from_millis(300), ..Patience::default() };
        Worker::open(&self.options, &point.snapshot, Arc::clone(&self.catalogs), patience)
            .await
            .expect("a worker")
    }

    /// The plan's relations of these tables, each its own root.
    pub(crate) async fn relations(&self, point: &Point, names: &[&str]) -> Vec<Relation> {
        let mut wanted = Vec::new();
        for name in names {
            let oid = self.oid(name).await;
            wanted.push((oid, oid));
        }
        let session =
            transaction(&self.options, &point.snapshot, Patience::default()).await.expect("a session");
        plan::relations(&session, &wanted).await.expect("sizes")
    }
}

/// The shape of a table in publication `p`.
pub(crate) async fn shape_of(worker: &mut Worker, oid: Oid) -> Shape {
    let shapes = worker.shapes(&["p".to_owned()], &[oid]).await.expect("shapes");
    shapes.into_iter().next().expect("it is published")
}

/// A cell, owned.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Value {
    Null,
    Text(String),
    Binary(Vec<u8>),
}

impl Value {
    pub(crate) fn int8(value: i64) -> Value {
        Value::Binary(value.to_be_bytes().to_vec())
    }
}

pub(crate) fn value(cell: Cell<'_>) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Unchanged => panic!("a copy leaves nothing out"),
        Cell::Text(bytes) => Value::Text(String::from_utf8_lossy(bytes).into_owned()),
        Cell::Binary(bytes) => Value::Binary(bytes.to_vec()),
    }
}

/// What reading came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Rows(Vec<Vec<Value>>),
    Changed,
    Gone,
}

impl Outcome {
    pub(crate) fn rows(self) -> Vec<Vec<Value>> {
        match self {
            Outcome::Rows(rows) => rows,
            other => panic!("{other:?}"),
        }
    }

    /// The values of a first column of type int8.
    pub(crate) fn ids(self) -> Vec<i64> {
        let id = |row: Vec<Value>| match &row[0] {
            Value::Binary(bytes) => i64::from_be_bytes(bytes.as_slice().try_into().expect("int8")),
            other => panic!("{other:?}"),
        };
        self.rows().into_iter().map(id).collect()
    }
}

pub(crate) async fn read(
    worker: &mut Worker,
    shape: &Shape,
    blocks: Blocks,
    since: Option<Since>,
) -> tributary::error::Result<Outcome> {
    let texts = shape.texts(&TypeCatalog::default(), false);
    let mut reading = match worker.read(shape, &texts, blocks, since).await? {
        Begun::Reading(reading) => reading,
        Begun::Changed => return Ok(Outcome::Changed),
        Begun::Gone => return Ok(Outcome::Gone),
    };
    let mut rows = Vec::new();
    while reading.fill().await? {
        reading.drain(|tuple| {
            rows.push(tuple.cells().map(value).collect());
            Ok(())
        })?;
    }
    let count = reading.end().await?;
    assert_eq!(usize::try_from(count), Ok(rows.len()));
    Ok(Outcome::Rows(rows))
}

pub(crate) async fn read_all(worker: &mut Worker, shape: &Shape) -> Vec<Vec<Value>> {
    let mut rows = read(worker, shape, Blocks::ALL, None).await.expect("rows").rows();
    rows.sort();
    rows
}

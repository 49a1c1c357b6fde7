//! SQL beside the stream.
//!
//! Owns: [`Sql`], a session for catalogs and snapshots, and the quoting of names.
//! Does not: know any query but its own first one.
//! Holds: the session has the pinned settings, as the replication session has; a query ends within [`QUERY_TIME_MAX`].
//! Fails: as `fault` classifies the server's errors.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::TryStreamExt as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinSet;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row, Statement, ToStatement, config};

use super::dial::Io;
use super::options::ConnectOptions;
use super::session::no_answer;
use super::startup::{self, SignedIn};
use super::{connect, fault, settings};
use crate::error::{Error, Result};

/// The longest that a catalog query may take: with millions of tables some take a minute.
pub const QUERY_TIME_MAX: Duration = Duration::from_secs(600);

/// A session for SQL.
#[derive(Debug)]
pub struct Sql {
    client: Client,
    version: u32,
    /// Moves bytes for `client`, and ends once that is gone.
    driver: JoinSet<()>,
}

impl Sql {
    /// Runs a query, within [`QUERY_TIME_MAX`].
    ///
    /// `what` says in an error what was asked for.
    pub async fn query<T>(&self, what: &str, sql: &T, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>>
    where
        T: ?Sized + ToStatement,
    {
        within_query_time(what, async {
            self.client.query(sql, parameters).await.map_err(|error| fault::from_sql(error, what))
        })
        .await
    }

    /// Runs a query and reads each row as it comes: the rows of 200,000 tables are never here all at once.
    pub(crate) async fn read_each<T>(
        &self,
        what: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
        read: impl Fn(&Row) -> Result<T>,
    ) -> Result<Vec<T>> {
        let all = async {
            let parameters = parameters.iter().map(|parameter| *parameter as &(dyn ToSql + Sync));
            let rows = self.client.query_raw(sql, parameters).await;
            let mut rows = std::pin::pin!(rows.map_err(|error| fault::from_sql(error, what))?);
            let mut found = Vec::new();
            while let Some(row) = rows.try_next().await.map_err(|error| fault::from_sql(error, what))? {
                found.push(read(&row)?);
            }
            Ok(found)
        };
        within_query_time(what, all).await
    }

    /// Prepares a query that is run often.
    pub(crate) async fn prepare(&self, what: &str, sql: &str) -> Result<Statement> {
        within_query_time(what, async {
            self.client.prepare(sql).await.map_err(|error| fault::from_sql(error, what))
        })
        .await
    }

    /// Runs statements that have no parameters and no rows, within [`QUERY_TIME_MAX`].
    pub async fn execute(&self, what: &str, sql: &str) -> Result<()> {
        within_query_time(what, async {
            self.client.batch_execute(sql).await.map_err(|error| fault::from_sql(error, what))
        })
        .await
    }

    /// The server's `server_version_num`.
    pub fn server_version(&self) -> u32 {
        self.version
    }

    /// The client itself, for what this has no word for.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The connection is gone.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }
}

impl Drop for Sql {
    fn drop(&mut self) {
        // It says goodbye to the server and ends by itself as soon as the client is dropped.
        self.driver.detach_all();
    }
}

/// An answer, if it comes within [`QUERY_TIME_MAX`].
pub(super) async fn within_query_time<T>(what: &str, answer: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(QUERY_TIME_MAX, answer)
        .await
        .unwrap_or_else(|_elapsed| Err(no_answer(what, QUERY_TIME_MAX)))
}

/// Opens a session for SQL.
pub async fn connect_sql(options: &ConnectOptions) -> Result<Sql> {
    let signed_in = connect::open(options, |io, options, password| {
        Box::pin(startup::sign_in_for_sql(io, options, password))
    });
    let (client, driver) = hand_over(signed_in.await?, options).await?;
    let mut sql = Sql { client, version: 0, driver };
    let found = sql
        .query(
            "version of the source",
            "SELECT pg_catalog.current_setting('server_version_num')::int4, \
             pg_catalog.current_setting('server_encoding')",
            &[],
        )
        .await?;
    let row = found.first().ok_or_else(|| Error::transient("the source did not tell its version"))?;
    let version: i32 = get(row, 0)?;
    sql.version = u32::try_from(version).unwrap_or(0);
    check_version(sql.version)?;
    // UTF-8 whatever the database has: the client reads names and messages as nothing else.
    sql.execute("settings of the session", &settings::after_startup(sql.version, "UTF8")).await?;
    Ok(sql)
}

/// Refuses servers that lack what the stream needs.
pub(super) fn check_version(version: u32) -> Result<()> {
    if version >= settings::OLDEST_VERSION {
        return Ok(());
    }
    Err(Error::config(format!("the source is Postgres {}", version / 10_000))
        .hint("tributary reads from Postgres 14 and newer"))
}

/// Gives a session to the client, who believes that it signs in itself: one way to sign in is enough for all, and the client never has a
/// password.
async fn hand_over(signed_in: SignedIn, options: &ConnectOptions) -> Result<(Client, JoinSet<()>)> {
    let mut config = Config::new();
    config.user(&options.user).ssl_mode(config::SslMode::Disable);
    let (client, connection) = config
        .connect_raw(Opened::new(signed_in), NoTls)
        .await
        .map_err(|error| fault::from_sql(error, "sign-in to the source"))?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        // Its error reaches whoever asks the client next.
        if let Err(error) = connection.await {
            tracing::debug!(error = %error, "SQL connection ended");
        }
    });
    Ok((client, driver))
}

/// A connection on which a session is open: what the client says first stays here, and is answered from here.
struct Opened {
    io: Io,
    /// The start-up packet, as far as it was written; `None` behind its end.
    packet: Option<Vec<u8>>,
    /// The server's answer to it, as far as it was not read.
    answer: Bytes,
}

impl Opened {
    fn new(signed_in: SignedIn) -> Opened {
        let mut answer = BytesMut::new();
        let mut message = |tag: u8, body: &[u8]| {
            answer.put_u8(tag);
            // A message that came in is shorter than 2^31.
            answer.put_i32(i32::try_from(body.len() + 4).unwrap_or(i32::MAX));
            answer.put_slice(body);
        };
        message(b'R', &AUTHENTICATION_OK);
        for (name, value) in &signed_in.parameters {
            message(b'S', format!("{name}\0{value}\0").as_bytes());
        }
        message(b'Z', b"I");
        Opened { io: signed_in.io, packet: Some(Vec::new()), answer: answer.freeze() }
    }

    /// Takes what belongs to the start-up packet, whose first four bytes are its length.
    fn swallow(&mut self, bytes: &[u8]) -> usize {
        let Some(packet) = &mut self.packet else { return 0 };
        let wanted = |packet: &[u8]| match packet.first_chunk::<4>() {
            Some(length) => usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX).max(4),
            None => 4,
        };
        let mut taken = 0;
        while let Some((byte, _)) = bytes.get(taken..).and_then(<[u8]>::split_first)
            && packet.len() < wanted(packet)
        {
            packet.push(*byte);
            taken += 1;
        }
        if packet.len() > 4 && packet.len() >= wanted(packet) {
            self.packet = None;
        }
        taken
    }
}

impl AsyncRead for Opened {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let opened = self.get_mut();
        if opened.answer.is_empty() {
            return Pin::new(&mut opened.io).poll_read(cx, buf);
        }
        let piece = opened.answer.split_to(opened.answer.len().min(buf.remaining()));
        buf.put_slice(&piece);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Opened {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let opened = self.get_mut();
        match opened.swallow(bytes) {
            0 => Pin::new(&mut opened.io).poll_write(cx, bytes),
            taken => Poll::Ready(Ok(taken)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

const AUTHENTICATION_OK: [u8; 4] = 0_i32.to_be_bytes();

/// A cell of a row that our own query shaped: another type is a mistake in the query.
pub(crate) fn get<'r, T: tokio_postgres::types::FromSql<'r>>(row: &'r Row, column: usize) -> Result<T> {
    row.try_get(column)
        .map_err(|error| Error::bug(format!("column {column} of a catalog query")).caused_by(error))
}

/// An identifier, for SQL and for lists of publications.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string literal, with standard_conforming_strings on and in replication commands.
pub fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Refuses a slot name that Postgres would refuse, before it gets unquoted into a replication command.
pub fn check_slot_name(name: &str) -> Result<()> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if (1..=63).contains(&name.len()) && name.bytes().all(fits) {
        return Ok(());
    }
    Err(Error::config(format!("`{}` is not a slot name", name.escape_default()))
        .hint("1 to 63 lower-case letters, digits and underscores"))
}

#[cfg(test)]
mod tests;

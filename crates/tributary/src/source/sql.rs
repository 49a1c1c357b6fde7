//! SQL beside the stream.
//!
//! Owns: [`Sql`], a session for catalogs and snapshots, and the quoting of names.
//! Does not: know any query but its own first one.
//! Holds: the session has the pinned settings, as the replication session has; a query ends within [`QUERY_TIME_MAX`].
//! Fails: as `fault` classifies the server's errors.

use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinSet;
use tokio_postgres::config::{self, SslNegotiation};
use tokio_postgres::tls::{self, TlsConnect, TlsStream};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Row, Statement, ToStatement};

use super::dial::Io;
use super::options::{ChannelBinding, ConnectOptions};
use super::session::no_answer;
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
    let (client, driver) = connect::open(options, |io, options| Box::pin(sign_in(io, options))).await?;
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

async fn sign_in(io: Io, options: &ConnectOptions) -> Result<(Client, JoinSet<()>)> {
    let mut config = Config::new();
    config
        .user(&options.user)
        .dbname(&options.database)
        .application_name(&options.application_name)
        .options(settings::as_options(options.options.as_deref()))
        .channel_binding(match options.channel_binding {
            ChannelBinding::Disable => config::ChannelBinding::Disable,
            ChannelBinding::Prefer => config::ChannelBinding::Prefer,
            ChannelBinding::Require => config::ChannelBinding::Require,
        });
    if let Some(password) = &options.password {
        config.password(password.expose());
    }
    if io.is_tls() {
        // Direct: the handshake is behind us already, and `Upgraded` only tells of its certificate.
        config.ssl_mode(config::SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
    } else {
        config.ssl_mode(config::SslMode::Disable);
    }
    // `connect_raw` asks for a host name only to know whether TLS can be verified, which is done.
    if let super::options::Host::Tcp(host) = &options.host {
        config.host(host);
    }
    let (client, connection) = config
        .connect_raw(io, Upgraded)
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

/// Hands a connection over to the client as the TLS stream that it is.
struct Upgraded;

/// A connection whose TLS was set up by `tls`.
struct Ours(Io);

impl TlsConnect<Io> for Upgraded {
    type Stream = Ours;
    type Error = io::Error;
    type Future = Ready<io::Result<Ours>>;

    fn connect(self, io: Io) -> Self::Future {
        ready(Ok(Ours(io)))
    }
}

impl TlsStream for Ours {
    fn channel_binding(&self) -> tls::ChannelBinding {
        self.0.end_point().map_or_else(tls::ChannelBinding::none, tls::ChannelBinding::tls_server_end_point)
    }
}

impl AsyncRead for Ours {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Ours {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

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

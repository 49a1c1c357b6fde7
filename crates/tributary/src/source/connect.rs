//! Opening sessions of either kind.
//!
//! Owns: the cryptography provider, the bound on connecting, and falling back from TLS to plain text or the other way.
//! Does not: know what the session is for; its sign-in is handed in.
//! Holds: a session is open within `connect_timeout`, or there is none; only a refusal that plain text or TLS could mend
//! is answered by trying that.
//! Fails: transient when the server cannot be reached or does not answer in time.

use futures_util::future::BoxFuture;

use super::credentials::Secret;
use super::dial::{self, Attempt, Io};
use super::fault;
use super::options::ConnectOptions;
use crate::error::{Error, Result};

/// Makes ring the process's provider of cryptography; more than one is compiled in, so none is chosen by itself.
///
/// Repeated, it changes nothing.
pub fn install_crypto() {
    // An error means that there is one already, by an earlier call.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// How a session is let in. Boxed, and no async closure: sessions are opened on tasks of their own, too.
pub(super) type SignIn<T> =
    for<'o> fn(Io, &'o ConnectOptions, Option<&'o Secret>) -> BoxFuture<'o, Result<T>>;

/// Opens a connection and signs in on it, within the bound of the options.
pub(super) async fn open<T: Send>(options: &ConnectOptions, sign_in: SignIn<T>) -> Result<T> {
    // Boxed: the TLS handshake makes this a large future, and it runs once a session.
    let opening = Box::pin(try_each(options, sign_in));
    match options.connect_timeout {
        None => opening.await,
        Some(limit) => tokio::time::timeout(limit, opening).await.unwrap_or_else(|_| {
            Err(Error::transient(format!(
                "{} did not let us in within {} s (connect_timeout)",
                options.address(),
                limit.as_secs()
            )))
        }),
    }
}

async fn try_each<T: Send>(options: &ConnectOptions, sign_in: SignIn<T>) -> Result<T> {
    let password = options.credentials.password(options).await?;
    match try_each_way(options, sign_in, password.as_ref()).await {
        Ok(session) => {
            options.credentials.was_taken();
            Ok(session)
        }
        Err(error) => Err(options.credentials.explain(error)),
    }
}

async fn try_each_way<T: Send>(
    options: &ConnectOptions,
    sign_in: SignIn<T>,
    password: Option<&Secret>,
) -> Result<T> {
    let mut refusal = None;
    for attempt in dial::attempts(options) {
        let result = match dial::dial(options, *attempt).await {
            Ok(io) => sign_in(io, options, password).await,
            Err(error) => Err(error),
        };
        match result {
            Err(error) if may_fall_back(&error, *attempt) => refusal = Some(error),
            result => return result,
        }
    }
    Err(refusal.unwrap_or_else(|| Error::bug("no way to connect was tried")))
}

/// The server has no entry for us with (or without) encryption, or TLS itself did not work.
fn may_fall_back(error: &Error, attempt: Attempt) -> bool {
    match fault::server_error(error) {
        Some(server) => server.code == "28000",
        None => attempt == Attempt::PreferTls && is_tls_error(error),
    }
}

fn is_tls_error(error: &Error) -> bool {
    std::error::Error::source(error)
        .and_then(|cause| cause.downcast_ref::<std::io::Error>())
        .and_then(|io| io.get_ref())
        .is_some_and(|inner| inner.is::<rustls::Error>())
}

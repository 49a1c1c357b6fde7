//! Signing in on a connection whose messages we read ourselves.
//!
//! Owns: the start-up packet with the pinned settings, and every way to authenticate that we know, for sessions of every kind.
//! Does not: open the connection, or send a command.
//! Holds: a password goes only to a server that asked for it in a way we know and `require_auth` allows; SCRAM is bound to TLS where both
//! sides can.
//! Fails: [`crate::error::Kind::Config`] when the server does not let us in, transient when the connection breaks.
//!
//! The flow: <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP>

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use pgwire_replication::PgWireError;
use pgwire_replication::protocol::framing::{self, BackendMessage, MessageReader};
use pgwire_replication::protocol::messages::auth;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{self, ScramSha256};
use postgres_protocol::message::frontend;
use tokio::io::AsyncWriteExt;

use super::credentials::Secret;
use super::dial::Io;
use super::fault::ServerError;
use super::options::{ChannelBinding, ConnectOptions};
use super::require_auth::Method;
use super::{settings, tls};
use crate::error::{Error, Result};

/// A session that the server is ready to take commands on.
pub(super) struct SignedIn {
    pub(super) io: Io,
    pub(super) reader: MessageReader,
    pub(super) parameters: HashMap<String, String>,
    pub(super) cancel_key: Option<Bytes>,
}

/// Signs in for logical replication of the database of the options.
pub(super) async fn sign_in(io: Io, options: &ConnectOptions, password: Option<&Secret>) -> Result<SignedIn> {
    sign_in_with(io, options, password, &[("replication", "database")]).await
}

/// Signs in to the database of the options.
pub(super) async fn sign_in_for_sql(
    io: Io,
    options: &ConnectOptions,
    password: Option<&Secret>,
) -> Result<SignedIn> {
    sign_in_with(io, options, password, &[]).await
}

async fn sign_in_with(
    mut io: Io,
    options: &ConnectOptions,
    password: Option<&Secret>,
    more: &[(&str, &str)],
) -> Result<SignedIn> {
    let mut parameters = vec![
        ("user", options.user.as_str()),
        ("database", options.database.as_str()),
        ("application_name", options.application_name.as_str()),
        ("client_encoding", "UTF8"),
    ];
    parameters.extend(more);
    if let Some(given) = &options.options {
        parameters.push(("options", given));
    }
    // T87: after `options`, so that they win over it, and over what role and database set for themselves.
    parameters.extend(settings::PINNED);
    framing::write_startup_message(&mut io, PROTOCOL_VERSION, &parameters).await.map_err(broken)?;
    let mut sign_in = SignIn {
        session: SignedIn {
            io,
            reader: MessageReader::new().with_max_message_size(MESSAGE_BYTES_MAX),
            parameters: HashMap::new(),
            cancel_key: None,
        },
        options,
        password,
    };
    sign_in.authenticate().await?;
    sign_in.wait_until_ready().await?;
    Ok(sign_in.session)
}

/// 3.0, which every server speaks.
const PROTOCOL_VERSION: i32 = 196_608;

/// Bound of a message outside the stream: none of the answers to our commands comes near it.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

struct SignIn<'o> {
    session: SignedIn,
    options: &'o ConnectOptions,
    password: Option<&'o Secret>,
}

impl SignIn<'_> {
    async fn authenticate(&mut self) -> Result<()> {
        let allowed = &self.options.require_auth;
        let mut was_asked = false;
        loop {
            let (method, body) = self.authentication_request().await?;
            match method {
                auth::OK => {
                    if !was_asked {
                        allowed.check(Method::None)?;
                    }
                    return self.check_binding_was_not_needed();
                }
                auth::CLEARTEXT_PASSWORD => {
                    allowed.check(Method::Password)?;
                    let password = self.password()?.expose().to_owned();
                    self.send_password(password.as_bytes()).await?;
                }
                auth::MD5_PASSWORD => {
                    allowed.check(Method::Md5)?;
                    let salt = <[u8; 4]>::try_from(body.as_ref()).map_err(|_| unexpected("an MD5 salt"))?;
                    let password = self.password()?.expose();
                    let hash = md5_hash(self.options.user.as_bytes(), password.as_bytes(), salt);
                    self.send_password(hash.as_bytes()).await?;
                }
                auth::SASL => {
                    allowed.check(Method::ScramSha256)?;
                    self.scram(&body).await?;
                    return self.wait_for_ok().await;
                }
                other => {
                    return Err(Error::config(format!("the server asks for authentication method {other}"))
                        .hint("tributary knows scram-sha-256, md5, password, cert, trust and peer"));
                }
            }
            was_asked = true;
        }
    }

    /// SCRAM-SHA-256, bound to the TLS channel if both sides can.
    async fn scram(&mut self, offered: &[u8]) -> Result<()> {
        let offers =
            |name: &str| offered.split(|byte| *byte == 0).any(|mechanism| mechanism == name.as_bytes());
        let wanted = self.options.channel_binding;
        let end_point = match wanted {
            ChannelBinding::Disable => None,
            ChannelBinding::Prefer | ChannelBinding::Require => self.session.io.end_point(),
        };
        let (mechanism, binding) = match end_point {
            Some(hash) if offers(sasl::SCRAM_SHA_256_PLUS) => {
                (sasl::SCRAM_SHA_256_PLUS, sasl::ChannelBinding::tls_server_end_point(hash))
            }
            _ if wanted == ChannelBinding::Require => return Err(not_bound()),
            // "We could, you could not": the server refuses that if it did offer, so nobody can take the offer away.
            Some(_) => (sasl::SCRAM_SHA_256, sasl::ChannelBinding::unrequested()),
            None => (sasl::SCRAM_SHA_256, sasl::ChannelBinding::unsupported()),
        };
        if !offers(mechanism) {
            return Err(Error::config("the server offers no SASL mechanism that tributary knows"));
        }
        let mut scram = ScramSha256::new(self.password()?.expose().as_bytes(), binding);
        let mut out = BytesMut::new();
        frontend::sasl_initial_response(mechanism, scram.message(), &mut out).map_err(too_long)?;
        self.send(&out).await?;
        let (_, body) = self.expect_authentication(auth::SASL_CONTINUE).await?;
        scram.update(&body).map_err(refused)?;
        out.clear();
        frontend::sasl_response(scram.message(), &mut out).map_err(too_long)?;
        self.send(&out).await?;
        let (_, body) = self.expect_authentication(auth::SASL_FINAL).await?;
        // The server, too, has to know the password.
        scram.finish(&body).map_err(refused)
    }

    async fn wait_for_ok(&mut self) -> Result<()> {
        self.expect_authentication(auth::OK).await.map(|_| ())
    }

    fn check_binding_was_not_needed(&self) -> Result<()> {
        if self.options.channel_binding == ChannelBinding::Require { Err(not_bound()) } else { Ok(()) }
    }

    async fn expect_authentication(&mut self, method: i32) -> Result<(i32, Bytes)> {
        let request = self.authentication_request().await?;
        if request.0 == method { Ok(request) } else { Err(unexpected("an authentication message")) }
    }

    async fn authentication_request(&mut self) -> Result<(i32, Bytes)> {
        loop {
            let message = self.receive().await?;
            match message.tag {
                b'R' => {
                    let (method, rest) = message
                        .payload
                        .split_first_chunk::<4>()
                        .ok_or_else(|| unexpected("an empty message"))?;
                    return Ok((i32::from_be_bytes(*method), message.payload.slice_ref(rest)));
                }
                // NegotiateProtocolVersion: the server leaves out what it does not know.
                b'v' | b'N' => {}
                _ => return Err(unexpected("a message before authentication")),
            }
        }
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        loop {
            let message = self.receive().await?;
            match message.tag {
                b'S' => {
                    if let Some((name, value)) = parameter_status(&message.payload) {
                        self.session.parameters.insert(name, value);
                    }
                }
                b'K' => self.session.cancel_key = Some(message.payload),
                b'Z' => return Ok(()),
                b'N' => {}
                _ => return Err(unexpected("a message after authentication")),
            }
        }
    }

    /// The next message; the server's refusal is an error.
    async fn receive(&mut self) -> Result<BackendMessage> {
        let message = self.session.reader.read(&mut self.session.io).await.map_err(broken)?;
        if message.is_error() {
            return Err(ServerError::parse(&message.payload).into_error("sign-in to the source"));
        }
        Ok(message)
    }

    async fn send_password(&mut self, text: &[u8]) -> Result<()> {
        let mut out = BytesMut::new();
        frontend::password_message(text, &mut out).map_err(too_long)?;
        self.send(&out).await
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let io = &mut self.session.io;
        io.write_all(bytes)
            .await
            .map_err(|error| Error::transient("sign-in to the source").caused_by(error))?;
        io.flush().await.map_err(|error| Error::transient("sign-in to the source").caused_by(error))
    }

    fn password(&self) -> Result<&Secret> {
        self.password.ok_or_else(|| {
            Error::config("the server asks for a password, and none is configured")
                .hint("source.password_file, or PGPASSWORD")
        })
    }
}

/// Name and value of a `ParameterStatus`.
pub(super) fn parameter_status(body: &[u8]) -> Option<(String, String)> {
    let mut texts = body.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
    Some((texts.next()?, texts.next()?))
}

fn not_bound() -> Error {
    Error::config("channel_binding=require, and the server did not bind the sign-in to TLS")
        .hint("it needs TLS and a password stored as scram-sha-256")
}

fn refused(error: std::io::Error) -> Error {
    Error::config("SCRAM sign-in: the server's answer does not fit").caused_by(error)
}

fn too_long(error: std::io::Error) -> Error {
    Error::config("the password cannot be sent").caused_by(error)
}

fn unexpected(what: &str) -> Error {
    Error::transient(format!("sign-in to the source: {what} that does not belong there"))
}

pub(super) fn broken(error: PgWireError) -> Error {
    if let PgWireError::Io(io) = &error
        && let Some(refusal) = tls::refusal(io)
    {
        return refusal;
    }
    Error::transient("connection to the source").caused_by(error)
}

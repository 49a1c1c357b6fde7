//! How to reach a server: a libpq connection URL as types that cannot be wrong.
//!
//! Owns: [`ConnectOptions`], [`SslMode`] and the meaning of every URL parameter.
//! Does not: open anything but the password file.
//! Holds: a parameter is understood or refused, never ignored, unless it can make no difference; who does not say otherwise has every
//! server but one on this host prove who it is.
//! Fails: [`crate::error::Kind::Config`], naming the parameter. What a URL with an unescaped password may hold in a wrong place (a port, a
//! parameter's name) is in no message.
//!
//! The form: <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS>

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::credentials::{Credentials, PasswordFile, Secret};
use super::require_auth::RequireAuth;
use crate::error::{Error, Result};

/// When to use TLS, and what to check of the server's certificate; libpq's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS only if the server refuses without.
    Allow,
    /// TLS unless the server has none.
    Prefer,
    /// TLS, whoever the server is; with a root certificate the same as `VerifyCa`.
    Require,
    /// A certificate that a trusted root signed.
    VerifyCa,
    /// And it has the host's name.
    VerifyFull,
}

/// libpq's `channel_binding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Whenever server and TLS allow it.
    Prefer,
    /// Refuse to sign in without.
    Require,
}

/// Where trusted certificates come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootCertificates {
    /// The operating system's.
    System,
    /// A PEM file.
    File(PathBuf),
}

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// Name or address.
    Tcp(String),
    /// Directory of a Unix socket.
    Unix(PathBuf),
}

impl Host {
    /// What is said to it does not leave this machine.
    pub fn is_local(&self) -> bool {
        match self {
            Host::Unix(_) => true,
            Host::Tcp(name) => name.parse().map_or_else(
                |_| name.eq_ignore_ascii_case("localhost"),
                |address: IpAddr| address.is_loopback(),
            ),
        }
    }
}

/// Kernel settings of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Whether to probe an idle peer.
    pub enabled: bool,
    /// Idle time before the first probe.
    pub idle: Duration,
    /// Between probes.
    pub interval: Duration,
    /// Probes without an answer before the peer is given up.
    pub count: u32,
    /// How long sent bytes may stay without an answer.
    pub user_timeout: Option<Duration>,
}

/// How to reach a server and who we are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectOptions {
    /// Where the server listens.
    pub host: Host,
    /// Its port; part of the socket's name for [`Host::Unix`].
    pub port: u16,
    /// Role.
    pub user: String,
    /// Database.
    pub database: String,
    /// Where its password comes from.
    pub credentials: Credentials,
    /// TLS or not, and what to verify.
    pub sslmode: SslMode,
    /// Trusted roots; without, `verify-ca` and `verify-full` trust the system's.
    pub sslrootcert: Option<RootCertificates>,
    /// Certificates that their authorities took back.
    pub sslcrl: Option<PathBuf>,
    /// Our certificate with its chain.
    pub sslcert: Option<PathBuf>,
    /// Its key.
    pub sslkey: Option<PathBuf>,
    /// Whether SCRAM is bound to the TLS channel.
    pub channel_binding: ChannelBinding,
    /// In which ways the server may have us sign in.
    pub require_auth: RequireAuth,
    /// How we appear in `pg_stat_activity`.
    pub application_name: String,
    /// Bound of opening a session, sign-in included; `None` waits as long as the kernel does.
    pub connect_timeout: Option<Duration>,
    /// Kernel settings.
    pub keepalive: Keepalive,
    /// `-c name=value …` for the server.
    pub options: Option<String>,
}

impl ConnectOptions {
    /// Reads a URL. The password comes from the file, the URL or `PGPASSWORD`.
    pub fn parse(url: &str, password_file: Option<&Path>) -> Result<ConnectOptions> {
        let environment = std::env::var("PGPASSWORD").ok();
        ConnectOptions::parse_with(url, password_file, environment)
    }

    fn parse_with(
        url: &str,
        password_file: Option<&Path>,
        environment: Option<String>,
    ) -> Result<ConnectOptions> {
        let mut given = Given::default();
        given.read_url(url)?;
        let in_url = given.password.take();
        let credentials = match (password_file, in_url.or(environment.filter(|text| !text.is_empty()))) {
            (Some(_), Some(_)) if given.has_password => {
                return Err(Error::config("the password is in the URL and in a file").hint("keep the file"));
            }
            (Some(path), _) => Credentials::File(PasswordFile::new(path)?),
            (None, Some(password)) => Credentials::Password(Secret::new(password)),
            (None, None) => Credentials::Nothing,
        };
        given.finish(credentials)
    }

    /// The same server, signed in to with tokens of Amazon RDS, of which each connection gets its own.
    pub fn by_rds_iam(self) -> Result<ConnectOptions> {
        let encrypts = matches!(self.sslmode, SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull);
        match (&self.credentials, &self.host) {
            (Credentials::File(_), _) => {
                Err(Error::config("`source.auth = \"rds-iam\"` makes its own passwords, and there is a `source.password_file`")
                    .hint("take away one of them"))
            }
            (_, Host::Unix(_)) => {
                Err(Error::config("`source.auth = \"rds-iam\"` is for Amazon RDS, and the URL names a Unix socket")
                    .hint("write the instance's or cluster's endpoint into the URL"))
            }
            _ if !encrypts => {
                Err(Error::config("`source.auth = \"rds-iam\"` sends a token that lets anybody in, and sslmode allows to send it in plain text")
                    .hint("sslmode=verify-full, with sslrootcert=FILE of Amazon's bundle where the system does not trust it"))
            }
            _ => Ok(ConnectOptions { credentials: Credentials::RdsIam, ..self }),
        }
    }

    /// Whether a server has to prove that it is the one that is meant, or is on this machine.
    pub fn knows_server(&self) -> bool {
        self.host.is_local()
            || matches!(self.sslmode, SslMode::VerifyFull | SslMode::VerifyCa)
            || (self.sslmode == SslMode::Require && self.sslrootcert.is_some())
    }

    /// `host:port/database` for messages; no user, no password.
    pub fn address(&self) -> String {
        match &self.host {
            Host::Tcp(host) if host.contains(':') => format!("[{host}]:{}/{}", self.port, self.database),
            Host::Tcp(host) => format!("{host}:{}/{}", self.port, self.database),
            Host::Unix(directory) => format!("{}:{}/{}", directory.display(), self.port, self.database),
        }
    }
}

/// What a URL has said so far.
#[derive(Default)]
struct Given {
    host: Option<String>,
    port: Option<u16>,
    user: Option<String>,
    database: Option<String>,
    password: Option<String>,
    /// The URL held one, whether or not it was taken.
    has_password: bool,
    sslmode: Option<SslMode>,
    sslrootcert: Option<String>,
    sslcrl: Option<String>,
    sslcert: Option<String>,
    sslkey: Option<String>,
    channel_binding: Option<ChannelBinding>,
    require_auth: Option<RequireAuth>,
    application_name: Option<String>,
    connect_timeout: Option<u64>,
    keepalives: Option<u64>,
    keepalives_idle: Option<u64>,
    keepalives_interval: Option<u64>,
    keepalives_count: Option<u64>,
    tcp_user_timeout: Option<u64>,
    options: Option<String>,
}

impl Given {
    fn read_url(&mut self, url: &str) -> Result<()> {
        let rest = url
            .strip_prefix("postgresql://")
            .or_else(|| url.strip_prefix("postgres://"))
            .ok_or_else(|| Error::config("a source URL starts with postgresql://"))?;
        if rest.contains('#') {
            return Err(Error::config("a `#` in a source URL is written %23"));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        // The last `@`: a password with an unescaped one still parses, as libpq does it.
        let (user_info, place) = match authority.rsplit_once('@') {
            Some((user_info, place)) => (Some(user_info), place),
            None => (None, authority),
        };
        if let Some(user_info) = user_info {
            let (user, password) = match user_info.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (user_info, None),
            };
            self.user = not_empty(decode(user, "user")?);
            self.password = password.map(|text| decode(text, "password")).transpose()?.and_then(not_empty);
        }
        self.read_place(place)?;
        self.database = not_empty(decode(path, "database")?);
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter
                .split_once('=')
                .ok_or_else(|| Error::config("a parameter of the source URL has no `=`").hint(ESCAPES))?;
            self.read_parameter(
                &decode(name, "a parameter's name")?,
                &decode(value, "a parameter's value")?,
            )?;
        }
        self.has_password = self.password.is_some();
        Ok(())
    }

    fn read_place(&mut self, place: &str) -> Result<()> {
        if place.contains(',') {
            return Err(Error::config("several hosts in one URL are not supported"));
        }
        let (host, port) = if let Some(bracketed) = place.strip_prefix('[') {
            let (host, rest) =
                bracketed.split_once(']').ok_or_else(|| Error::config("the host's `[` has no `]`"))?;
            (host, rest.strip_prefix(':').unwrap_or_default())
        } else {
            place.split_once(':').unwrap_or((place, ""))
        };
        self.host = not_empty(decode(host, "host")?);
        self.port = Some(port).filter(|port| !port.is_empty()).map(parse_port).transpose()?;
        Ok(())
    }

    fn read_parameter(&mut self, name: &str, value: &str) -> Result<()> {
        let text = || not_empty(value.to_owned());
        match name {
            "host" | "hostaddr" if value.contains(',') => {
                return Err(Error::config("several hosts in one URL are not supported"));
            }
            "host" => self.host = text(),
            "port" => self.port = Some(parse_port(value)?),
            "user" => self.user = text(),
            "password" => self.password = text(),
            "dbname" => self.database = text(),
            "sslmode" => self.sslmode = Some(parse_sslmode(value)?),
            // The JDBC driver's word, which libpq takes in URLs.
            "ssl" if value == "true" => self.sslmode = Some(SslMode::Require),
            "sslrootcert" => self.sslrootcert = text(),
            "sslcrl" => self.sslcrl = text(),
            "sslcert" => self.sslcert = text(),
            "sslkey" => self.sslkey = text(),
            "channel_binding" => self.channel_binding = Some(parse_channel_binding(value)?),
            "require_auth" => self.require_auth = Some(value.parse()?),
            "application_name" | "fallback_application_name" => self.application_name = text(),
            "options" => self.options = text(),
            "connect_timeout" => self.connect_timeout = Some(parse_number(name, value)?),
            "keepalives" => self.keepalives = Some(parse_number(name, value)?),
            "keepalives_idle" => self.keepalives_idle = Some(parse_number(name, value)?),
            "keepalives_interval" => self.keepalives_interval = Some(parse_number(name, value)?),
            "keepalives_count" => self.keepalives_count = Some(parse_number(name, value)?),
            "tcp_user_timeout" => self.tcp_user_timeout = Some(parse_number(name, value)?),
            _ if makes_no_difference(name, value) => {}
            _ if KNOWN.contains(&name) => {
                return Err(Error::config(format!("URL parameter `{name}` is not supported as `{value}`"))
                    .hint(format!("supported: {SUPPORTED}")));
            }
            _ => return Err(unsupported(name)),
        }
        Ok(())
    }

    fn finish(self, credentials: Credentials) -> Result<ConnectOptions> {
        let host = self.host.ok_or_else(|| {
            Error::config("the source URL names no host").hint("a Unix socket: ?host=/run/postgresql")
        })?;
        let user = self.user.ok_or_else(|| Error::config("the source URL names no user"))?;
        let host = if host.starts_with('/') { Host::Unix(host.into()) } else { Host::Tcp(host) };
        if self.sslcert.is_some() != self.sslkey.is_some() {
            return Err(Error::config("sslcert and sslkey go together; one of them is missing"));
        }
        let sslrootcert = self.sslrootcert.map(|text| match text.as_str() {
            "system" => RootCertificates::System,
            _ => RootCertificates::File(text.into()),
        });
        let sslmode = match (self.sslmode, &sslrootcert) {
            (None, Some(RootCertificates::System)) => SslMode::VerifyFull,
            // Anybody can get a certificate that the system trusts, so only its name says something.
            (Some(mode), Some(RootCertificates::System)) if mode != SslMode::VerifyFull => {
                return Err(Error::config("sslrootcert=system needs sslmode=verify-full"));
            }
            (Some(mode), _) => mode,
            // Not libpq's default: there a server that says it has no TLS is believed.
            (None, _) if host.is_local() => SslMode::Prefer,
            (None, _) => SslMode::VerifyFull,
        };
        let seconds = |given: Option<u64>, otherwise: u64| {
            Duration::from_secs(given.filter(|seconds| *seconds > 0).unwrap_or(otherwise))
        };
        let keepalive = Keepalive {
            enabled: self.keepalives != Some(0),
            idle: seconds(self.keepalives_idle, 30),
            interval: seconds(self.keepalives_interval, 10),
            count: self
                .keepalives_count
                .and_then(|count| u32::try_from(count).ok())
                .filter(|n| *n > 0)
                .unwrap_or(3),
            user_timeout: Some(Duration::from_millis(self.tcp_user_timeout.unwrap_or(120_000)))
                .filter(|timeout| !timeout.is_zero()),
        };
        Ok(ConnectOptions {
            host,
            port: self.port.unwrap_or(5432),
            database: self.database.unwrap_or_else(|| user.clone()),
            user,
            credentials,
            sslmode,
            sslrootcert,
            sslcrl: self.sslcrl.map(PathBuf::from),
            sslcert: self.sslcert.map(PathBuf::from),
            sslkey: self.sslkey.map(PathBuf::from),
            channel_binding: self.channel_binding.unwrap_or(ChannelBinding::Prefer),
            require_auth: self.require_auth.unwrap_or_default(),
            application_name: self.application_name.unwrap_or_else(|| "tributary".to_owned()),
            connect_timeout: match self.connect_timeout {
                Some(0) => None,
                given => Some(seconds(given, 10)),
            },
            keepalive,
            options: self.options,
        })
    }
}

const SUPPORTED: &str = "host, port, user, password, dbname, sslmode, sslrootcert, sslcrl, sslcert, sslkey, \
                         channel_binding, require_auth, application_name, connect_timeout, options, keepalives, keepalives_idle, \
                         keepalives_interval, keepalives_count, tcp_user_timeout";

/// Parameters that ask for what is done anyway.
fn makes_no_difference(name: &str, value: &str) -> bool {
    matches!(
        (name, value),
        ("target_session_attrs", "any")
            | ("gssencmode", "disable" | "prefer")
            | ("sslnegotiation", "postgres")
            | ("sslcompression" | "sslsni", "0" | "1")
            | ("client_encoding", "auto" | "UTF8" | "utf8")
            | ("load_balance_hosts", "disable")
    )
}

/// Parameters of which only some values are not supported.
const KNOWN: [&str; 6] =
    ["target_session_attrs", "gssencmode", "sslnegotiation", "client_encoding", "load_balance_hosts", "ssl"];

/// The name itself is said only if it is one of libpq's, or near one: what follows a `?` may be the end of an unescaped password.
fn unsupported(name: &str) -> Error {
    let supported = SUPPORTED.split(", ").map(str::trim);
    let near = supported.clone().any(|word| strsim::jaro_winkler(word, name) >= 0.9);
    let known = ["sslpassword", "sslcrldir", "service", "passfile", "hostaddr", "krbsrvname", "replication"];
    let error = if near || known.contains(&name) {
        Error::config(format!("URL parameter `{name}` is not supported"))
    } else {
        Error::config("a parameter of the source URL is not supported")
    };
    error.hint(format!("supported: {SUPPORTED}; {ESCAPES}"))
}

const ESCAPES: &str = "in a password `?` is written %3F, `/` %2F, `@` %40, `%` %25; better, put it into a file: source.password_file";

fn parse_sslmode(value: &str) -> Result<SslMode> {
    Ok(match value {
        "disable" => SslMode::Disable,
        "allow" => SslMode::Allow,
        "prefer" => SslMode::Prefer,
        "require" => SslMode::Require,
        "verify-ca" => SslMode::VerifyCa,
        "verify-full" => SslMode::VerifyFull,
        _ => {
            return Err(Error::config(format!("sslmode `{value}` does not exist"))
                .hint("disable, allow, prefer, require, verify-ca or verify-full"));
        }
    })
}

fn parse_channel_binding(value: &str) -> Result<ChannelBinding> {
    Ok(match value {
        "disable" => ChannelBinding::Disable,
        "prefer" => ChannelBinding::Prefer,
        "require" => ChannelBinding::Require,
        _ => return Err(Error::config(format!("channel_binding `{value}` does not exist"))),
    })
}

fn parse_port(text: &str) -> Result<u16> {
    text.parse().ok().filter(|port| *port > 0).ok_or_else(|| {
        Error::config("the port in the source URL is not a number from 1 to 65535").hint(ESCAPES)
    })
}

fn parse_number(name: &str, value: &str) -> Result<u64> {
    // libpq takes negative numbers as "the default", which 0 is here.
    let number: i64 = value
        .parse()
        .map_err(|_| Error::config(format!("URL parameter `{name}` is not a number: `{value}`")))?;
    Ok(u64::try_from(number).unwrap_or(0))
}

fn not_empty(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// Undoes percent-encoding. The text itself stays out of the error: it may be a password.
fn decode(text: &str, what: &str) -> Result<String> {
    let refuse = || Error::config(format!("the {what} in the source URL is not percent-encoded UTF-8"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2).ok_or_else(refuse)?;
        let digits = std::str::from_utf8(digits).map_err(|_| refuse())?;
        let value = u8::from_str_radix(digits, 16).map_err(|_| refuse())?;
        if value == 0 || digits.starts_with('+') {
            return Err(refuse());
        }
        bytes.push(value);
        rest = after;
    }
    if bytes.contains(&0) {
        return Err(refuse());
    }
    String::from_utf8(bytes).map_err(|_| refuse())
}

#[cfg(test)]
mod tests;

//! In which ways a server may have us sign in: libpq's `require_auth`.
//!
//! Owns: the methods, and the list that allows or refuses some of them.
//! Does not: sign in (`startup` asks here before it answers).
//! Holds: without a list everything is allowed; a refused method is never answered, so that no password is sent.
//! Fails: [`crate::error::Kind::Config`], naming the method and the list.
//!
//! The list: <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-REQUIRE-AUTH>

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// How a server has a client prove who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Not at all; or by the certificate of its TLS session, or the peer of its socket.
    None,
    /// The password as it is.
    Password,
    /// A hash of it.
    Md5,
    /// SCRAM, with or without channel binding.
    ScramSha256,
    /// Kerberos; not ours.
    Gss,
    /// Windows; not ours.
    Sspi,
    /// OAuth; not ours.
    Oauth,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = METHODS.iter().find(|(_, method)| method == self);
        f.write_str(known.map_or("unknown", |(name, _)| name))
    }
}

/// The methods that are allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequireAuth {
    /// Empty for all.
    allowed: Vec<Method>,
    written: String,
}

impl RequireAuth {
    /// Refuses a method that is not allowed.
    pub(super) fn check(&self, method: Method) -> Result<()> {
        if self.allowed.is_empty() || self.allowed.contains(&method) {
            return Ok(());
        }
        let what = match method {
            Method::None => "the server lets us in without any authentication".to_owned(),
            method => format!("the server asks for authentication by `{method}`"),
        };
        Err(Error::config(format!("{what}, which require_auth={} does not allow", self.written)).hint(
            "nothing was sent that proves who we are; see to it that this is the server, give its pg_hba.conf a line with an allowed method for this role, or change require_auth in the URL",
        ))
    }
}

impl FromStr for RequireAuth {
    type Err = Error;

    fn from_str(text: &str) -> Result<RequireAuth> {
        let mut named = Vec::new();
        let mut negated = None;
        for word in text.split(',') {
            let word = word.trim();
            let (name, is_negated) = match word.strip_prefix('!') {
                Some(name) => (name, true),
                None => (word, false),
            };
            if *negated.get_or_insert(is_negated) != is_negated {
                return Err(refuse(format!("require_auth `{text}` mixes methods with and without `!`")));
            }
            let method = METHODS.iter().find(|(known, _)| *known == name).map(|(_, method)| *method);
            let method =
                method.ok_or_else(|| refuse(format!("require_auth names `{name}`, which is no method")))?;
            if named.contains(&method) {
                return Err(refuse(format!("require_auth names `{name}` twice")));
            }
            named.push(method);
        }
        let all = METHODS.iter().map(|(_, method)| *method);
        let is_allowed = |method: &Method| named.contains(method) != (negated == Some(true));
        let allowed: Vec<Method> = all.filter(is_allowed).collect();
        if !allowed.iter().any(|method| OURS.contains(method)) {
            return Err(refuse(format!("require_auth `{text}` leaves no method that tributary has")));
        }
        Ok(RequireAuth { allowed, written: text.to_owned() })
    }
}

fn refuse(what: String) -> Error {
    Error::config(what).hint("require_auth=scram-sha-256, or some of scram-sha-256, md5, password, none; `!` before each of them refuses these instead")
}

const METHODS: [(&str, Method); 7] = [
    ("none", Method::None),
    ("password", Method::Password),
    ("md5", Method::Md5),
    ("scram-sha-256", Method::ScramSha256),
    ("gss", Method::Gss),
    ("sspi", Method::Sspi),
    ("oauth", Method::Oauth),
];

const OURS: [Method; 4] = [Method::None, Method::Password, Method::Md5, Method::ScramSha256];

#[cfg(test)]
mod tests;

//! Where the password of a connection comes from.
//!
//! Owns: [`Secret`], [`Credentials`], and reading or minting a password for one connection.
//! Does not: send it (`startup`), or sign a token (`store`, the only crate that compiles the SDK).
//! Holds: a secret prints as `***`; a file is read and a token minted anew for every connection, so that neither has to live longer.
//! Fails: [`crate::error::Kind::Config`] for what was never right. What was right before is transient: files are replaced, and
//! passwords changed, while we run.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use store::RdsSigner;
use tokio::sync::OnceCell;

use super::fault;
use super::options::{ConnectOptions, Host};
use crate::clock;
use crate::error::{Error, Kind, Result};

/// A password. Prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, to be given to nobody but the server.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where the password of a connection comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// There is none: a certificate, the socket's peer or nothing at all lets us in.
    Nothing,
    /// The URL, or the environment.
    Password(Secret),
    /// A file.
    File(PasswordFile),
    /// A token of Amazon RDS, made with the credentials that the AWS SDK finds.
    RdsIam,
}

impl Credentials {
    /// The password of one connection.
    pub(super) async fn password(&self, options: &ConnectOptions) -> Result<Option<Secret>> {
        match self {
            Credentials::Nothing => Ok(None),
            Credentials::Password(password) => Ok(Some(password.clone())),
            Credentials::File(file) => file.read().map(Some),
            Credentials::RdsIam => rds_token(options).await.map(Some),
        }
    }

    /// Notes that the server took it.
    pub(super) fn was_taken(&self) {
        if let Credentials::File(file) = self {
            file.worked.0.store(true, Ordering::Relaxed);
        }
    }

    /// A refused password may be one that is just being changed: the role's first, and then the file's.
    pub(super) fn explain(&self, error: Error) -> Error {
        match self {
            Credentials::File(file) if is_refused_with(&error, &[WRONG_PASSWORD]) && file.has_worked() => {
                Error::transient("the server does not take the password any more")
                    .hint(format!("write the new one into {}, which is read at every try", file.path.display()))
                    .caused_by(error)
            }
            // RDS asks PAM.
            Credentials::RdsIam if is_refused_with(&error, &[WRONG_PASSWORD, NOT_AUTHORIZED]) => {
                Error::new(error.kind(), "the server does not take the token of Amazon RDS")
                    .hint(
                        "GRANT rds_iam TO the role; IAM database authentication enabled for the instance; a policy that allows rds-db:connect to this role; the endpoint's own name in the URL, and no alias",
                    )
                    .caused_by(error)
            }
            _ => error,
        }
    }
}

/// A file with a password, read again for every connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasswordFile {
    path: PathBuf,
    worked: Worked,
}

/// Whether a server has taken its password; shared by all clones, and no part of what the options are.
#[derive(Clone, Debug, Default)]
struct Worked(Arc<AtomicBool>);

impl PartialEq for Worked {
    fn eq(&self, _: &Worked) -> bool {
        true
    }
}

impl Eq for Worked {}

impl PasswordFile {
    /// Looks at it, so that a file that is wrong is told at once.
    pub(super) fn new(path: &Path) -> Result<PasswordFile> {
        let file = PasswordFile { path: path.to_owned(), worked: Worked::default() };
        file.read()?;
        Ok(file)
    }

    fn read(&self) -> Result<Secret> {
        let path = self.path.display();
        // Whoever replaces a file in two steps is only half-way.
        let kind = if self.has_worked() { Kind::Transient } else { Kind::Config };
        let text = std::fs::read_to_string(&self.path)
            .map_err(|error| Error::new(kind, format!("password file {path}")).caused_by(error))?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() || text.contains(['\n', '\0']) {
            return Err(Error::new(kind, format!("password file {path} does not hold one line"))
                .hint("it holds the password and nothing else"));
        }
        Ok(Secret::new(text))
    }

    fn has_worked(&self) -> bool {
        self.worked.0.load(Ordering::Relaxed)
    }
}

fn is_refused_with(error: &Error, codes: &[&str]) -> bool {
    fault::server_error(error).is_some_and(|server| codes.contains(&server.code.as_str()))
}

async fn rds_token(options: &ConnectOptions) -> Result<Secret> {
    let Host::Tcp(host) = &options.host else {
        return Err(Error::bug("a token of Amazon RDS for a Unix socket"));
    };
    let signer = SIGNER.get_or_init(RdsSigner::of_process).await;
    let token =
        signer.token(host, options.port, &options.user, clock::system_time()).await.map_err(|error| {
            let of_store = Error::from(lake::Error::from(error));
            let said = Error::new(of_store.kind(), "a token of Amazon RDS cannot be made");
            let said = match of_store.hint_text() {
                Some(hint) => said.hint(hint),
                None => said,
            };
            said.caused_by(of_store)
        })?;
    Ok(Secret::new(token))
}

/// SQLSTATE `invalid_password`.
const WRONG_PASSWORD: &str = "28P01";

/// SQLSTATE `invalid_authorization_specification`: what is asked elsewhere, and what `pg_hba.conf` rejects.
const NOT_AUTHORIZED: &str = "28000";

/// One for the process, as its credentials are: it keeps them until they expire.
static SIGNER: OnceCell<RdsSigner> = OnceCell::const_new();

#[cfg(test)]
mod tests;

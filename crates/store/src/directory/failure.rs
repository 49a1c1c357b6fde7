//! What an I/O error means to the caller.
//!
//! Owns: the classification of I/O errors into `Transient` and `Refused`, and their hints.
//! Does not: retry.
//! Holds: transient unless proven definite.
//! Fails: never.

use std::io::{self, ErrorKind};

use lake::store::StoreError;

/// Why a request on the directory failed, before it is known which request it was.
#[derive(Debug)]
pub(super) enum Failure {
    /// The file system said no.
    Io(io::Error),
    /// The file system cannot create a name only once.
    NoLinks(io::Error),
    /// The request itself is wrong.
    Refused(String),
}

impl Failure {
    pub(super) fn refused(reason: String) -> Failure {
        Failure::Refused(reason)
    }

    /// Of the link that creates a file only if there is none.
    pub(super) fn of_link(error: io::Error) -> Failure {
        // Linux answers EPERM where the file system has no hard links, and EACCES for permissions: one ErrorKind.
        let no_links = error.raw_os_error() == Some(EPERM) || error.kind() == ErrorKind::Unsupported;
        if no_links { Failure::NoLinks(error) } else { Failure::Io(error) }
    }

    pub(super) fn of(self, operation: &'static str, key: &str) -> StoreError {
        let key = key.to_owned();
        match self {
            Failure::Refused(reason) => {
                StoreError::Refused { operation, key, reason, hint: None, source: None }
            }
            Failure::NoLinks(error) => StoreError::Refused {
                operation,
                key,
                reason: "the file system has no hard links".to_owned(),
                hint: Some("put the lake on a local file system such as ext4 or xfs"),
                source: Some(Box::new(error)),
            },
            Failure::Io(error) => of_io(operation, key, error),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Io(error)
    }
}

fn of_io(operation: &'static str, key: String, error: io::Error) -> StoreError {
    let definite = |reason: &str, hint| (reason.to_owned(), Some(hint));
    let transient = |reason: &str| (reason.to_owned(), None);
    let (reason, hint): (String, Option<Option<&'static str>>) = match error.kind() {
        ErrorKind::StorageFull => transient("the disk is full"),
        ErrorKind::QuotaExceeded => transient("the disk quota is used up"),
        ErrorKind::NotFound => transient("a folder of the lake is gone"),
        ErrorKind::PermissionDenied => definite(
            "permission denied",
            Some("the user that runs tributary needs to read and write the lake's folder and all in it"),
        ),
        ErrorKind::ReadOnlyFilesystem => {
            definite("the file system is read-only", Some("mount it writable, or move the lake"))
        }
        ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::DirectoryNotEmpty => {
            definite("a file is in the way of a folder, or a folder in the way of a file", None)
        }
        ErrorKind::InvalidFilename
        | ErrorKind::InvalidInput
        | ErrorKind::FileTooLarge
        | ErrorKind::Unsupported => definite("the file system cannot do this", None),
        _ => transient("the file system answered with an error"),
    };
    let source: Option<Box<dyn std::error::Error + Send + Sync>> = Some(Box::new(error));
    match hint {
        Some(hint) => StoreError::Refused { operation, key, reason, hint, source },
        None => StoreError::Transient { operation, key, reason, source },
    }
}

/// "Operation not permitted", see errno(3).
const EPERM: i32 = 1;

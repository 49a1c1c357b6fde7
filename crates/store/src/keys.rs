//! Which keys a store accepts.
//!
//! Owns: the rules that keep a key inside the lake, whatever the store.
//! Does not: build keys.
//! Holds: an accepted key has no empty, `.` or `..` part, so that joined to a folder it stays in it.
//! Fails: `Refused`; such a key is a mistake of the caller.

use lake::store::StoreError;

/// Accepts the key of one object.
pub(crate) fn check_key(operation: &'static str, key: &str) -> Result<(), StoreError> {
    if is_clean(key) { Ok(()) } else { Err(unclean(operation, key)) }
}

/// Accepts the prefix of a listing: any beginning of a key, or nothing.
pub(crate) fn check_prefix(operation: &'static str, prefix: &str) -> Result<(), StoreError> {
    // The last part may be unfinished or empty; it only filters names.
    let folders = prefix.rsplit_once('/').map_or("", |(folders, _)| folders);
    let clean = folders.is_empty() || is_clean(folders);
    if clean && !prefix.starts_with('/') && !prefix.contains('\0') {
        Ok(())
    } else {
        Err(unclean(operation, prefix))
    }
}

/// Whether every part of the path is a plain name.
pub(crate) fn is_clean(path: &str) -> bool {
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\0', '\\']);
    path.len() <= KEY_BYTES_MAX && path.split('/').all(plain)
}

fn unclean(operation: &'static str, key: &str) -> StoreError {
    StoreError::Refused {
        operation,
        key: key.to_owned(),
        reason: "not a key of the lake (1 to 1024 bytes; parts between slashes that are neither empty, `.` nor `..`)"
            .to_owned(),
        hint: None,
        source: None,
    }
}

/// S3's limit; a directory keeps to it too, so that a lake can be copied to S3.
const KEY_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests;

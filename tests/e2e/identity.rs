//! Old rows, keys and unchanged TOAST by replica identity.
//!
//! Owns: default, full, index, nothing, changes between them, root and leaf different, keys out of line, row filters.
//! Does not: know these tables; `tests/oracle/identity.py` does.
//! Holds: a row can always be found by the key that the schema document names; no NULL is made up (T09 to T12, T24).
//! Fails: with the rows and cells that differ.

use anyhow::Result;

use crate::scene::{play, play_and_halt};

/// T24
#[test]
fn t24_identities_14() -> Result<()> {
    play(14, "identity.py", &["identity", "identity_root"], "text")
}

/// T12, T24
#[test]
fn t12_t24_identities_15() -> Result<()> {
    play(15, "identity.py", &["identity", "identity_root", "filtered"], "binary")
}

/// T12, T24
#[test]
fn t12_t24_identities_18() -> Result<()> {
    play(18, "identity.py", &["identity", "identity_root", "filtered"], "text")
}

/// T24: The stream does not say which row of the root was meant: nothing may be written that looks as if it did.
#[test]
fn t24_leaf_identified_by_other_columns() -> Result<()> {
    play_and_halt(18, "clash.py", "clash_root", "identifies its old rows by other columns")
}

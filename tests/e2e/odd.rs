//! Odd tables and names arrive as what they are.
//!
//! Owns: no columns and 1,600 of them, no key, every kind of name, partitions of partitions that differ from their root.
//! Does not: know these tables; `tests/oracle/odd.py` does.
//! Holds: no two names meet in the lake, and no name leaves it (T29, T47, T99).
//! Fails: with the rows and cells that differ.

use anyhow::Result;

use crate::scene::play;

/// T99
#[test]
fn t99_odd_tables_14_text() -> Result<()> {
    play(14, "odd.py", &["odd"], "text")
}

/// T99
#[test]
fn t99_odd_tables_17_via_root() -> Result<()> {
    play(17, "odd.py", &["odd_root"], "binary")
}

/// T99
#[test]
fn t99_odd_tables_18_binary() -> Result<()> {
    play(18, "odd.py", &["odd"], "binary")
}

//! Decoded messages to changes of parent tables to Arrow.
//!
//! Owns: which table a row belongs to ([`fold`]), which lake type a value has ([`types`], [`schema`]) and the
//! way from a cell's bytes into an Arrow column ([`batch`]); what rows are under another table's schema ([`adopt`]).
//! Does not: read sockets or catalogs, write files, wait, or know the time.
//! Holds: a value lands exactly, or its exact Postgres text lands beside it in `_cdc_raw`; nothing is
//! dropped, rounded or nulled in silence.
//! Fails: [`batch::CellError`] and the errors of [`fold`], which name what disagrees and never a row's value.

pub mod adopt;
pub mod batch;
mod binary;
pub mod change;
mod columns;
pub mod fold;
mod forms;
pub mod lineage;
pub mod relation;
pub mod schema;
mod text;
pub mod types;

pub use change::*;

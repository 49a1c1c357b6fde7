//! The less common types: the text that Postgres would have printed for their send form, and what is inside.
//!
//! Owns: a renderer `<type>(bytes, text)` a type, and a reader from text and from binary wherever the lake has more than text
//! for it. A family has a module.
//! Does not: choose the lake type (`types`), fill columns (`columns`), or read the everyday types (`text`, `binary`).
//! Holds: a rendered text is Postgres's own, byte for byte, and both readers of a type agree. Nothing here has a renderer
//! whose text needs more than the bytes: `regproc`, `regclass` and their kin (names), `pg_ndistinct`, `pg_dependencies`,
//! `pg_mcv_list` and the BRIN summaries (sent as opaque bytes); or that has no send form: `aclitem`, `gtsvector`, `isn`'s,
//! `seg`, `query_int`. These are asked for as text.
//! Fails: [`Malformed`](crate::text::Malformed). No announced count is believed before the bytes are there.

pub(crate) mod bits;
pub(crate) mod cube;
pub(crate) mod geometric;
pub(crate) mod hstore;
pub(crate) mod interval;
pub(crate) mod money;
pub(crate) mod network;
pub(crate) mod postgis;
pub(crate) mod quoting;
pub(crate) mod ranges;
pub(crate) mod records;
pub(crate) mod search;
pub(crate) mod system;
pub(crate) mod timetz;
pub(crate) mod vectors;
pub(crate) mod versioned;

#[cfg(test)]
mod tests;

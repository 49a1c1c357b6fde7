//! The less common types: the text that Postgres would have printed for their send form, and what is inside.
//!
//! Owns: for each type a renderer `<type>(bytes, text)`, and readers of its text and its send form where the lake may hold
//! more than text of it. Each family has a module.
//! Does not: choose lake types (`types`), fill columns (`columns`), or read the everyday types (`text`, `binary`). There is
//! no renderer where the bytes do not say the text: `regclass` and its kin have names; `pg_ndistinct`, `pg_dependencies`,
//! `pg_mcv_list` and the BRIN summaries are opaque. Nor where there is no send form: `aclitem`, `gtsvector`, `query_int`,
//! `seg`, those of `isn`, PostGIS's `box2d`, `box3d` and `spheroid`. These are asked for as text.
//! Holds: a rendered text is the server's own, byte for byte, and both readers of a type agree. Two bytes mean different
//! texts by version and are rendered as the newer one: an infinite interval (17) and a `"char"` from 0x80 on (15).
//! Fails: [`Malformed`](crate::text::Malformed); what was written until then is void. No announced count is believed
//! before the bytes are there.

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

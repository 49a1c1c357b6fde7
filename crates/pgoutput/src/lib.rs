//! The wire: bytes of Postgres logical replication in, messages out.
//!
//! Owns: the pgoutput message formats of protocol versions 1 to 4, the rows of a binary COPY, and [`Lsn`].
//! Does not: read sockets, know Arrow, or keep what a relation looked like before.
//! Holds: cells borrow from the frame; no announced length is trusted before the bytes are there.
//! Fails: [`DecodeError`] names the message and the field; nothing here panics on any input.
//!
//! The formats: <https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html>

pub mod copy;
pub mod decode;
#[cfg(feature = "encode")]
pub mod encode;
#[cfg(test)]
mod golden;
pub mod lsn;
pub mod message;
pub mod reader;

pub use copy::CopyError;
pub use decode::{Decoder, Options, Streamed};
#[cfg(feature = "encode")]
pub use encode::{TupleBuilder, encode};
pub use lsn::{Lsn, LsnRange};
pub use message::*;
pub use reader::{CellIter, DecodeError, Problem};

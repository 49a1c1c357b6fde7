//! What a backend says and hears, in bytes.
//!
//! Owns: framing, sign-in, and the extended and simple query flow.
//! Does not: know an answer (`catalog`), or stream (`walsender`).
//! Holds: nothing is sent but what Postgres would send then.
//! Fails: by ending the session.

use std::collections::BTreeMap;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};

use super::catalog::{self, Answer, Cell, Query};
use super::{Server, walsender};

/// What arrives on a connection.
pub(super) struct Incoming {
    io: ReadHalf<DuplexStream>,
    buffer: Vec<u8>,
}

/// A connection.
pub(super) struct Wire {
    pub(super) incoming: Incoming,
    pub(super) outgoing: WriteHalf<DuplexStream>,
}

impl Incoming {
    /// The next message; `None` at the end. Cancelled, it has lost nothing.
    pub(super) async fn message(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some(header) = self.buffer.first_chunk::<5>() {
                let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
                let end = usize::try_from(length).expect("small") + 1;
                if self.buffer.len() >= end {
                    let rest = self.buffer.split_off(end);
                    let message = std::mem::replace(&mut self.buffer, rest);
                    return Some((message[0], message[5..].to_vec()));
                }
            }
            match self.io.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The start-up packet has no type.
    async fn startup(&mut self) -> Option<BTreeMap<String, String>> {
        let length = usize::try_from(self.io.read_u32().await.ok()?).ok()?;
        let mut body = vec![0; length - 4];
        self.io.read_exact(&mut body).await.ok()?;
        // CancelRequest has another number, and no session behind it.
        let texts = body.strip_prefix(&[0, 3, 0, 0])?;
        let mut texts = texts.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
        let mut parameters = BTreeMap::new();
        while let (Some(name), Some(value)) = (texts.next(), texts.next()) {
            parameters.insert(name.to_lowercase(), value);
        }
        Some(parameters)
    }
}

impl Wire {
    async fn send(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let sent = self.outgoing.write_all(out).await;
        out.clear();
        sent.ok()
    }
}

/// Appends a message.
pub(super) fn put(out: &mut Vec<u8>, tag: u8, body: &[u8]) {
    out.push(tag);
    out.extend(u32::try_from(body.len() + 4).expect("small").to_be_bytes());
    out.extend(body);
}

/// Appends an error, and what tells that it is over.
pub(super) fn put_error(out: &mut Vec<u8>, severity: &str, code: &str, message: &str) {
    let body = format!("S{severity}\0V{severity}\0C{code}\0M{message}\0\0");
    put(out, b'E', body.as_bytes());
}

/// Serves one connection to its end.
pub(super) async fn serve(server: Server, io: DuplexStream) -> Option<()> {
    let (io, outgoing) = tokio::io::split(io);
    let mut wire = Wire { incoming: Incoming { io, buffer: Vec::new() }, outgoing };
    let parameters = wire.incoming.startup().await?;
    let mut out = Vec::new();
    put(&mut out, b'R', &0_u32.to_be_bytes());
    for (name, value) in [("server_encoding", "UTF8"), ("client_encoding", "UTF8")] {
        put(&mut out, b'S', format!("{name}\0{value}\0").as_bytes());
    }
    put(&mut out, b'K', &[0, 0, 0, 7, 0, 0, 0, 9]);
    put(&mut out, b'Z', b"I");
    wire.send(&mut out).await?;
    let mut statements: BTreeMap<String, Query> = BTreeMap::new();
    let mut portal: Option<(Query, Vec<Option<Vec<u8>>>)> = None;
    loop {
        let (tag, body) = wire.incoming.message().await?;
        match tag {
            b'Q' => {
                let sql = text(&body, 0).0;
                server.think().await;
                if let Some(start) = sql.strip_prefix("START_REPLICATION ") {
                    match walsender::start(&server, start) {
                        Ok(stream) => return stream.run(wire).await,
                        Err((code, message)) => put_error(&mut out, "ERROR", code, &message),
                    }
                } else {
                    simple(&server, &parameters, &sql, &mut out);
                }
                put(&mut out, b'Z', b"I");
                wire.send(&mut out).await?;
            }
            b'P' => {
                let (name, at) = text(&body, 0);
                let (sql, _) = text(&body, at);
                statements.insert(name, Query::of(&sql));
                put(&mut out, b'1', &[]);
            }
            b'D' => {
                let (name, _) = text(&body, 1);
                let query = &statements[&name];
                put(&mut out, b't', &query.parameters());
                put(&mut out, b'T', &query.description());
            }
            b'B' => {
                let (_, at) = text(&body, 0);
                let (name, at) = text(&body, at);
                portal = Some((statements[&name].clone(), parameters_of(&body[at..])));
                put(&mut out, b'2', &[]);
            }
            b'E' => {
                server.think().await;
                let (query, parameters) = portal.take().expect("a portal");
                put_rows(&mut out, &catalog::answer(&server, &query, &parameters));
            }
            b'C' => put(&mut out, b'3', &[]),
            b'S' => {
                put(&mut out, b'Z', b"I");
                wire.send(&mut out).await?;
            }
            b'X' => return None,
            b'H' => wire.send(&mut out).await?,
            tag => panic!("the client sent a message of type {}", char::from(tag)),
        }
    }
}

/// Commands and queries without parameters; rows are text.
fn simple(server: &Server, parameters: &BTreeMap<String, String>, sql: &str, out: &mut Vec<u8>) {
    match catalog::command(server, parameters, sql) {
        Ok(rows) => {
            for row in rows {
                put(out, b'D', &row_of(&row));
            }
            put(out, b'C', b"OK\0");
        }
        Err((code, message)) => put_error(out, "ERROR", code, &message),
    }
}

fn put_rows(out: &mut Vec<u8>, answer: &Answer) {
    for row in answer {
        put(out, b'D', &row_of(row));
    }
    put(out, b'C', format!("SELECT {}\0", answer.len()).as_bytes());
}

fn row_of(cells: &[Cell]) -> Vec<u8> {
    let mut body = u16::try_from(cells.len()).expect("few").to_be_bytes().to_vec();
    for cell in cells {
        match cell {
            None => body.extend((-1_i32).to_be_bytes()),
            Some(bytes) => {
                body.extend(u32::try_from(bytes.len()).expect("small").to_be_bytes());
                body.extend(bytes);
            }
        }
    }
    body
}

/// A text that ends in a zero, and where the next thing begins.
fn text(body: &[u8], from: usize) -> (String, usize) {
    let end = body[from..].iter().position(|byte| *byte == 0).expect("a zero") + from;
    (String::from_utf8(body[from..end].to_vec()).expect("UTF-8"), end + 1)
}

/// The values of a Bind, all of them binary.
fn parameters_of(body: &[u8]) -> Vec<Option<Vec<u8>>> {
    let number = |at: usize| usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
    let mut at = 2 + 2 * number(0);
    let count = number(at);
    at += 2;
    let mut values = Vec::new();
    for _ in 0..count {
        let length = i32::from_be_bytes(*body[at..].first_chunk().expect("a length"));
        at += 4;
        let length = usize::try_from(length).ok();
        values.push(length.map(|length| body[at..at + length].to_vec()));
        at += length.unwrap_or(0);
    }
    values
}

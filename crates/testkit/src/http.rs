//! A minimal HTTP client for loopback.
//!
//! Owns: one request and its reply.
//! Does not: sign, redirect, or keep connections.
//! Holds: five seconds at most for each read and write.
//! Fails: when nobody answers, or the reply cannot be read.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// A reply.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One request; blocks.
pub fn request(method: &str, port: u16, path: &str) -> Result<Reply> {
    send(method, port, path, &[])
}

/// One request with a body; blocks.
pub fn send(method: &str, port: u16, path: &str, body: &[u8]) -> Result<Reply> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(body)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse(&bytes).with_context(|| format!("{method} {path}"))
}

/// GET without blocking the test's other tasks.
pub async fn get(port: u16, path: &str) -> Result<Reply> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || request("GET", port, &path)).await?
}

fn parse(bytes: &[u8]) -> Result<Reply> {
    let end =
        bytes.windows(4).position(|four| four == b"\r\n\r\n").context("a reply without end of its head")?;
    let (head, rest) = bytes.split_at(end);
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let status =
        head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("a reply without status")?;
    let body = rest.get(4..).unwrap_or_default();
    let chunked = head.lines().any(|line| line.starts_with("transfer-encoding:") && line.contains("chunked"));
    Ok(Reply { status, body: if chunked { dechunk(body)? } else { body.to_vec() } })
}

fn dechunk(mut bytes: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") else {
            bail!("a chunk without size")
        };
        let (size, rest) = bytes.split_at(end);
        let size =
            usize::from_str_radix(String::from_utf8_lossy(size).trim(), 16).context("a chunk's size")?;
        if size == 0 {
            return Ok(body);
        }
        let rest = rest.get(2..).unwrap_or_default();
        let Some((chunk, rest)) = rest.split_at_checked(size) else { bail!("a chunk that ends early") };
        body.extend_from_slice(chunk);
        bytes = rest.get(2..).unwrap_or_default();
    }
}

const LIMIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;

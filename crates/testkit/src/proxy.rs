//! A faulty wire: a TCP proxy on loopback whose behaviour a test changes while connections run through it.
//!
//! Owns: its listening port, its connections, and a thread of its own, so that a busy test does not slow the wire.
//! Does not: understand what it carries.
//! Holds: one behaviour at a time, for old and new connections alike.
//! Fails: a connection whose target does not answer is closed.

use std::net::Ipv4Addr;
use std::thread;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the wire does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Carries everything.
    Works,
    /// Connections are cut, and new ones closed at once: the server is down.
    Cut,
    /// Nothing moves, and nothing is closed: a host that went silent.
    Silent,
    /// Requests arrive, replies do not: the outcome of every request is unknown.
    LosesReplies,
}

/// The proxy; it ends when this is dropped.
#[derive(Debug)]
pub struct Proxy {
    /// The port to connect to.
    pub port: u16,
    wire: watch::Sender<Wire>,
}

impl Proxy {
    /// One that forwards to a loopback port.
    pub fn start(target: u16) -> Result<Proxy> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let (wire, behaviour) = watch::channel(Wire::Works);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new()
            .name("proxy".to_owned())
            .spawn(move || runtime.block_on(accept(listener, target, behaviour)))
            .context("a thread")?;
        Ok(Proxy { port, wire })
    }

    /// Changes what the wire does.
    pub fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }
}

async fn accept(
    listener: std::net::TcpListener,
    target: u16,
    behaviour: watch::Receiver<Wire>,
) -> Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut ended = behaviour.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (client, _) = accepted?;
                tokio::spawn(carry(client, target, behaviour.clone()));
            }
            // The proxy was dropped: the runtime goes, and with it every connection.
            closed = ended.changed() => if closed.is_err() { return Ok(()) },
        }
    }
}

async fn carry(mut client: TcpStream, target: u16, mut behaviour: watch::Receiver<Wire>) -> Result<()> {
    if *behaviour.borrow() == Wire::Cut {
        return Ok(());
    }
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut up, mut down) = (vec![0; BUFFER], vec![0; BUFFER]);
    loop {
        let wire = *behaviour.borrow_and_update();
        if wire == Wire::Cut {
            return Ok(());
        }
        let moves = wire != Wire::Silent;
        tokio::select! {
            changed = behaviour.changed() => changed?,
            read = client.read(&mut up), if moves => match up.get(..read?) {
                Some([]) | None => return Ok(()),
                Some(bytes) => server.write_all(bytes).await?,
            },
            read = server.read(&mut down), if moves => match down.get(..read?) {
                Some([]) | None => return Ok(()),
                Some(_) if wire == Wire::LosesReplies => return Ok(()),
                Some(bytes) => client.write_all(bytes).await?,
            },
        }
    }
}

const BUFFER: usize = 64 * 1024;

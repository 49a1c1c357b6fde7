//! A faulty wire: a TCP proxy on loopback whose behaviour a test changes while connections run through it.
//!
//! Owns: its listening port, its connections, and a thread of its own, so that a busy test does not slow the wire.
//! Does not: understand what it carries.
//! Holds: one behaviour at a time, for old and new connections alike.
//! Fails: a connection whose target does not answer is closed.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

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
    /// Carries that many bytes more, both ways and all connections together. Then all are reset, and the wire works.
    BreaksAfter(u64),
    /// Carries at most that many bytes a second, both ways of a connection together.
    Slow(u64),
}

/// The proxy; it ends when this is dropped.
#[derive(Debug)]
pub struct Proxy {
    /// The port to connect to.
    pub port: u16,
    state: Arc<watch::Sender<State>>,
    carried: Arc<AtomicU64>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    wire: Wire,
    /// How often all connections were reset.
    resets: u64,
    /// When `carried` says so, the wire breaks.
    breaks_at: u64,
}

impl Proxy {
    /// One that forwards to a loopback port.
    pub fn start(target: u16) -> Result<Proxy> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let (state, seen) = watch::channel(State { wire: Wire::Works, resets: 0, breaks_at: 0 });
        let (state, carried) = (Arc::new(state), Arc::new(AtomicU64::new(0)));
        let line = Line { target, seen, state: Arc::downgrade(&state), carried: Arc::clone(&carried) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new()
            .name("proxy".to_owned())
            .spawn(move || runtime.block_on(accept(listener, line)))
            .context("a thread")?;
        Ok(Proxy { port, state, carried })
    }

    /// Changes what the wire does.
    pub fn set(&self, wire: Wire) {
        self.state.send_modify(|state| {
            state.wire = wire;
            if let Wire::BreaksAfter(bytes) = wire {
                state.breaks_at = self.carried() + bytes;
            }
        });
    }

    /// What the wire does; one that broke works.
    pub fn wire(&self) -> Wire {
        self.state.borrow().wire
    }

    /// Resets all connections. New ones are as they were.
    pub fn reset(&self) {
        self.state.send_modify(|state| state.resets += 1);
    }

    /// How many bytes it has carried.
    pub fn carried(&self) -> u64 {
        self.carried.load(Ordering::SeqCst)
    }
}

/// What a connection needs to know.
#[derive(Clone)]
struct Line {
    target: u16,
    seen: watch::Receiver<State>,
    /// To break the wire. Only the proxy itself keeps it.
    state: Weak<watch::Sender<State>>,
    carried: Arc<AtomicU64>,
}

async fn accept(listener: std::net::TcpListener, line: Line) -> Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut ended = line.seen.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (client, _) = accepted?;
                tokio::spawn(line.clone().carry(client));
            }
            // The proxy was dropped: the runtime goes, and with it every connection.
            closed = ended.changed() => if closed.is_err() { return Ok(()) },
        }
    }
}

impl Line {
    async fn carry(mut self, mut client: TcpStream) -> Result<()> {
        let State { wire, resets, .. } = *self.seen.borrow_and_update();
        if wire == Wire::Cut {
            return Ok(());
        }
        let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, self.target)).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (mut up, mut down) = (vec![0; BUFFER], vec![0; BUFFER]);
        loop {
            let state = *self.seen.borrow_and_update();
            if state.resets != resets {
                client.set_zero_linger()?;
                server.set_zero_linger()?;
                return Ok(());
            }
            let room = match state.wire {
                Wire::Cut => return Ok(()),
                Wire::Slow(rate) => usize::try_from(rate / STEPS_A_SECOND)?.clamp(1, BUFFER),
                _ => BUFFER,
            };
            let moves = state.wire != Wire::Silent;
            let forwarded = tokio::select! {
                changed = self.seen.changed() => { changed?; continue },
                read = client.read(up.get_mut(..room).unwrap_or_default()), if moves => match up.get(..read?) {
                    Some([]) | None => return Ok(()),
                    Some(bytes) => self.forward(state, bytes, &mut server).await,
                },
                read = server.read(down.get_mut(..room).unwrap_or_default()), if moves => match down.get(..read?) {
                    Some([]) | None => return Ok(()),
                    Some(_) if state.wire == Wire::LosesReplies => return Ok(()),
                    Some(bytes) => self.forward(state, bytes, &mut client).await,
                },
            };
            forwarded?;
            if let Wire::Slow(_) = state.wire {
                tokio::time::sleep(Duration::from_millis(1000 / STEPS_A_SECOND)).await;
            }
        }
    }

    async fn forward(&self, state: State, bytes: &[u8], to: &mut TcpStream) -> Result<()> {
        let length = u64::try_from(bytes.len())?;
        let before = self.carried.fetch_add(length, Ordering::SeqCst);
        let Wire::BreaksAfter(_) = state.wire else { return Ok(to.write_all(bytes).await?) };
        let left = state.breaks_at.saturating_sub(before);
        if left > length {
            return Ok(to.write_all(bytes).await?);
        }
        to.write_all(bytes.get(..usize::try_from(left)?).unwrap_or_default()).await?;
        // What is written has to arrive before the reset takes it away.
        tokio::time::sleep(ARRIVAL).await;
        if let Some(sender) = self.state.upgrade() {
            sender.send_if_modified(|now| {
                let breaks = now.wire == state.wire && now.breaks_at == state.breaks_at;
                if breaks {
                    now.wire = Wire::Works;
                    now.resets += 1;
                }
                breaks
            });
        }
        Ok(())
    }
}

const BUFFER: usize = 64 * 1024;
const STEPS_A_SECOND: u64 = 20;
const ARRIVAL: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests;

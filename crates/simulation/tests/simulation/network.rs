//! The wires to Postgres.
//!
//! Owns: every connection between a daemon and the server, and how it ends.
//! Does not: look into what it carries.
//! Holds: bytes arrive in order, in pieces of any size, or not at all.
//! Fails: a wire breaks after any number of bytes, is cut, or carries nothing any more while neither end is told.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::postgres::Server;
use crate::random::Random;
use crate::seen;
use crate::trace::Trace;
use crate::watched;

/// All wires.
#[derive(Clone)]
pub(crate) struct Network {
    server: Server,
    random: Arc<Mutex<Random>>,
    state: watch::Sender<State>,
    trace: Trace,
}

/// What concerns wires that are open.
#[derive(Clone, Debug, Default)]
struct State {
    /// Nobody listens before this.
    down_until: Option<Instant>,
    /// Counts the times that every wire was cut.
    cuts: u64,
    /// By host, until when it is on no network.
    frozen: BTreeMap<String, Instant>,
    /// Wires break by themselves, in percent.
    breaks: u64,
}

impl Network {
    pub(crate) fn new(server: Server, random: Random, trace: Trace) -> Network {
        Network {
            server,
            random: Arc::new(Mutex::new(random)),
            state: watch::Sender::new(State::default()),
            trace,
        }
    }

    pub(crate) fn set_breaks(&self, percent: u64) {
        self.state.send_modify(|state| state.breaks = percent);
    }

    /// Cuts every wire; nobody is let in for a while.
    pub(crate) fn cut(&self, down_until: Instant) {
        self.state.send_modify(|state| {
            state.cuts += 1;
            state.down_until = Some(down_until);
        });
    }

    /// The server forgets a host, which does not notice.
    pub(crate) fn freeze(&self, host: &str, until: Instant) {
        self.state.send_modify(|state| {
            state.frozen.insert(host.to_owned(), until);
        });
    }

    fn random(&self) -> MutexGuard<'_, Random> {
        self.random.lock().expect("no panic before")
    }

    /// A new wire of a host.
    pub(crate) fn connect(&self, host: &str) -> io::Result<DuplexStream> {
        let now = Instant::now();
        let state = self.state.borrow().clone();
        let (near, client) = tokio::io::duplex(self.random().index(8_000) + 512);
        if let Some(until) = state.frozen.get(host).filter(|until| **until > now) {
            watched(hold(near, *until));
            return Ok(client);
        }
        if state.down_until.is_some_and(|until| until > now) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (far, end) = tokio::io::duplex(self.random().index(8_000) + 512);
        watched(self.server.clone().serve(end));
        let breaks_after = {
            let mut random = self.random();
            random.chance(state.breaks).then(|| random.index(30_000))
        };
        watched(self.clone().carry(host.to_owned(), near, far, breaks_after));
        Ok(client)
    }

    async fn carry(self, host: String, near: DuplexStream, far: DuplexStream, breaks_after: Option<usize>) {
        let mut state = self.state.subscribe();
        let cuts = state.borrow_and_update().cuts;
        let (near_in, near_out) = tokio::io::split(near);
        let (far_in, far_out) = tokio::io::split(far);
        let frozen = async {
            loop {
                {
                    let now = state.borrow_and_update();
                    if now.cuts != cuts {
                        return None;
                    }
                    if let Some(until) = now.frozen.get(&host).filter(|until| **until > Instant::now()) {
                        return Some(*until);
                    }
                }
                if state.changed().await.is_err() {
                    return None;
                }
            }
        };
        let (mut near_in, mut near_out) = (near_in, near_out);
        let until = tokio::select! {
            biased;
            until = frozen => until,
            () = copy(&mut near_in, far_out, None) => None,
            () = copy_to(far_in, &mut near_out, breaks_after) => {
                if let Some(bytes) = breaks_after {
                    seen::note("a wire broke by itself");
                    self.trace.say(format!("network: a wire of {host} ends, perhaps after {bytes} bytes"));
                }
                None
            }
        };
        // The server's end is gone by now.
        if let Some(until) = until {
            tokio::time::sleep_until(until).await;
        }
    }
}

async fn hold(io: DuplexStream, until: Instant) {
    tokio::time::sleep_until(until).await;
    drop(io);
}

async fn copy(from: &mut ReadHalf<DuplexStream>, mut to: WriteHalf<DuplexStream>, limit: Option<usize>) {
    carry_on(from, &mut to, limit).await;
}

async fn copy_to(mut from: ReadHalf<DuplexStream>, to: &mut WriteHalf<DuplexStream>, limit: Option<usize>) {
    carry_on(&mut from, to, limit).await;
}

async fn carry_on(from: &mut ReadHalf<DuplexStream>, to: &mut WriteHalf<DuplexStream>, limit: Option<usize>) {
    let mut left = limit.unwrap_or(usize::MAX);
    let mut buffer = vec![0; 4_096];
    while left > 0 {
        let Ok(read) = from.read(&mut buffer).await else { return };
        if read == 0 {
            return;
        }
        let carried = read.min(left);
        left -= carried;
        if to.write_all(&buffer[..carried]).await.is_err() {
            return;
        }
    }
}

//! What systemd is told: that the daemon is ready, how it goes, that its loop lives, and that it ends (`sd_notify(3)`).
//!
//! Owns: the socket that `NOTIFY_SOCKET` names, and when a message is due.
//! Does not: know whether the loop lives; it passes on what `pulse` has.
//! Holds: without `NOTIFY_SOCKET` there is nobody to tell. No message is waited for, and none holds a row's value or a secret.
//! Fails: never; a socket that cannot be used is a warning, and what could not be said is said again.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracing::warn;

use crate::pipeline::stopped;
use crate::status::{Brief, Shared};

/// Whoever started us and listens.
#[derive(Clone, Debug)]
pub struct Supervisor {
    socket: Arc<UnixDatagram>,
    address: SocketAddr,
    /// We are ended if we say nothing for so long.
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// The one that the environment names.
    pub fn from_environment() -> Option<Supervisor> {
        let address = std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty())?;
        let watchdog = watchdog(|name| std::env::var(name).ok(), std::process::id());
        Supervisor::at(&address, watchdog)
            .inspect_err(
                |error| warn!(%error, ?address, "NOTIFY_SOCKET cannot be used, so systemd is told nothing"),
            )
            .ok()
    }

    /// A path, or `@` and the name of an abstract socket.
    fn at(address: &OsStr, watchdog: Option<Duration>) -> io::Result<Supervisor> {
        let address = match address.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(address)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Supervisor { socket: Arc::new(socket), address, watchdog })
    }

    /// Tells how the daemon is until it ends.
    pub async fn follow(self, shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
        let mut news = News::new(self.watchdog.is_some());
        // Four chances to be heard in time.
        let often = self.watchdog.map_or(LOOK, |limit| (limit / 4).clamp(LOOK_MIN, LOOK));
        let mut looks = tokio::time::interval(often);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_stopping = tokio::select! {
                _ = looks.tick() => *stop.borrow(),
                () = stopped(&mut stop), if !news.said.stopping => true,
            };
            let now = Now {
                ready: shared.is_ready(),
                stopping: is_stopping,
                beat: shared.pulse().last(),
                brief: shared.brief(),
            };
            let (message, then) = news.since(now);
            if message.is_empty() || self.send(&message) {
                news = then;
            }
        }
    }

    /// The last words: why it ended.
    pub fn ended(&self, why: &str) {
        self.send(&format!("STATUS={}\n", one_line(why)));
    }

    fn send(&self, message: &str) -> bool {
        self.socket.send_to_addr(message.as_bytes(), &self.address).is_ok()
    }
}

/// `WATCHDOG_USEC`, if it is meant for us.
fn watchdog(variable: impl Fn(&str) -> Option<String>, own: u32) -> Option<Duration> {
    if variable("WATCHDOG_PID").is_some_and(|pid| pid.parse() != Ok(own)) {
        return None;
    }
    let micros: u64 = variable("WATCHDOG_USEC")?.parse().ok()?;
    (micros > 0).then(|| Duration::from_micros(micros))
}

/// How the daemon is.
struct Now {
    ready: bool,
    stopping: bool,
    beat: Duration,
    brief: Brief,
}

/// What was said, and what is worth another message.
#[derive(Clone, Debug)]
struct News {
    begun: Instant,
    has_watchdog: bool,
    said: Said,
}

#[derive(Clone, Debug, Default)]
struct Said {
    ready: bool,
    stopping: bool,
    beat: Option<Duration>,
    status: String,
    status_at: Option<Instant>,
}

impl News {
    fn new(has_watchdog: bool) -> News {
        News { begun: Instant::now(), has_watchdog, said: Said::default() }
    }

    /// The message that is due, and what was said once it is sent.
    fn since(&self, now: Now) -> (String, News) {
        let mut message = String::new();
        let mut said = self.said.clone();
        // Who waits for Postgres, the store or the slot has started, and says in its status what it waits for.
        if !said.ready && (now.ready || self.begun.elapsed() >= START) {
            said.ready = true;
            message.push_str("READY=1\n");
        }
        if !said.stopping && now.stopping {
            said.stopping = true;
            message.push_str("STOPPING=1\n");
        }
        if self.has_watchdog && said.beat != Some(now.beat) {
            said.beat = Some(now.beat);
            message.push_str("WATCHDOG=1\n");
        }
        let status = one_line(&now.brief.to_string());
        let is_due = said.status_at.is_none_or(|at| at.elapsed() >= STATUS) || said.ready != self.said.ready;
        if status != said.status && (is_due || now.stopping) {
            message.push_str(&format!("STATUS={status}\n"));
            said.status = status;
            said.status_at = Some(Instant::now());
        }
        (message, News { said, begun: self.begun, has_watchdog: self.has_watchdog })
    }
}

/// A message is lines of `NAME=text`.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// A start that takes longer waits for somebody else: `systemctl start` goes on, and so does the machine's.
const START: Duration = Duration::from_secs(30);
/// How often is looked.
const LOOK: Duration = Duration::from_secs(1);
/// And at least between two looks.
const LOOK_MIN: Duration = Duration::from_millis(50);
/// How often the line of `systemctl status` may change.
const STATUS: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;

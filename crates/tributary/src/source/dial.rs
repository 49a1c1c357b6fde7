//! The connection under a session: TCP, TLS over TCP, or a Unix socket.
//!
//! Owns: [`Io`], the order in which TLS and plain text are tried, and the kernel settings of a socket.
//! Does not: sign in (`startup`), or check certificates (`tls`).
//! Holds: nothing is sent in plain text that `sslmode` wants encrypted.
//! Fails: transient when the server cannot be reached, [`crate::error::Kind::Config`] when it has no TLS though it must.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use pgwire_replication::protocol::framing;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio_rustls::client::TlsStream;

use super::options::{ConnectOptions, Host, Keepalive, SslMode};
use super::socket::Socket;
use super::{connect, tls};
use crate::error::{Error, Result};

/// An open connection.
#[derive(Debug)]
pub(super) enum Io {
    Tcp(Socket),
    Tls(Box<TlsStream<Socket>>),
    Unix(Socket<UnixStream>),
    /// To a server in this process.
    #[cfg(feature = "simulation")]
    Simulated(tokio::io::DuplexStream),
}

impl Io {
    /// Has a peer nearby join what it sends while nobody reads. Only TCP does so.
    pub(super) fn limit_arrivals(&mut self) -> io::Result<()> {
        self.tcp().map_or(Ok(()), |socket| socket.limit_arrivals())
    }

    /// The peer was asked something, and has answered.
    pub(super) fn answered_within(&mut self, elapsed: Duration) {
        self.tcp().into_iter().for_each(|socket| socket.answered_within(elapsed));
    }

    /// Until somebody waits for it, nothing that arrives wakes anybody up.
    pub(super) fn deafen(&mut self) -> io::Result<()> {
        match self {
            Io::Unix(socket) => socket.deafen(),
            tcp => tcp.tcp().map_or(Ok(()), Socket::deafen),
        }
    }

    /// Appends what has arrived, without waiting and without being woken for what comes; `None` if there is nothing.
    pub(super) fn read_arrived(&mut self, buffer: &mut Vec<u8>) -> Option<io::Result<usize>> {
        self.set_waits(false);
        let read = self.read_buf(buffer).now_or_never();
        self.set_waits(true);
        read
    }

    fn set_waits(&mut self, waits: bool) {
        match self {
            Io::Unix(socket) => socket.set_waits(waits),
            tcp => tcp.tcp().into_iter().for_each(|socket| socket.set_waits(waits)),
        }
    }

    fn tcp(&mut self) -> Option<&mut Socket> {
        match self {
            Io::Tcp(socket) => Some(socket),
            Io::Tls(stream) => Some(stream.get_mut().0),
            Io::Unix(_) => None,
            #[cfg(feature = "simulation")]
            Io::Simulated(_) => None,
        }
    }

    /// The certificate hash for SCRAM's channel binding, if there is a certificate.
    pub(super) fn end_point(&self) -> Option<Vec<u8>> {
        match self {
            Io::Tls(stream) => tls::end_point(stream),
            Io::Tcp(_) | Io::Unix(_) => None,
            #[cfg(feature = "simulation")]
            Io::Simulated(_) => None,
        }
    }

    pub(super) fn is_unix(&self) -> bool {
        matches!(self, Io::Unix(_))
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Io::Tls(_))
    }
}

/// One way to open a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// No TLS.
    Plain,
    /// TLS, or plain text if the server has none.
    PreferTls,
    /// TLS or nothing.
    Tls,
}

/// What to try, in order. The next one is tried only after [`may_fall_back`].
pub(super) fn attempts(options: &ConnectOptions) -> &'static [Attempt] {
    match (&options.host, options.sslmode) {
        // libpq ignores sslmode there.
        (Host::Unix(_), _) | (_, SslMode::Disable) => &[Attempt::Plain],
        (_, SslMode::Allow) => &[Attempt::Plain, Attempt::Tls],
        (_, SslMode::Prefer) => &[Attempt::PreferTls, Attempt::Plain],
        (_, SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull) => &[Attempt::Tls],
    }
}

/// Opens a connection in one way.
pub(super) async fn dial(options: &ConnectOptions, attempt: Attempt) -> Result<Io> {
    #[cfg(feature = "simulation")]
    if let Some(connected) = simulated::connect(&options.host) {
        let unreachable =
            |error| Error::transient(format!("connection to {}", options.address())).caused_by(error);
        return connected.map(Io::Simulated).map_err(unreachable);
    }
    match &options.host {
        Host::Unix(directory) => {
            let path = directory.join(format!(".s.PGSQL.{}", options.port));
            let stream = UnixStream::connect(&path)
                .await
                .map_err(|error| Error::transient(format!("socket {}", path.display())).caused_by(error))?;
            Ok(Io::Unix(Socket::new(stream)))
        }
        Host::Tcp(host) => {
            let unreachable = |error: io::Error| {
                Error::transient(format!("connection to {}", options.address())).caused_by(error)
            };
            let tcp = connect_to(host, options.port).await.map_err(unreachable)?;
            tcp.configure(|socket| configure(&socket, &options.keepalive)).map_err(unreachable)?;
            match attempt {
                Attempt::Plain => Ok(Io::Tcp(tcp)),
                Attempt::PreferTls | Attempt::Tls => negotiate(tcp, host, options, attempt).await,
            }
        }
    }
}

/// Asks the server for TLS: <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL>
async fn negotiate(mut tcp: Socket, host: &str, options: &ConnectOptions, attempt: Attempt) -> Result<Io> {
    connect::install_crypto();
    let broken = || format!("TLS request to {}", options.address());
    framing::write_ssl_request(&mut tcp)
        .await
        .map_err(|error| Error::transient(broken()).caused_by(error))?;
    // One byte and not one more: what comes after it must be inside TLS.
    let answer = tcp.read_u8().await.map_err(|error| Error::transient(broken()).caused_by(error))?;
    match (answer, attempt) {
        (b'S', _) => Ok(Io::Tls(Box::new(tls::handshake(tcp, host, options).await?))),
        (b'N', Attempt::PreferTls) => Ok(Io::Tcp(tcp)),
        (b'N', _) => Err(Error::config(format!("{} has no TLS, and sslmode asks for it", options.address()))),
        // The server could not even start a process for us.
        _ => Err(Error::transient(broken()).caused_by("the server answered neither yes nor no")),
    }
}

/// The first address of the host that answers.
async fn connect_to(host: &str, port: u16) -> io::Result<Socket> {
    let mut refused = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in tokio::net::lookup_host((host, port)).await? {
        match Socket::connect(address).await {
            Ok(socket) => return Ok(socket),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

fn configure(socket: &SockRef<'_>, keepalive: &Keepalive) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    if keepalive.enabled {
        let probes = TcpKeepalive::new()
            .with_time(keepalive.idle)
            .with_interval(keepalive.interval)
            .with_retries(keepalive.count);
        socket.set_tcp_keepalive(&probes)?;
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(keepalive.user_timeout)?;
    Ok(())
}

/// Another network than this machine's, for the tasks of one thread.
#[cfg(feature = "simulation")]
pub mod simulated {
    use std::cell::RefCell;
    use std::io;
    use std::rc::Rc;

    use tokio::io::DuplexStream;

    use super::Host;

    /// Who answers at a host, by its name.
    pub type Network = Rc<dyn Fn(&str) -> io::Result<DuplexStream>>;

    thread_local! {
        static NETWORK: RefCell<Option<Network>> = const { RefCell::new(None) };
    }

    /// Every connection of this thread goes there from here on; over the machine's network again with `None`.
    pub fn enter(network: Option<Network>) {
        NETWORK.with_borrow_mut(|entered| *entered = network);
    }

    pub(super) fn connect(host: &Host) -> Option<io::Result<DuplexStream>> {
        let Host::Tcp(name) = host else { return None };
        NETWORK.with_borrow(Option::clone).map(|network| network(name))
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            #[cfg(feature = "simulation")]
            Io::Simulated(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Io::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Io::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Io::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            #[cfg(feature = "simulation")]
            Io::Simulated(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Io::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Io::Unix(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(feature = "simulation")]
            Io::Simulated(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(feature = "simulation")]
            Io::Simulated(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

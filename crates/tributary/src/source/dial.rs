//! The connection under a session: TCP, TLS over TCP, or a Unix socket.
//!
//! Owns: [`Io`], the order in which TLS and plain text are tried, and the kernel settings of a socket.
//! Does not: sign in (`startup`), or check certificates (`tls`).
//! Holds: nothing is sent in plain text that `sslmode` wants encrypted.
//! Fails: transient when the server cannot be reached, [`crate::error::Kind::Config`] when it has no TLS though it must.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use pgwire_replication::protocol::framing;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use super::options::{ConnectOptions, Host, Keepalive, SslMode};
use super::{connect, tls};
use crate::error::{Error, Result};

/// An open connection.
#[derive(Debug)]
pub(super) enum Io {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
    /// To a server in this process.
    #[cfg(feature = "simulation")]
    Simulated(tokio::io::DuplexStream),
    /// TCP that nobody is told of what arrives on it; it can neither be read nor written.
    Deaf(std::net::TcpStream),
    /// Of a change from one to the other that failed.
    Lost,
}

impl Io {
    /// Until it is read or written next, nothing that arrives wakes anybody up. Only plain TCP can do so.
    pub(super) fn deafen(&mut self) -> io::Result<()> {
        if let Io::Tcp(_) = self
            && let Io::Tcp(stream) = std::mem::replace(self, Io::Lost)
        {
            *self = Io::Deaf(stream.into_std()?);
        }
        Ok(())
    }

    /// Ends that.
    pub(super) fn listen(&mut self) -> io::Result<()> {
        if let Io::Deaf(_) = self
            && let Io::Deaf(stream) = std::mem::replace(self, Io::Lost)
        {
            *self = Io::Tcp(TcpStream::from_std(stream)?);
        }
        Ok(())
    }

    /// The certificate hash for SCRAM's channel binding, if there is a certificate.
    pub(super) fn end_point(&self) -> Option<Vec<u8>> {
        match self {
            Io::Tls(stream) => tls::end_point(stream),
            Io::Tcp(_) | Io::Unix(_) | Io::Deaf(_) | Io::Lost => None,
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
            Ok(Io::Unix(stream))
        }
        Host::Tcp(host) => {
            let unreachable = |error: io::Error| {
                Error::transient(format!("connection to {}", options.address())).caused_by(error)
            };
            let tcp = TcpStream::connect((host.as_str(), options.port)).await.map_err(unreachable)?;
            tcp.set_nodelay(true).map_err(unreachable)?;
            configure(&tcp, &options.keepalive).map_err(unreachable)?;
            match attempt {
                Attempt::Plain => Ok(Io::Tcp(tcp)),
                Attempt::PreferTls | Attempt::Tls => negotiate(tcp, host, options, attempt).await,
            }
        }
    }
}

/// Asks the server for TLS: <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL>
async fn negotiate(mut tcp: TcpStream, host: &str, options: &ConnectOptions, attempt: Attempt) -> Result<Io> {
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

fn configure(tcp: &TcpStream, keepalive: &Keepalive) -> io::Result<()> {
    let socket = SockRef::from(tcp);
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

fn deaf() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the connection is not listened to")
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            #[cfg(feature = "simulation")]
            Io::Simulated(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::Deaf(_) | Io::Lost => Poll::Ready(Err(deaf())),
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
            Io::Deaf(_) | Io::Lost => Poll::Ready(Err(deaf())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Io::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Io::Unix(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(feature = "simulation")]
            Io::Simulated(stream) => Pin::new(stream).poll_flush(cx),
            Io::Deaf(_) | Io::Lost => Poll::Ready(Err(deaf())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(feature = "simulation")]
            Io::Simulated(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Deaf(_) | Io::Lost => Poll::Ready(Err(deaf())),
        }
    }
}

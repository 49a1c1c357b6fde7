//! A connection that need not be told of everything that arrives on it.
//!
//! Owns: whether the runtime watches the socket.
//! Does not: decide when it should (`stream` does), or know what the bytes are.
//! Holds: whoever waits for it is woken; only a caller that asked not to wait is left without.
//! Fails: as the system does; a socket whose registration failed is of no more use.
//!
//! A socket that is watched wakes a thread of the runtime up for every packet that arrives while nobody reads, and a server that streams sends
//! every row as a packet of its own: both sides pay for it, more than the row is worth.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A connection over TCP, or over a Unix socket.
#[derive(Debug)]
pub(super) struct Socket<S: Kind = TcpStream> {
    state: State<S>,
    /// Whether a read waits until there is something.
    waits: bool,
    /// The least that anything took to the peer and back; nothing is known of it at first.
    round_trip: Duration,
}

#[derive(Debug)]
enum State<S: Kind> {
    Watched(S),
    /// Nothing that arrives wakes anybody up.
    Deaf(S::Plain),
    /// Of a change from one to the other that failed.
    Lost,
}

/// What the runtime may watch, and what it is without that.
pub(super) trait Kind: AsyncRead + AsyncWrite + Unpin + Sized + fmt::Debug {
    type Plain: io::Read + io::Write + Unpin + fmt::Debug;

    fn into_plain(self) -> io::Result<Self::Plain>;
    fn from_plain(plain: Self::Plain) -> io::Result<Self>;
}

impl Kind for TcpStream {
    type Plain = std::net::TcpStream;

    fn into_plain(self) -> io::Result<Self::Plain> {
        self.into_std()
    }

    fn from_plain(plain: Self::Plain) -> io::Result<TcpStream> {
        TcpStream::from_std(plain)
    }
}

impl Kind for UnixStream {
    type Plain = std::os::unix::net::UnixStream;

    fn into_plain(self) -> io::Result<Self::Plain> {
        self.into_std()
    }

    fn from_plain(plain: Self::Plain) -> io::Result<UnixStream> {
        UnixStream::from_std(plain)
    }
}

impl Socket {
    /// Connects. The name has been looked up, so that what it takes is a way to the peer and back.
    pub(super) async fn connect(address: SocketAddr) -> io::Result<Socket> {
        let begun = Instant::now();
        let stream = TcpStream::connect(address).await?;
        Ok(Socket { round_trip: begun.elapsed(), ..Socket::new(stream) })
    }

    /// Something else was asked and answered. A busy machine lets a single exchange take long, and how far away the peer is shows in the quickest.
    pub(super) fn answered_within(&mut self, elapsed: Duration) {
        self.round_trip = self.round_trip.min(elapsed);
    }

    /// Has a peer nearby wait once little was sent that nobody has read. What it sends meanwhile, in small packets, is then joined to large ones
    /// before it leaves, which is most of what a packet costs. Of no use for a peer far away, who has to send ahead.
    pub(super) fn limit_arrivals(&self) -> io::Result<()> {
        if self.round_trip <= NEAR {
            self.configure(|socket| socket.set_recv_buffer_size(NEAR_BUFFER_BYTES))
        } else {
            Ok(())
        }
    }

    /// Of its options.
    pub(super) fn configure(&self, set: impl FnOnce(SockRef<'_>) -> io::Result<()>) -> io::Result<()> {
        match &self.state {
            State::Watched(stream) => set(SockRef::from(stream)),
            State::Deaf(stream) => set(SockRef::from(stream)),
            State::Lost => Err(lost()),
        }
    }
}

impl<S: Kind> Socket<S> {
    pub(super) fn new(stream: S) -> Socket<S> {
        Socket { state: State::Watched(stream), waits: true, round_trip: Duration::MAX }
    }

    /// Until somebody has to wait for it, nothing that arrives wakes anybody up.
    pub(super) fn deafen(&mut self) -> io::Result<()> {
        if let State::Watched(_) = self.state
            && let State::Watched(stream) = std::mem::replace(&mut self.state, State::Lost)
        {
            self.state = State::Deaf(stream.into_plain()?);
        }
        Ok(())
    }

    /// With `false`, a read of a deaf socket that finds nothing is pending and never woken.
    pub(super) fn set_waits(&mut self, waits: bool) {
        self.waits = waits;
    }

    /// The socket with the runtime watching it.
    fn watched(&mut self) -> io::Result<Pin<&mut S>> {
        if let State::Deaf(_) = self.state
            && let State::Deaf(stream) = std::mem::replace(&mut self.state, State::Lost)
        {
            self.state = State::Watched(S::from_plain(stream)?);
        }
        match &mut self.state {
            State::Watched(stream) => Ok(Pin::new(stream)),
            State::Deaf(_) | State::Lost => Err(lost()),
        }
    }
}

fn lost() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the connection was lost to the runtime")
}

impl<S: Kind> AsyncRead for Socket<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let socket = self.get_mut();
        if let State::Deaf(stream) = &mut socket.state {
            // A plain read wants memory that was written before, and writing a whole large buffer for few bytes would cost more than they do.
            match stream.read(buf.initialize_unfilled_to(buf.remaining().min(READ_BYTES))) {
                Ok(bytes) => {
                    buf.advance(bytes);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !socket.waits {
                        return Poll::Pending;
                    }
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        match socket.watched() {
            Ok(stream) => stream.poll_read(cx, buf),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl<S: Kind> AsyncWrite for Socket<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let socket = self.get_mut();
        if let State::Deaf(stream) = &mut socket.state {
            match stream.write(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
        match socket.watched() {
            Ok(stream) => stream.poll_write(cx, buf),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Neither keeps anything back here.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut().watched() {
            Ok(stream) => stream.poll_shutdown(cx),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

/// What a deaf socket is asked for at once.
const READ_BYTES: usize = 128 << 10;

/// What a peer nearby may send before it is read; Linux counts its own overhead, too, and gives twice that. Enough for 100 MB/s over a
/// millisecond.
const NEAR_BUFFER_BYTES: usize = 128 << 10;
/// Whoever answers within that is nearby.
const NEAR: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        (Socket::new(client), server)
    }

    fn is_deaf<S: Kind>(socket: &Socket<S>) -> bool {
        matches!(socket.state, State::Deaf(_))
    }

    #[tokio::test]
    async fn a_deaf_socket_has_what_arrived_and_is_not_watched_for_it() {
        let (socket, server) = pair().await;
        hears_what_arrived(socket, server).await;
        let (client, server) = UnixStream::pair().unwrap();
        hears_what_arrived(Socket::new(client), server).await;
    }

    async fn hears_what_arrived<S: Kind>(mut socket: Socket<S>, mut server: S) {
        let mut buffer = Vec::with_capacity(1 << 10);
        socket.deafen().unwrap();
        socket.set_waits(false);
        assert!(socket.read_buf(&mut buffer).now_or_never().is_none());
        server.write_all(b"one").await.unwrap();
        let read = loop {
            if let Some(read) = socket.read_buf(&mut buffer).now_or_never() {
                break read.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        assert_eq!((read, buffer.as_slice()), (3, b"one".as_slice()));
        socket.write_all(b"answer").await.unwrap();
        let mut heard = [0; 6];
        server.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"answer");
        assert!(is_deaf(&socket));
    }

    #[tokio::test]
    async fn whoever_waits_for_a_deaf_socket_is_woken() {
        let (mut socket, mut server) = pair().await;
        socket.deafen().unwrap();
        let mut buffer = Vec::with_capacity(1 << 10);
        let server = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            server.write_all(b"late").await.unwrap();
            server
        });
        assert_eq!(socket.read_buf(&mut buffer).await.unwrap(), 4);
        assert!(!is_deaf(&socket));
        drop(server.await.unwrap());
        // The end is seen by a deaf one, too.
        socket.deafen().unwrap();
        assert_eq!(socket.read_buf(&mut buffer).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_write_to_a_deaf_socket_waits_for_its_peer() {
        let (mut socket, mut server) = pair().await;
        socket.deafen().unwrap();
        let sent = vec![7; 16 << 20];
        let (bytes, writing) = (sent.len(), tokio::spawn(async move { socket.write_all(&sent).await }));
        let mut received = vec![0; bytes];
        server.read_exact(&mut received).await.unwrap();
        writing.await.unwrap().unwrap();
        assert!(received.iter().all(|byte| *byte == 7));
    }

    #[tokio::test]
    async fn only_what_a_peer_nearby_sends_is_limited() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let mut near = Socket::connect(listener.local_addr().unwrap()).await.unwrap();
        near.answered_within(NEAR);
        let (mut busy, mut far) = (pair().await.0, pair().await.0);
        for (peer, quickest) in [(&mut busy, 300), (&mut far, 3_000)] {
            for micros in [20_000, quickest, 5_000] {
                peer.answered_within(Duration::from_micros(micros));
            }
        }
        for (is_near, socket) in [(true, near), (true, busy), (false, far), (false, pair().await.0)] {
            let buffer = || {
                let mut bytes = 0;
                socket.configure(|socket| socket.recv_buffer_size().map(|size| bytes = size)).unwrap();
                bytes
            };
            let before = buffer();
            socket.limit_arrivals().unwrap();
            assert_eq!(is_near, buffer() != before, "{before} and {}", buffer());
            assert!(
                !is_near || (NEAR_BUFFER_BYTES..=2 * NEAR_BUFFER_BYTES).contains(&buffer()),
                "{}",
                buffer()
            );
        }
    }
}

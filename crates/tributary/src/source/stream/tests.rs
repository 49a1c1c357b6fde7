use super::super::socket::Socket;
use super::*;
use tokio::net::{TcpListener, TcpStream};

fn copy_data(body: &[u8]) -> Vec<u8> {
    message(b'd', body)
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag], u32::try_from(body.len() + 4).unwrap().to_be_bytes().as_slice(), body].concat()
}

fn wal_message(payload: &[u8]) -> Vec<u8> {
    let header =
        [[b'w'].as_slice(), &1_u64.to_be_bytes(), &2_u64.to_be_bytes(), &3_u64.to_be_bytes()].concat();
    copy_data(&[header.as_slice(), payload].concat())
}

fn keepalive_message(wal_end: u64, reply: u8) -> Vec<u8> {
    copy_data(&[[b'k'].as_slice(), &wal_end.to_be_bytes(), &0_u64.to_be_bytes(), &[reply]].concat())
}

/// A stream and the server's end of it.
async fn pair() -> (Stream, TcpStream) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    (Stream::new(Io::Tcp(Socket::new(client)), &start()), server)
}

fn start() -> Start {
    Start {
        slot: "s".into(),
        from: Lsn::ZERO,
        publications: Vec::new(),
        binary: false,
        streaming: false,
        status_interval: Duration::from_secs(10),
    }
}

async fn pop_after_fill(stream: &mut Stream) -> Result<String> {
    loop {
        if let Some(received) = stream.pop()? {
            return Ok(format!("{received:?}"));
        }
        stream.fill().await?;
    }
}

#[tokio::test]
async fn messages_come_in_order_and_the_end_stays_the_end() {
    let (mut stream, mut server) = pair().await;
    let notice = message(b'N', b"VNOTICE\0C00000\0Mhello\0\0");
    let status = message(b'S', b"application_name\0x\0");
    let wire = [
        wal_message(b"abc"),
        notice,
        status,
        keepalive_message(9, 1),
        message(b'C', b"COPY 0\0"),
        wal_message(b"late"),
    ]
    .concat();
    server.write_all(&wire).await.unwrap();
    assert!(
        pop_after_fill(&mut stream).await.unwrap().starts_with("Wal { wal_start: Lsn(1), wal_end: Lsn(2)")
    );
    assert_eq!(
        pop_after_fill(&mut stream).await.unwrap(),
        "Keepalive { wal_end: Lsn(9), reply_requested: true }"
    );
    for _ in 0..2 {
        assert_eq!(stream.pop().unwrap(), Some(Received::Ended));
    }
    drop(server);
    stream.stop().await.expect("the end of an ended stream");
}

#[tokio::test]
async fn a_fill_that_is_cancelled_loses_nothing() {
    let (mut stream, mut server) = pair().await;
    let wire = wal_message(&[7; 5000]);
    for piece in wire.chunks(700) {
        let idle = tokio::time::timeout(Duration::from_millis(5), stream.fill()).await;
        assert!(idle.is_err(), "nothing was sent");
        server.write_all(piece).await.unwrap();
        stream.fill().await.unwrap();
    }
    while stream.pop().unwrap().is_none() {
        stream.fill().await.unwrap();
    }
    assert_eq!(stream.buffered(), 0);
}

#[tokio::test]
async fn errors_of_the_server_are_classified_and_a_cut_connection_is_transient() {
    let (mut stream, mut server) = pair().await;
    server.write_all(&message(b'E', b"VERROR\0C42704\0Mpublication \"p\" does not exist\0\0")).await.unwrap();
    let error = pop_after_fill(&mut stream).await.expect_err("an error");
    assert_eq!(error.kind(), crate::error::Kind::SourceHalted);

    let (mut stream, mut server) = pair().await;
    server.write_all(&wal_message(b"abcdef")[..20]).await.unwrap();
    drop(server);
    let error = pop_after_fill(&mut stream).await.expect_err("cut in a message");
    assert_eq!(error.kind(), crate::error::Kind::Transient);
}

#[tokio::test]
async fn a_changed_setting_halts() {
    let (mut stream, mut server) = pair().await;
    server.write_all(&message(b'S', b"DateStyle\0German, DMY\0")).await.unwrap();
    let error = pop_after_fill(&mut stream).await.expect_err("a changed setting");
    assert_eq!(error.kind(), crate::error::Kind::SourceHalted);
}

#[tokio::test]
async fn bytes_that_are_no_message_are_an_error_and_not_a_panic() {
    for body in [b"".as_slice(), b"w", b"k12345678", b"z", &[b'k'; 30]] {
        let (mut stream, mut server) = pair().await;
        server.write_all(&copy_data(body)).await.unwrap();
        pop_after_fill(&mut stream).await.expect_err("no message");
    }
}

#[tokio::test]
async fn positions_never_go_back() {
    let (mut stream, mut server) = pair().await;
    stream.set_positions(Lsn(100), Lsn(50));
    stream.set_positions(Lsn(90), Lsn(40));
    stream.send_status(true).await.unwrap();
    let mut sent = [0; 39];
    server.read_exact(&mut sent).await.unwrap();
    assert_eq!(sent[..6], [b'd', 0, 0, 0, 38, b'r']);
    let field = |at: usize| u64::from_be_bytes(sent[at..at + 8].try_into().unwrap());
    assert_eq!([field(6), field(14), field(22)], [100, 50, 50]);
    assert_eq!(sent[38], 1);
}

#[tokio::test]
#[should_panic(expected = "I1")]
async fn more_durable_than_received_is_a_bug() {
    let (mut stream, _server) = pair().await;
    stream.set_positions(Lsn(1), Lsn(2));
}

#[tokio::test]
async fn stopping_sends_the_positions_and_waits_for_the_server() {
    let (mut stream, mut server) = pair().await;
    stream.set_positions(Lsn(100), Lsn(100));
    let serving = tokio::spawn(async move {
        let mut heard = vec![0; 39 + 5];
        server.read_exact(&mut heard).await.unwrap();
        let rest =
            [wal_message(b"in flight"), message(b'c', b""), message(b'C', b"COPY 0\0"), message(b'Z', b"I")];
        server.write_all(&rest.concat()).await.unwrap();
        server.read_to_end(&mut heard).await.unwrap();
        heard
    });
    stream.stop().await.expect("an orderly end");
    let heard = serving.await.unwrap();
    assert_eq!(heard[39..], [COPY_DONE, TERMINATE].concat());
}

/// T04, T01: the positions in a message's header are 0/0 for some, and go back; the message is handed on all the same, and no status
/// is moved by them.
#[tokio::test]
async fn t04_headers_of_messages_move_no_position() {
    let (mut stream, mut server) = pair().await;
    stream.set_positions(Lsn(100), Lsn(50));
    let header = |start: u64, end: u64| {
        let head =
            [[b'w'].as_slice(), &start.to_be_bytes(), &end.to_be_bytes(), &0_u64.to_be_bytes()].concat();
        copy_data(&[head.as_slice(), b"R"].concat())
    };
    server.write_all(&[header(0, 0), header(70, 60), header(1 << 40, 1 << 41)].concat()).await.unwrap();
    for start in [0, 70, 1 << 40] {
        let received = pop_after_fill(&mut stream).await.unwrap();
        assert!(received.starts_with(&format!("Wal {{ wal_start: {:?}, ", Lsn(start))), "{received}");
    }
    stream.send_status(false).await.unwrap();
    let mut sent = [0; 39];
    server.read_exact(&mut sent).await.unwrap();
    let field = |at: usize| u64::from_be_bytes(sent[at..at + 8].try_into().unwrap());
    assert_eq!([field(6), field(14), field(22)], [100, 50, 50]);
}

/// T23, T52: of the notices inside the stream, the one of skipped changes ends it for good; others are only said.
#[tokio::test]
async fn t23_t52_the_notice_of_skipped_changes_halts() {
    let (mut stream, mut server) = pair().await;
    let notice = message(b'N', b"SHINWEIS\0VNOTICE\0C00000\0Mhello\0\0");
    let warning = message(b'N', b"VWARNING\0C01000\0Mlow on something\0\0");
    let skipped = message(b'N', b"VWARNING\0C55000\0Mskipped loading publication \"p\"\0\0");
    let wire = [notice, wal_message(b"a"), warning, wal_message(b"b"), skipped, wal_message(b"c")];
    server.write_all(&wire.concat()).await.unwrap();
    for _ in 0..2 {
        assert!(pop_after_fill(&mut stream).await.unwrap().starts_with("Wal"));
    }
    let error = pop_after_fill(&mut stream).await.expect_err("changes are missing from here on");
    assert_eq!(error.kind(), crate::error::Kind::SourceHalted);
}

/// T37: a walsender that decodes a storm of catalog changes is silent for minutes. Statuses go out meanwhile, and nobody gives up.
#[tokio::test]
async fn t37_silence_is_no_error() {
    let (mut stream, mut server) = pair().await;
    for _ in 0..20 {
        let silence = tokio::time::timeout(Duration::from_millis(50), stream.fill()).await;
        assert!(silence.is_err(), "{silence:?}");
        stream.send_status(false).await.unwrap();
    }
    let mut heard = vec![0; 20 * 39];
    server.read_exact(&mut heard).await.unwrap();
    server.write_all(&wal_message(b"at last")).await.unwrap();
    assert!(pop_after_fill(&mut stream).await.unwrap().starts_with("Wal"));
}

/// While it is late, a stream does not have its socket watched.
#[tokio::test]
async fn a_stream_that_pauses_writes_and_notices_the_end() {
    let (mut stream, mut server) = pair().await;
    stream.set_late(true);
    server.write_all(&wal_message(b"one")).await.unwrap();
    assert!(pop_after_fill(&mut stream).await.unwrap().contains("Wal"));
    // The pause is cut off, as by something else that the loop has to do.
    assert!(tokio::time::timeout(Duration::from_millis(2), stream.fill()).await.is_err());
    stream.send_status(false).await.unwrap();
    let mut status = [0; 39];
    server.read_exact(&mut status).await.unwrap();
    assert_eq!(status[0], b'd');
    assert!(tokio::time::timeout(Duration::from_millis(2), stream.fill()).await.is_err());
    server.write_all(&wal_message(b"two")).await.unwrap();
    assert!(pop_after_fill(&mut stream).await.unwrap().contains("Wal"));
    assert!(tokio::time::timeout(Duration::from_millis(2), stream.fill()).await.is_err());
    drop(server);
    let error = pop_after_fill(&mut stream).await.unwrap_err();
    assert!(error.to_string().contains("closed"), "{error}");
}

#[test]
fn many_messages_tell_whether_they_are_small() {
    let mut arrivals = Arrivals::default();
    for (bytes, are_small) in [(100, true), (2_000, false), (100, true)] {
        (1..ARRIVALS).for_each(|_| arrivals.note(bytes));
        assert!(!arrivals.are_small(), "too few are no sign");
        arrivals.note(bytes);
        assert_eq!(arrivals.are_small(), are_small, "of {bytes} bytes");
    }
}

/// What a real server sent, as far as it fits some kilobytes, with keepalives between.
fn recorded() -> Vec<Vec<u8>> {
    let transcript = include_str!("../../../../pgoutput/transcripts/postgres-15.txt");
    let lines = transcript.lines().filter(|line| !line.starts_with(['#', '!']) && line.len() < 600);
    let frame = |line: &str| -> Vec<u8> {
        let byte = |at| u8::from_str_radix(&line[at..at + 2], 16).unwrap();
        (0..line.len()).step_by(2).map(byte).collect()
    };
    lines
        .take(60)
        .enumerate()
        .flat_map(|(n, line)| [wal_message(&frame(line)), keepalive_message(n as u64, u8::from(n % 3 == 0))])
        .collect()
}

/// A part of a message is no message, wherever the wire breaks.
#[tokio::test]
async fn a_wire_that_breaks_at_any_byte_gives_whole_messages_and_no_more() {
    let messages = recorded();
    let wire = messages.concat();
    assert!(wire.len() > 4000, "{} bytes", wire.len());
    let mut shown = Vec::new();
    for bytes in 0..=wire.len() {
        let (client, mut server) = tokio::net::UnixStream::pair().unwrap();
        let mut stream = Stream::new(Io::Unix(Socket::new(client)), &start());
        // As one that reads after pauses, and as one that does not.
        stream.set_late(bytes % 2 == 0);
        server.write_all(&wire[..bytes]).await.unwrap();
        drop(server);
        let mut heard = Vec::new();
        let error = loop {
            match pop_after_fill(&mut stream).await {
                Ok(message) => heard.push(message),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), crate::error::Kind::Transient, "after {bytes} bytes: {error}");
        let mut end = 0;
        let whole = messages.iter().take_while(|message| {
            end += message.len();
            end <= bytes
        });
        assert_eq!(heard.len(), whole.count(), "after {bytes} bytes");
        // The one before is a part of this one: nothing that was handed out was only half.
        assert!(heard.starts_with(&shown), "after {bytes} bytes");
        shown = heard;
    }
    assert_eq!(shown.len(), messages.len());
}

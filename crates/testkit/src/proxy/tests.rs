use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use super::*;

/// A server that says the same to everybody, and hears nothing.
fn server_of(bytes: Vec<u8>) -> u16 {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let (mut connection, bytes) = (connection.unwrap(), bytes.clone());
            thread::spawn(move || {
                connection.write_all(&bytes).ok();
                // It stays until the other end goes.
                connection.read_to_end(&mut Vec::new()).ok();
            });
        }
    });
    port
}

fn connect(proxy: &Proxy) -> TcpStream {
    let client = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port)).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    client
}

#[test]
fn a_wire_breaks_after_so_many_bytes_and_works_again() {
    let proxy = Proxy::start(server_of(vec![7; 5000])).unwrap();
    for breaks_after in [1, 700, 4999] {
        proxy.set(Wire::BreaksAfter(breaks_after));
        let (mut client, mut heard) = (connect(&proxy), Vec::new());
        let error = client.read_to_end(&mut heard).unwrap_err();
        assert_eq!((error.kind(), heard.len() as u64), (ErrorKind::ConnectionReset, breaks_after));
        assert_eq!(proxy.wire(), Wire::Works);
        connect(&proxy).read_exact(&mut [0; 5000]).unwrap();
    }
}

#[test]
fn a_reset_is_for_those_who_are_there() {
    let proxy = Proxy::start(server_of(vec![7; 10])).unwrap();
    let mut client = connect(&proxy);
    client.read_exact(&mut [0; 10]).unwrap();
    proxy.reset();
    assert_eq!(client.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    connect(&proxy).read_exact(&mut [0; 10]).unwrap();
}

#[test]
fn a_slow_wire_carries_no_more_than_it_should() {
    let proxy = Proxy::start(server_of(vec![7; 2000])).unwrap();
    proxy.set(Wire::Slow(1000));
    let begun = Instant::now();
    connect(&proxy).read_exact(&mut [0; 1000]).unwrap();
    assert!(begun.elapsed() > Duration::from_millis(800), "{:?}", begun.elapsed());
}

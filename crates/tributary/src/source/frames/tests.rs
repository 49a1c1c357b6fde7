use super::*;

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = i32::try_from(body.len() + 4).expect("short");
    [&[tag], length.to_be_bytes().as_slice(), body].concat()
}

#[test]
fn messages_come_out_whole_wherever_the_bytes_are_cut() {
    let bodies: Vec<Vec<u8>> =
        [0, 1, 7, 300, 40_000].iter().map(|n| vec![u8::try_from(n % 251).unwrap(); *n]).collect();
    let wire: Vec<u8> = bodies.iter().flat_map(|body| message(b'd', body)).collect();
    for step in [1, 2, 5, 1000, wire.len()] {
        let mut frames = Frames::new();
        let mut found = Vec::new();
        for piece in wire.chunks(step) {
            frames.room().extend_from_slice(piece);
            while let Some(frame) = frames.next().expect("valid lengths") {
                assert_eq!(frame.tag, b'd');
                found.push(frames.bytes(frame.body).to_vec());
            }
        }
        assert_eq!(found, bodies, "in steps of {step}");
        assert_eq!(frames.unread(), 0);
    }
}

#[test]
fn lengths_that_no_server_sends_are_refused() {
    for length in [-1_i32, 0, 3, i32::MIN, i32::MAX] {
        let mut frames = Frames::new();
        frames.room().push(b'd');
        frames.room().extend_from_slice(&length.to_be_bytes());
        assert!(frames.next().is_err(), "{length}");
    }
}

#[test]
fn an_announced_length_reserves_nothing_by_itself() {
    let mut frames = Frames::new();
    frames.room().push(b'd');
    frames.room().extend_from_slice(&(1_i32 << 30).to_be_bytes());
    frames.room();
    assert!(frames.capacity() <= 2 * CHUNK_BYTES);
}

#[test]
fn a_big_message_costs_its_size_once_and_is_given_back() {
    const BODY: usize = 64 << 20;
    let mut frames = Frames::new();
    let wire = message(b'd', &vec![7; BODY]);
    let mut most = 0;
    for piece in wire.chunks(100_000) {
        frames.room().extend_from_slice(piece);
        most = most.max(frames.capacity());
        if let Some(frame) = frames.next().expect("a valid length") {
            assert_eq!(frame.body.len(), BODY);
        }
    }
    assert!(most <= BODY + 2 * CHUNK_BYTES, "{most}");
    frames.room();
    assert!(frames.capacity() <= KEPT_BYTES_MAX, "{}", frames.capacity());
}

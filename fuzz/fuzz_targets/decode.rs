//! A session of arbitrary frames never panics, and cells iterate to their announced count.
//!
//! The first byte chooses the options; after it every frame stands behind its length of two bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgoutput::{Decoder, Message, OldTuple, Options, Tuple};

fuzz_target!(|input: &[u8]| {
    let Some((choice, mut rest)) = input.split_first() else { return };
    let options = Options { proto_version: 1 + (choice & 3), streaming_parallel: choice & 4 != 0 };
    let mut decoder = Decoder::new(options);
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let (frame, after) = after.split_at(length);
        rest = after;
        let in_stream = decoder.in_stream();
        match decoder.decode(frame) {
            Ok(message) => walk(&message),
            Err(error) => {
                assert_eq!(decoder.in_stream(), in_stream);
                assert!(!error.to_string().is_empty());
            }
        }
    }
});

fn walk(message: &Message<'_>) {
    match message {
        Message::Insert(insert) => count(insert.new),
        Message::Update(update) => {
            update.old.iter().map(OldTuple::tuple).for_each(count);
            count(update.new);
        }
        Message::Delete(delete) => count(delete.old.tuple()),
        _ => {}
    }
}

fn count(tuple: Tuple<'_>) {
    assert_eq!(tuple.cells().len(), tuple.len());
    assert_eq!(tuple.cells().count(), tuple.len());
}

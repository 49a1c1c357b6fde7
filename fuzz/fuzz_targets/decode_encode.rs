//! What decodes is written back as the very same bytes, and decodes again to the same message.
//!
//! The first byte chooses the options and whether a stream block is open; the rest is one frame.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgoutput::{Decoder, Message, Options, StreamStart, Xid, encode};

fuzz_target!(|input: &[u8]| {
    let Some((choice, frame)) = input.split_first() else { return };
    let options = Options { proto_version: 1 + (choice & 3), streaming_parallel: choice & 4 != 0 };
    let mut decoder = Decoder::new(options);
    if choice & 8 != 0 && options.proto_version > 1 {
        let start = Message::StreamStart(StreamStart { xid: Xid(7), first_segment: true });
        let mut frame = Vec::new();
        encode(&start, false, &mut frame);
        assert_eq!(decoder.decode(&frame), Ok(start));
    }
    let in_stream = decoder.in_stream();
    let mut again = decoder.clone();
    let Ok(message) = decoder.decode(frame) else { return };
    let mut encoded = Vec::new();
    encode(&message, in_stream, &mut encoded);
    assert_eq!(encoded, frame);
    assert_eq!(again.decode(&encoded), Ok(message));
});

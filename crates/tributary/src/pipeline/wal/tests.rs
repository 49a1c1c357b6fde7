use super::*;

#[test]
fn the_end_says_what_was_done_and_how_to_go_on() {
    let used = Used {
        slot: "tributary",
        kept: "55.0 GiB".to_owned(),
        budget: crate::config::ByteSize::mebibytes(50 << 10),
        why: "this daemon: the store is away".to_owned(),
        published: Lsn(0x1234),
    };
    for (error, words) in [
        (used.halted(), ["the slot stays", "whole up to 0/1234"]),
        (used.dropped(), ["was dropped", "intact up to 0/1234"]),
        (used.not_dropped(Error::transient("x")), ["could not be dropped", "55.0 GiB"]),
    ] {
        assert_eq!(error.kind(), crate::error::Kind::SourceHalted);
        let text = error.to_string();
        for word in [words[0], words[1], "50GiB", "the store is away"] {
            assert!(text.contains(word), "{word}: {text}");
        }
        assert!(error.hint_text().is_some(), "{text}: what can the user do?");
    }
}

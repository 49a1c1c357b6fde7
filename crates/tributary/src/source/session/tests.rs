use super::*;

fn start(publications: &[&str]) -> Start {
    Start {
        slot: "s".into(),
        from: Lsn(0x16_B374_D848),
        publications: publications.iter().map(|name| (*name).to_owned()).collect(),
        binary: true,
        streaming: false,
        status_interval: Duration::from_secs(10),
    }
}

#[test]
fn the_start_command_fits_the_version_and_quotes_names_twice() {
    let command = start_command(&start(&["a", "it's \"b\""]), 150_018).expect("a command");
    assert_eq!(
        command,
        "START_REPLICATION SLOT s LOGICAL 16/B374D848 (proto_version '3', publication_names \
         '\"a\",\"it''s \"\"b\"\"\"', messages 'true', binary 'true')"
    );
    let streaming = start_command(&Start { streaming: true, ..start(&["a"]) }, 140_000).expect("a command");
    assert!(
        streaming.contains("(proto_version '2', ") && streaming.ends_with(", binary 'true', streaming 'on')")
    );
    assert_eq!([140_000, 150_000, 160_000, 180_004].map(proto_version), [2, 3, 4, 4]);
    start_command(&start(&[]), 150_018).expect_err("no publication");
    // T19: prepared transactions come when they commit. T21: changes that came from elsewhere are changes.
    for command in [command, streaming] {
        assert!(!command.contains("two_phase") && !command.contains("origin"), "{command}");
    }
}

#[test]
fn a_slot_name_cannot_carry_a_command() {
    let mut start = start(&["a"]);
    start.slot = "s; DROP_REPLICATION_SLOT t".into();
    start_command(&start, 150_018).expect_err("not a name");
}

#[test]
fn a_timeline_history_is_read_and_anything_else_refused() {
    let history =
        "1\t0/4000098\tno recovery target specified\n\n2\t16/B374D848\tbefore 2000-01-01 00:00:00+00\n";
    let switches = parse_history(history).expect("a history");
    assert_eq!(switches[1], TimelineSwitch { timeline: 2, switch_lsn: Lsn(0x16_B374_D848) });
    assert_eq!(switches.len(), 2);
    parse_history("1 nowhere").expect_err("no position");
}

#[test]
fn rows_are_read_and_cut_ones_refused() {
    let body = [0, 3, 0, 0, 0, 2, b'a', b'b', 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    let row = RowText::parse(&body).expect("a row");
    assert_eq!(row, RowText(vec![Some("ab".into()), None, Some(String::new())]));
    for end in 0..body.len() {
        RowText::parse(&body[..end]).expect_err("cut");
    }
}

#[test]
fn a_notice_of_skipped_changes_halts() {
    let halts = notice(b"VWARNING\0C55000\0Mskipped loading publication \"p\"\0\0").expect_err("skipped");
    assert_eq!(halts.kind(), Kind::SourceHalted);
    notice(b"VNOTICE\0C00000\0Mhello\0\0").expect("harmless");
}

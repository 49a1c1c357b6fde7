use super::*;

#[test]
fn prints_and_parses_as_postgres_does() {
    for (value, text) in [(0, "0/0"), (0x16_B374_D848, "16/B374D848"), (u64::MAX, "FFFFFFFF/FFFFFFFF")] {
        assert_eq!(Lsn(value).to_string(), text);
        assert_eq!(text.parse::<Lsn>(), Ok(Lsn(value)));
    }
}

#[test]
fn refuses_what_postgres_refuses() {
    for text in ["", "/", "1", "1/", "/1", "123456789/1", "1/G", "1/2/3", "+1/2", " 1/2"] {
        assert!(text.parse::<Lsn>().is_err(), "{text:?}");
    }
}

#[test]
fn orders_by_position_not_by_text() {
    assert!("F/0".parse::<Lsn>().unwrap() < "10/0".parse::<Lsn>().unwrap());
}

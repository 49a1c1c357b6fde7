use super::*;
use crate::text::{Held, Malformed};

/// What servers print and send, by type.
fn goldens() -> impl Iterator<Item = (&'static str, Vec<u8>, Vec<u8>, Option<&'static str>)> {
    include_str!("goldens.tsv").lines().filter(|line| !line.starts_with('#')).map(|line| {
        let mut fields = line.split('\t');
        let (kind, text, digits) = (fields.next().unwrap(), fields.next().unwrap(), fields.next().unwrap());
        (kind, copied(text), unhex(digits), fields.next())
    })
}

/// The text that COPY escaped.
fn copied(text: &str) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'\\' => match bytes.next().unwrap() {
                b'n' => b'\n',
                b't' => b'\t',
                b'\\' => b'\\',
                other => panic!("COPY does not write \\{}", char::from(other)),
            },
            byte => byte,
        });
    }
    plain
}

fn unhex(digits: &str) -> Vec<u8> {
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn render(kind: &str, bytes: &[u8], text: &mut Vec<u8>) -> Option<Result<(), Malformed>> {
    let render = match kind {
        "interval" => interval::interval,
        "timetz" => timetz::timetz,
        "bit(1)" | "bit(3)" | "bit(8)" | "bit(9)" | "varbit" => bits::bits,
        "money" => money::money,
        "\"char\"" => system::char,
        "xid8" => system::xid8,
        "pg_lsn" => system::pg_lsn,
        "tid" => system::tid,
        "int2vector" => system::int2vector,
        "oidvector" => system::oidvector,
        "pg_snapshot" | "txid_snapshot" => system::pg_snapshot,
        "inet" => network::inet,
        "cidr" => network::cidr,
        "macaddr" => network::macaddr,
        "macaddr8" => network::macaddr8,
        "point" => geometric::point,
        "line" => geometric::line,
        "lseg" => geometric::lseg,
        "box" => geometric::r#box,
        "path" => geometric::path,
        "polygon" => geometric::polygon,
        "circle" => geometric::circle,
        _ => return None,
    };
    Some(render(bytes, text))
}

#[test]
fn t14_a_binary_cell_renders_to_the_text_of_the_server() {
    for (kind, text, bytes, _) in goldens() {
        let mut rendered = Vec::new();
        let Some(result) = render(kind, &bytes, &mut rendered) else { continue };
        result.unwrap();
        assert_eq!(String::from_utf8_lossy(&rendered), String::from_utf8_lossy(&text), "{kind}");
    }
}

#[test]
fn t90_intervals() {
    for (kind, text, bytes, iso8601) in goldens() {
        if kind != "interval" {
            continue;
        }
        let interval = interval::Interval::from_binary(&bytes).unwrap();
        assert_eq!(interval::Interval::from_text(&text), Ok(interval), "{}", String::from_utf8_lossy(&text));
        let mut rendered = Vec::new();
        interval.iso8601(&mut rendered);
        assert_eq!(String::from_utf8(rendered).unwrap(), iso8601.unwrap());
        let is_infinite = text.ends_with(b"infinity");
        assert_eq!(interval.held(), if is_infinite { Held::Nothing(Loss::Infinity) } else { Held::Exact(interval) });
    }
    for bad in [
        "",
        " ",
        "1",
        "1 mon ",
        "1 day 1 mon",
        "1 mon 1 mon",
        "00:60:00",
        "0:00:00",
        "1 month",
        "00:00:00 1 day",
        "2562047788:00:54.775808",
    ] {
        assert_eq!(interval::Interval::from_text(bad.as_bytes()), Err(Malformed), "{bad}");
    }
}

#[test]
fn readers_of_text_and_binary_agree() {
    for (kind, text, bytes, _) in goldens() {
        match kind {
            "varbit" | "bit(9)" => {
                let mut packed = Vec::new();
                bits::bytes_from_text(&text, &mut packed).unwrap();
                assert_eq!(bits::bytes_from_binary(&bytes), Ok(&*packed));
            }
            "money" => {
                assert_eq!(money::hundredths_from_text(&text), money::hundredths_from_binary(&bytes));
            }
            "xid8" => assert_eq!(system::xid8_from_text(&text), system::xid8_from_binary(&bytes)),
            "pg_lsn" => assert_eq!(system::lsn_from_text(&text), system::lsn_from_binary(&bytes)),
            "point" => {
                let [text, binary] =
                    [geometric::Point::from_text(&text), geometric::Point::from_binary(&bytes)]
                        .map(Result::unwrap);
                assert_eq!((text.x.to_bits(), text.y.to_bits()), (binary.x.to_bits(), binary.y.to_bits()));
            }
            _ => {}
        }
    }
}

#[test]
fn texts_that_are_none() {
    for bad in [
        "",
        "$",
        "1.00",
        "$1.0",
        "$,1.00",
        "$1,00.00",
        "$1234.00",
        "$1,234,.00",
        "-$92,233,720,368,547,758.09",
        "$1.00 ",
    ] {
        assert_eq!(money::hundredths_from_text(bad.as_bytes()), Err(Malformed), "{bad}");
    }
    for bad in ["", "/", "0/", "0/123456789", "0/G", "0", "0/0/0"] {
        assert_eq!(system::lsn_from_text(bad.as_bytes()), Err(Malformed), "{bad}");
    }
    assert_eq!(bits::bytes_from_text(b"012", &mut Vec::new()), Err(Malformed));
    for bad in ["", "()", "(1)", "(1,)", "(1,2", "(1,2,3)", "1,2"] {
        assert_eq!(geometric::Point::from_text(bad.as_bytes()), Err(Malformed), "{bad}");
    }
}

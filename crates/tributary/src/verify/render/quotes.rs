//! The quotes of arrays, ranges, records and hstore; base64.
//!
//! Owns: when a part of a value is put in quotes, and what is escaped in it.
//! Does not: know the types of the parts.
//! Holds: what `array_out`, `range_out`, `record_out` and `hstore_out` of Postgres write.
//! Fails: [`base64`] gives `None` for what is none.

/// As `array_out` of one dimension.
pub(super) fn array(elements: &[Option<Vec<u8>>], delimiter: u8, out: &mut Vec<u8>) {
    out.push(b'{');
    for (place, element) in elements.iter().enumerate() {
        if place > 0 {
            out.push(delimiter);
        }
        match element {
            None => out.extend_from_slice(b"NULL"),
            Some(text) => {
                let is_special =
                    |byte: &u8| b"\"\\{}".contains(byte) || *byte == delimiter || is_space(*byte);
                if text.is_empty() || text.eq_ignore_ascii_case(b"NULL") || text.iter().any(is_special) {
                    quoted(text, out);
                } else {
                    out.extend_from_slice(text);
                }
            }
        }
    }
    out.push(b'}');
}

/// In quotes, with a backslash before quotes and backslashes: an element of an array, and what hstore writes.
pub(super) fn quoted(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

/// A bound of a range or a field of a record: in quotes if it is empty or has such a byte, with quotes and backslashes doubled.
pub(super) fn piece(text: &[u8], special: &[u8], out: &mut Vec<u8>) {
    let needs = text.is_empty() || text.iter().any(|byte| special.contains(byte) || is_space(*byte));
    if !needs {
        return out.extend_from_slice(text);
    }
    out.push(b'"');
    for byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.push(*byte);
        }
        out.push(*byte);
    }
    out.push(b'"');
}

/// The bytes that base64 stands for.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0_u32);
    for letter in text.trim_end_matches('=').bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xFF_FFFF;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xFF).ok()?);
        }
    }
    Some(bytes)
}

/// `isspace` of the locale C, and `array_isspace`.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0B | 0x0C)
}

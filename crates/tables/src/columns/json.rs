//! Arrays, row types and maps as JSON text.
//!
//! Owns: the JSON of a value, from the text that Postgres prints for it.
//! Does not: read binary cells; they are rendered first, so that both formats give the same.
//! Holds: as `to_jsonb` of Postgres has it: numbers and booleans are themselves, JSON is embedded, the rest is text. Digits
//! are kept as they are. NaN and the infinities, which JSON has not, are text.
//! Fails: [`Malformed`] on text that is not of the type's grammar.

use crate::forms;
use crate::text::{Malformed, split_once};
use crate::types::{Codec, Loss};

/// Writes a value as JSON, and says what of it JSON does not tell.
pub(super) fn write(codec: &Codec, text: &[u8], json: &mut Vec<u8>) -> Result<Option<Loss>, Malformed> {
    match codec.natural() {
        Codec::Array(element) => return array(element, text, json),
        Codec::Record(fields) => {
            // One more than there should be is enough to know.
            let values = forms::records::fields_from_text(text)?.take(fields.len() + 1);
            let values = values.collect::<Result<Vec<_>, _>>()?;
            if values.len() != fields.len() {
                string(text, json);
                return Ok(Some(Loss::Shape));
            }
            let mut loss = None;
            for (place, (field, value)) in fields.iter().zip(values).enumerate() {
                json.push(if place == 0 { b'{' } else { b',' });
                string(field.source_name.as_bytes(), json);
                json.push(b':');
                match value {
                    None => json.extend_from_slice(b"null"),
                    Some(value) => loss = loss.or(write(&field.codec, &value, json)?),
                }
            }
            json.extend_from_slice(if fields.is_empty() { b"{}" } else { b"}" });
            return Ok(loss);
        }
        Codec::Hstore => {
            json.push(b'{');
            for (place, pair) in forms::hstore::pairs_from_text(text).enumerate() {
                let (key, value) = pair?;
                if place > 0 {
                    json.push(b',');
                }
                string(&key, json);
                json.push(b':');
                match value {
                    None => json.extend_from_slice(b"null"),
                    Some(value) => string(&value, json),
                }
            }
            json.push(b'}');
        }
        Codec::Bool => json.extend_from_slice(if text == b"t" { b"true" } else { b"false" }),
        Codec::Int2
        | Codec::Int4
        | Codec::Int8
        | Codec::Oid
        | Codec::Float4
        | Codec::Float8
        | Codec::Decimal { .. }
        | Codec::NumericText => match text {
            b"NaN" | b"Infinity" | b"-Infinity" => string(text, json),
            number => json.extend_from_slice(number),
        },
        Codec::Json | Codec::Jsonb => json.extend_from_slice(text),
        _ => string(text, json),
    }
    Ok(None)
}

/// Arrays of any shape, within each other as they are printed.
fn array(element: &Codec, text: &[u8], json: &mut Vec<u8>) -> Result<Option<Loss>, Malformed> {
    let delimiter = element.delimiter();
    let (mut rest, mut loss) = match text {
        // `[0:1]={…}`: JSON has no place for subscripts.
        [b'[', ..] => (split_once(text, |byte| byte == b'=').ok_or(Malformed)?.1, Some(Loss::LowerBound)),
        text => (text, None),
    };
    let mut depth = 0_u32;
    let mut unescaped = Vec::new();
    loop {
        match rest {
            [b'{', after @ ..] => {
                (rest, depth) = (after, depth.saturating_add(1));
                json.push(b'[');
            }
            [b'}', after @ ..] => {
                (rest, depth) = (after, depth.checked_sub(1).ok_or(Malformed)?);
                json.push(b']');
                if depth == 0 {
                    return if rest.is_empty() { Ok(loss) } else { Err(Malformed) };
                }
            }
            [byte, after @ ..] if *byte == delimiter => {
                rest = after;
                json.push(b',');
            }
            [b'"', after @ ..] => {
                rest = quoted(after, &mut unescaped)?;
                loss = loss.or(write(element, &unescaped, json)?);
            }
            bare => {
                let is_end = |byte: &u8| *byte == delimiter || matches!(byte, b'}' | b'{' | b'"');
                let end = bare.iter().position(is_end).filter(|_| depth > 0).ok_or(Malformed)?;
                let (value, after) = bare.split_at_checked(end).ok_or(Malformed)?;
                rest = after;
                match value {
                    b"NULL" => json.extend_from_slice(b"null"),
                    value => loss = loss.or(write(element, value, json)?),
                }
            }
        }
    }
}

/// Reads behind an opening quote; what follows the closing one.
fn quoted<'a>(text: &'a [u8], unescaped: &mut Vec<u8>) -> Result<&'a [u8], Malformed> {
    unescaped.clear();
    let mut rest = text;
    loop {
        match rest {
            [b'"', after @ ..] => return Ok(after),
            [b'\\', escaped, after @ ..] => {
                unescaped.push(*escaped);
                rest = after;
            }
            [byte, after @ ..] if *byte != b'\\' => {
                unescaped.push(*byte);
                rest = after;
            }
            _ => return Err(Malformed),
        }
    }
}

/// Writes a JSON string. Bytes that are not UTF-8 stay as they are: the column refuses them.
fn string(text: &[u8], json: &mut Vec<u8>) {
    json.push(b'"');
    for byte in text {
        match byte {
            b'"' | b'\\' => json.extend_from_slice(&[b'\\', *byte]),
            b'\n' => json.extend_from_slice(b"\\n"),
            b'\r' => json.extend_from_slice(b"\\r"),
            b'\t' => json.extend_from_slice(b"\\t"),
            0..0x20 => {
                let [high, low] = crate::binary::hex(*byte);
                json.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
            _ => json.push(*byte),
        }
    }
    json.push(b'"');
}

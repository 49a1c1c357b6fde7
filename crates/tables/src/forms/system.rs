//! Types of the system's own columns.
//!
//! Owns: `"char"`, `xid8`, `pg_lsn`, `tid`, `int2vector`, `oidvector`, `pg_snapshot` and `txid_snapshot`.
//! Does not: know what they point at.
//! Holds: unsigned stays unsigned.
//! Fails: [`Malformed`] on a wrong length or a value that the type does not have.

use crate::binary::{ArrayBinary, int16, take, uint32, whole, write};
use crate::text::{self, Malformed, natural};

/// Writes a `"char"` as Postgres 15 and later do. Before, a byte from 0x80 on came as it is, which is no text in UTF-8.
pub(crate) fn char(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    match whole(bytes)? {
        [0] => {}
        [byte @ 0x80..=0xFF] => write(text, format_args!("\\{byte:03o}")),
        [byte] => text.push(byte),
    }
    Ok(())
}

/// Writes an `xid8`.
pub(crate) fn xid8(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    write(text, format_args!("{}", xid8_from_binary(bytes)?));
    Ok(())
}

/// The number of an `xid8`'s send form.
pub(crate) fn xid8_from_binary(bytes: &[u8]) -> Result<u64, Malformed> {
    whole(bytes).map(u64::from_be_bytes)
}

/// The number of an `xid8`'s text.
pub(crate) fn xid8_from_text(text: &[u8]) -> Result<u64, Malformed> {
    natural(text)
}

/// Writes `16/B374D848`.
pub(crate) fn pg_lsn(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    let lsn = lsn_from_binary(bytes)?;
    write(text, format_args!("{:X}/{:X}", lsn >> 32, lsn & 0xFFFF_FFFF));
    Ok(())
}

/// The position of a `pg_lsn`'s send form.
pub(crate) fn lsn_from_binary(bytes: &[u8]) -> Result<u64, Malformed> {
    whole(bytes).map(u64::from_be_bytes)
}

/// The position of a `pg_lsn`'s text.
pub(crate) fn lsn_from_text(text: &[u8]) -> Result<u64, Malformed> {
    let (high, low) = text::split_once(text, |byte| byte == b'/').ok_or(Malformed)?;
    Ok(hexadecimal(high)? << 32 | hexadecimal(low)?)
}

/// One to eight hexadecimal digits.
fn hexadecimal(digits: &[u8]) -> Result<u64, Malformed> {
    if !(1..=8).contains(&digits.len()) {
        return Err(Malformed);
    }
    digits.iter().try_fold(0, |value: u64, digit| match text::hex_digit(*digit) {
        digit @ 0..=0x0F => Ok(value << 4 | u64::from(digit)),
        _ => Err(Malformed),
    })
}

/// Writes `(block,offset)`.
pub(crate) fn tid(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut rest = bytes;
    let block = u32::from_be_bytes(take(&mut rest)?);
    let offset = u16::from_be_bytes(whole(rest)?);
    write(text, format_args!("({block},{offset})"));
    Ok(())
}

/// Writes numbers with spaces between.
pub(crate) fn int2vector(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    vector(bytes, |element| int16(element).map(i64::from), text)
}

/// Writes numbers with spaces between.
pub(crate) fn oidvector(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    vector(bytes, |element| uint32(element).map(i64::from), text)
}

/// The vectors are sent as arrays of one dimension without NULL.
fn vector(
    bytes: &[u8],
    number: impl Fn(&[u8]) -> Result<i64, Malformed>,
    text: &mut Vec<u8>,
) -> Result<(), Malformed> {
    let array = ArrayBinary::read(bytes)?;
    if array.is_nested() {
        return Err(Malformed);
    }
    let mut separator = "";
    for element in array.elements()? {
        let number = number(element?.ok_or(Malformed)?)?;
        write(text, format_args!("{separator}{number}"));
        separator = " ";
    }
    Ok(())
}

/// Writes `xmin:xmax:xip,…` of a `pg_snapshot` or `txid_snapshot`.
pub(crate) fn pg_snapshot(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut rest = bytes;
    let in_progress = u32::from_be_bytes(take(&mut rest)?);
    let xmin = u64::from_be_bytes(take(&mut rest)?);
    let xmax = u64::from_be_bytes(take(&mut rest)?);
    let (xids, odd) = rest.as_chunks::<8>();
    if !odd.is_empty() || u32::try_from(xids.len()) != Ok(in_progress) {
        return Err(Malformed);
    }
    write(text, format_args!("{xmin}:{xmax}:"));
    let mut separator = "";
    for xid in xids {
        write(text, format_args!("{separator}{}", u64::from_be_bytes(*xid)));
        separator = ",";
    }
    Ok(())
}

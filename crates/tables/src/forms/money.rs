//! Money.
//!
//! Owns: `money` as `lc_monetary=C` prints it, which is what we ask for.
//! Does not: know other locales: the send form says neither a currency nor how many digits a unit has.
//! Holds: an amount is a number of hundredths.
//! Fails: [`Malformed`] on another locale's text.

use crate::binary::{int64, write};
use crate::text::{self, Malformed};

/// Writes `-$1,234.56`.
pub(crate) fn money(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    let cents = hundredths_from_binary(bytes)?;
    let sign = if cents < 0 { "-" } else { "" };
    let units = (cents.unsigned_abs() / 100).to_string();
    write(text, format_args!("{sign}$"));
    for (place, digit) in units.bytes().enumerate() {
        if place > 0 && (units.len() - place).is_multiple_of(3) {
            text.push(b',');
        }
        text.push(digit);
    }
    write(text, format_args!(".{:02}", cents.unsigned_abs() % 100));
    Ok(())
}

/// The amount of a send form.
pub(crate) fn hundredths_from_binary(bytes: &[u8]) -> Result<i64, Malformed> {
    if bytes.len() == 8 { int64(bytes) } else { Err(Malformed) }
}

/// The amount of a text.
pub(crate) fn hundredths_from_text(text: &[u8]) -> Result<i64, Malformed> {
    let (sign, amount) = match text {
        [b'-', b'$', amount @ ..] => (Some(b'-'), amount),
        [b'$', amount @ ..] => (None, amount),
        _ => return Err(Malformed),
    };
    let (units, [b'.', c1, c2]) = amount.split_last_chunk().ok_or(Malformed)? else { return Err(Malformed) };
    let is_grouped = units.rsplit(|byte| *byte == b',').enumerate().all(|(place, group)| {
        let is_first = place == units.iter().filter(|byte| **byte == b',').count();
        group.len() == 3 || is_first && (1..3).contains(&group.len())
    });
    // The sign comes along: the most negative amount has no positive counterpart.
    let digits = units.iter().filter(|byte| **byte != b',').chain([c1, c2]).copied();
    let digits: Vec<u8> = sign.into_iter().chain(digits).collect();
    if is_grouped { text::int64(&digits) } else { Err(Malformed) }
}

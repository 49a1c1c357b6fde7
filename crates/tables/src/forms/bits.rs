//! Bit strings.
//!
//! Owns: `bit` and `varbit`, as digits and as bytes, the most significant bit first.
//! Does not: read them as numbers.
//! Holds: the width is kept by the text; bytes end in zero bits.
//! Fails: [`Malformed`] on bytes that are not as many as the bits need, or other digits.

use crate::binary::take;
use crate::text::Malformed;

/// Writes a digit a bit.
pub(crate) fn bits(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    let (width, packed) = read(bytes)?;
    let digits = packed
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |place| if byte >> place & 1 == 1 { b'1' } else { b'0' }));
    text.extend(digits.take(width));
    Ok(())
}

/// The bytes of a send form.
pub(crate) fn bytes_from_binary(bytes: &[u8]) -> Result<&[u8], Malformed> {
    read(bytes).map(|(_, packed)| packed)
}

/// The number of bits of a send form.
pub(crate) fn width_from_binary(bytes: &[u8]) -> Result<usize, Malformed> {
    read(bytes).map(|(width, _)| width)
}

/// Writes the bytes of a text.
pub(crate) fn bytes_from_text(text: &[u8], packed: &mut Vec<u8>) -> Result<(), Malformed> {
    for digits in text.chunks(8) {
        let mut byte = 0_u8;
        for digit in digits {
            byte = match digit {
                b'0' => byte << 1,
                b'1' => byte << 1 | 1,
                _ => return Err(Malformed),
            };
        }
        // Only the last byte has fewer than eight.
        packed.push((digits.len()..8).fold(byte, |byte, _| byte << 1));
    }
    Ok(())
}

/// The number of bits, and the bytes that hold them.
fn read(bytes: &[u8]) -> Result<(usize, &[u8]), Malformed> {
    let mut packed = bytes;
    let width = i32::from_be_bytes(take(&mut packed)?);
    let width = usize::try_from(width).map_err(|_| Malformed)?;
    let padding = packed.len().checked_mul(8).and_then(|bits| bits.checked_sub(width)).ok_or(Malformed)?;
    let is_padded =
        packed.last().is_none_or(|last| last.trailing_zeros() >= u32::try_from(padding).unwrap_or(8));
    (padding < 8 && is_padded).then_some((width, packed)).ok_or(Malformed)
}

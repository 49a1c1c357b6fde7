//! pgvector.
//!
//! Owns: `vector`, `halfvec` and `sparsevec`: their floats from text and from binary, and their text.
//! Does not: keep halves as halves; single precision has every one of them.
//! Holds: a float is the one that the server has, to the bit. A subscript is that of the text, from 1 on.
//! Fails: [`Malformed`] on elements that are not as many as announced.

use crate::binary::{render_float, take, write};
use crate::text::{self, Malformed, split_once};

/// Writes `[1,2.5]`.
pub(crate) fn vector(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    render_floats(vector_from_binary(bytes)?, text);
    Ok(())
}

/// Writes `[1,2.5]`.
pub(crate) fn halfvec(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    render_floats(halfvec_from_binary(bytes)?, text);
    Ok(())
}

fn render_floats(floats: impl Iterator<Item = f32>, text: &mut Vec<u8>) {
    text.push(b'[');
    for (place, float) in floats.enumerate() {
        if place > 0 {
            text.push(b',');
        }
        render_float(float, text);
    }
    text.push(b']');
}

/// The floats of a `vector`'s send form.
pub(crate) fn vector_from_binary(bytes: &[u8]) -> Result<impl Iterator<Item = f32>, Malformed> {
    elements::<4>(bytes).map(|elements| elements.iter().map(|element| f32::from_be_bytes(*element)))
}

/// The floats of a `halfvec`'s send form.
pub(crate) fn halfvec_from_binary(bytes: &[u8]) -> Result<impl Iterator<Item = f32>, Malformed> {
    elements::<2>(bytes)
        .map(|elements| elements.iter().map(|element| float_of_half(u16::from_be_bytes(*element))))
}

/// The elements behind their number and two bytes that are unused.
fn elements<const N: usize>(bytes: &[u8]) -> Result<&[[u8; N]], Malformed> {
    let mut rest = bytes;
    let dimensions = u16::from_be_bytes(take(&mut rest)?);
    let _: [u8; 2] = take(&mut rest)?;
    let (elements, odd) = rest.as_chunks::<N>();
    (odd.is_empty() && elements.len() == usize::from(dimensions)).then_some(elements).ok_or(Malformed)
}

/// The floats of the text of a `vector` or a `halfvec`.
pub(crate) fn floats_from_text(
    text: &[u8],
) -> Result<impl Iterator<Item = Result<f32, Malformed>>, Malformed> {
    let [b'[', floats @ .., b']'] = text else { return Err(Malformed) };
    // There is no vector without an element, and no float without a digit.
    Ok(floats.split(|byte| *byte == b',').map(text::float32))
}

/// The same number in single precision.
fn float_of_half(half: u16) -> f32 {
    let sign = if half & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = half >> 10 & 0x1F;
    let fraction = f32::from(half & 0x03FF);
    match exponent {
        // 2^-24 is the unit of what lies below the least exponent.
        0 => sign * fraction * f32::from_bits(0x3380_0000),
        0x1F if fraction == 0.0 => sign * f32::INFINITY,
        0x1F => f32::NAN,
        // 1023 significant units at an exponent of 25 - 15 - 10; a power of two loses nothing.
        _ => sign * (1024.0 + fraction) * f32::from_bits((u32::from(exponent) + 127 - 25) << 23),
    }
}

/// A vector that is mostly zero.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sparse {
    pub(crate) dimensions: i32,
    /// Subscripts, the first is 1, and their values.
    pub(crate) elements: Vec<(i32, f32)>,
}

impl Sparse {
    pub(crate) fn from_binary(bytes: &[u8]) -> Result<Sparse, Malformed> {
        let mut rest = bytes;
        let dimensions = i32::from_be_bytes(take(&mut rest)?);
        let count = i32::from_be_bytes(take(&mut rest)?);
        let _: [u8; 4] = take(&mut rest)?;
        let (words, odd) = rest.as_chunks::<4>();
        let count = usize::try_from(count).map_err(|_| Malformed)?;
        let (subscripts, values) = words.split_at_checked(count).ok_or(Malformed)?;
        if !odd.is_empty() || values.len() != count {
            return Err(Malformed);
        }
        let elements = subscripts.iter().zip(values).map(|(subscript, value)| {
            let subscript = i32::from_be_bytes(*subscript).checked_add(1).ok_or(Malformed)?;
            Ok((subscript, f32::from_be_bytes(*value)))
        });
        Ok(Sparse { dimensions, elements: elements.collect::<Result<_, _>>()? })
    }

    pub(crate) fn from_text(text: &[u8]) -> Result<Sparse, Malformed> {
        let text = text.strip_prefix(b"{").ok_or(Malformed)?;
        let (elements, dimensions) = split_once(text, |byte| byte == b'}').ok_or(Malformed)?;
        let dimensions = text::int32(dimensions.strip_prefix(b"/").ok_or(Malformed)?)?;
        let elements = elements.split(|byte| *byte == b',').filter(|_| !elements.is_empty()).map(|element| {
            let (subscript, value) = split_once(element, |byte| byte == b':').ok_or(Malformed)?;
            Ok((text::int32(subscript)?, text::float32(value)?))
        });
        Ok(Sparse { dimensions, elements: elements.collect::<Result<_, _>>()? })
    }
}

/// Writes `{1:0.5,3:2}/5`.
pub(crate) fn sparsevec(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    let Sparse { dimensions, elements } = Sparse::from_binary(bytes)?;
    text.push(b'{');
    for (place, (subscript, value)) in elements.into_iter().enumerate() {
        if place > 0 {
            text.push(b',');
        }
        write(text, format_args!("{subscript}:"));
        render_float(value, text);
    }
    write(text, format_args!("}}/{dimensions}"));
    Ok(())
}

//! `cube`.
//!
//! Owns: `cube` in binary.
//! Does not: sort the corners; they are printed in the order they were given in.
//! Holds: a cube without extent is printed as the point that it is.
//! Fails: [`Malformed`] on coordinates that are not as many as the dimensions need.

use crate::binary::{render_float, take};
use crate::text::Malformed;

/// Writes `(1, 2),(3, 4)`, or `(1, 2)` of a point.
pub(crate) fn cube(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut rest = bytes;
    let header = u32::from_be_bytes(take(&mut rest)?);
    let is_point = header & IS_POINT != 0;
    let dimensions = usize::try_from(header & !IS_POINT).map_err(|_| Malformed)?;
    let (coordinates, odd) = rest.as_chunks::<8>();
    let (lower, upper) = coordinates.split_at_checked(dimensions).ok_or(Malformed)?;
    let corner = if is_point { 0 } else { dimensions };
    if !odd.is_empty() || upper.len() != corner || dimensions > DIMENSIONS_MAX {
        return Err(Malformed);
    }
    render_corner(lower, text);
    // Before 9.4 no cube was marked as a point.
    let is_flat = lower
        .iter()
        .zip(upper)
        .all(|(lower, upper)| f64::from_be_bytes(*lower) == f64::from_be_bytes(*upper));
    if !is_flat {
        text.push(b',');
        render_corner(upper, text);
    }
    Ok(())
}

fn render_corner(coordinates: &[[u8; 8]], text: &mut Vec<u8>) {
    text.push(b'(');
    for (place, coordinate) in coordinates.iter().enumerate() {
        if place > 0 {
            text.extend_from_slice(b", ");
        }
        render_float(f64::from_be_bytes(*coordinate), text);
    }
    text.push(b')');
}

/// `POINT_BIT`
const IS_POINT: u32 = 0x8000_0000;

/// `CUBE_MAX_DIM`
const DIMENSIONS_MAX: usize = 100;

//! Times of day with an offset.
//!
//! Owns: `timetz` in binary.
//! Does not: move a time to UTC; the offset is part of the value.
//! Holds: the offset is exact to its second.
//! Fails: [`Malformed`] on a time past 24:00:00, or an offset of sixteen hours or more.

use crate::binary::{render_clock, take, write};
use crate::text::{MICROS_PER_DAY, Malformed, clock_text};

/// Writes `HH:MM:SS[.f…]±HH[:MM[:SS]]`.
pub(crate) fn timetz(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut rest = bytes;
    let micros = i64::from_be_bytes(take(&mut rest)?);
    // Seconds west of UTC, the other way round than they are printed.
    let west = i32::from_be_bytes(take(&mut rest)?);
    let seconds = west.unsigned_abs();
    let is_timetz =
        rest.is_empty() && (0..=MICROS_PER_DAY).contains(&micros) && seconds < OFFSET_HOURS_MAX * 3600;
    if !is_timetz {
        return Err(Malformed);
    }
    render_clock(&clock_text(micros), text);
    let sign = if west <= 0 { '+' } else { '-' };
    write(text, format_args!("{sign}{:02}", seconds / 3600));
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    if minutes != 0 || seconds != 0 {
        write(text, format_args!(":{minutes:02}"));
    }
    if seconds != 0 {
        write(text, format_args!(":{seconds:02}"));
    }
    Ok(())
}

/// `MAX_TZDISP_HOUR`, and the hour that it does not reach.
const OFFSET_HOURS_MAX: u32 = 15 + 1;

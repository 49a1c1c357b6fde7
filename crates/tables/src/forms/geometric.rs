//! The geometric types that are built in.
//!
//! Owns: `point`, `line`, `lseg`, `box`, `path`, `polygon` and `circle`.
//! Does not: know PostGIS (`postgis`).
//! Holds: every coordinate has the shortest digits that read back the same.
//! Fails: [`Malformed`] on bytes that are not as many as the shape needs.

use crate::binary::{render_float, take, whole};
use crate::text::{self, Malformed};

/// A pair of coordinates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) x: f64,
    pub(crate) y: f64,
}

impl Point {
    pub(crate) fn from_binary(bytes: &[u8]) -> Result<Point, Malformed> {
        let mut rest = bytes;
        let point = Point::take(&mut rest)?;
        rest.is_empty().then_some(point).ok_or(Malformed)
    }

    pub(crate) fn from_text(text: &[u8]) -> Result<Point, Malformed> {
        let [b'(', coordinates @ .., b')'] = text else { return Err(Malformed) };
        let (x, y) = text::split_once(coordinates, |byte| byte == b',').ok_or(Malformed)?;
        Ok(Point { x: text::float64(x)?, y: text::float64(y)? })
    }

    fn take(rest: &mut &[u8]) -> Result<Point, Malformed> {
        Ok(Point { x: f64::from_be_bytes(take(rest)?), y: f64::from_be_bytes(take(rest)?) })
    }

    fn render(self, text: &mut Vec<u8>) {
        text.push(b'(');
        render_floats(&[self.x, self.y], text);
        text.push(b')');
    }
}

fn render_floats(floats: &[f64], text: &mut Vec<u8>) {
    for (place, float) in floats.iter().enumerate() {
        if place > 0 {
            text.push(b',');
        }
        render_float(*float, text);
    }
}

/// Writes `(x,y)`.
pub(crate) fn point(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    Point::from_binary(bytes)?.render(text);
    Ok(())
}

/// Writes `{a,b,c}`.
pub(crate) fn line(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut rest = bytes;
    let [a, b, c] = [take(&mut rest)?, take(&mut rest)?, whole(rest)?].map(f64::from_be_bytes);
    text.push(b'{');
    render_floats(&[a, b, c], text);
    text.push(b'}');
    Ok(())
}

/// Writes `[(x1,y1),(x2,y2)]`.
pub(crate) fn lseg(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    text.push(b'[');
    points(bytes, 2, text)?;
    text.push(b']');
    Ok(())
}

/// Writes `(x1,y1),(x2,y2)`, of which the first is the upper right corner.
pub(crate) fn r#box(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    points(bytes, 2, text)
}

/// Writes points in parentheses if the path is closed, in brackets if it is open.
pub(crate) fn path(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut rest = bytes;
    let (start, end) = match take(&mut rest)? {
        [0] => (b'[', b']'),
        [1] => (b'(', b')'),
        _ => return Err(Malformed),
    };
    let count = u32::from_be_bytes(take(&mut rest)?);
    text.push(start);
    points(rest, count, text)?;
    text.push(end);
    Ok(())
}

/// Writes points in parentheses.
pub(crate) fn polygon(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut rest = bytes;
    let count = u32::from_be_bytes(take(&mut rest)?);
    text.push(b'(');
    points(rest, count, text)?;
    text.push(b')');
    Ok(())
}

/// Writes `<(x,y),r>`.
pub(crate) fn circle(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut rest = bytes;
    let center = Point::take(&mut rest)?;
    let radius = f64::from_be_bytes(whole(rest)?);
    text.push(b'<');
    center.render(text);
    text.push(b',');
    render_float(radius, text);
    text.push(b'>');
    Ok(())
}

/// Writes the points that the bytes are, with commas between.
fn points(bytes: &[u8], count: u32, text: &mut Vec<u8>) -> Result<(), Malformed> {
    let (points, odd) = bytes.as_chunks::<16>();
    if !odd.is_empty() || u32::try_from(points.len()) != Ok(count) {
        return Err(Malformed);
    }
    for (place, point) in points.iter().enumerate() {
        if place > 0 {
            text.push(b',');
        }
        Point::from_binary(point)?.render(text);
    }
    Ok(())
}

//! PostGIS geometries and geographies.
//!
//! Owns: the text of their EWKB, and the way from EWKB to ISO WKB and an SRID.
//! Does not: know what a coordinate means; the bits of every float are kept, those of NaN too.
//! Holds: what comes out is little-endian and as long as what went in, but for the SRID. Empty parts of a collection stay.
//! Fails: [`Malformed`] on bytes that are not one geometry; a kind of geometry that we do not know is [`Held::Nothing`].

use crate::binary::take;
use crate::text::{Held, Malformed, hex_digit};

/// Writes EWKB in upper-case hexadecimal digits.
pub(crate) fn ewkb(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    text.extend(
        bytes.iter().flat_map(|byte| crate::binary::hex(*byte)).map(|digit| digit.to_ascii_uppercase()),
    );
    Ok(())
}

/// Writes the EWKB of a text.
pub(crate) fn ewkb_from_text(text: &[u8], ewkb: &mut Vec<u8>) -> Result<(), Malformed> {
    let (pairs, odd) = text.as_chunks::<2>();
    if !odd.is_empty() {
        return Err(Malformed);
    }
    for [high, low] in pairs {
        match (hex_digit(*high), hex_digit(*low)) {
            (high @ 0..=0x0F, low @ 0..=0x0F) => ewkb.push(high << 4 | low),
            _ => return Err(Malformed),
        }
    }
    Ok(())
}

/// Writes EWKB as ISO WKB, and gives its SRID, 0 if it has none.
pub(crate) fn iso_wkb(ewkb: &[u8], wkb: &mut Vec<u8>) -> Result<Held<i32>, Malformed> {
    let mut rest = ewkb;
    let mut srid = None;
    // How many geometries are still to come, of the outermost collection first.
    let mut pending = vec![1_u32];
    while let Some(left) = pending.last_mut() {
        let Some(after) = left.checked_sub(1) else {
            pending.pop();
            continue;
        };
        *left = after;
        let header = Header::take(&mut rest)?;
        srid.get_or_insert(header.srid);
        let Some(kind) = header.kind() else { return Ok(Held::Nothing(crate::types::Loss::Shape)) };
        wkb.push(LITTLE_ENDIAN);
        wkb.extend_from_slice(&header.iso_code().to_le_bytes());
        match kind {
            Kind::Point => header.order.copy_coordinates(header.dimensions(), &mut rest, wkb)?,
            Kind::Line => header.copy_line(&mut rest, wkb)?,
            Kind::Polygon => {
                for _ in 0..header.order.copy_count(&mut rest, wkb)? {
                    header.copy_line(&mut rest, wkb)?;
                }
            }
            Kind::Collection => pending.push(header.order.copy_count(&mut rest, wkb)?),
        }
    }
    if rest.is_empty() { Ok(Held::Exact(srid.unwrap_or(0))) } else { Err(Malformed) }
}

/// What stands before every geometry, also before those of a collection.
struct Header {
    order: ByteOrder,
    /// Without flags.
    code: u32,
    has_z: bool,
    has_m: bool,
    srid: i32,
}

/// How a geometry goes on behind its header.
enum Kind {
    /// Coordinates.
    Point,
    /// A number of points.
    Line,
    /// A number of lines.
    Polygon,
    /// A number of geometries.
    Collection,
}

impl Header {
    fn take(rest: &mut &[u8]) -> Result<Header, Malformed> {
        let order = match take(rest)? {
            [0] => ByteOrder::Big,
            [LITTLE_ENDIAN] => ByteOrder::Little,
            _ => return Err(Malformed),
        };
        let code = order.word(take(rest)?);
        let srid = if code & HAS_SRID == 0 { 0 } else { order.word(take(rest)?).cast_signed() };
        let (has_z, has_m) = (code & HAS_Z != 0, code & HAS_M != 0);
        Ok(Header { order, code: code & !(HAS_Z | HAS_M | HAS_SRID), has_z, has_m, srid })
    }

    fn kind(&self) -> Option<Kind> {
        match self.code {
            1 => Some(Kind::Point),
            // LineString and CircularString.
            2 | 8 => Some(Kind::Line),
            // Polygon and Triangle, which has one ring.
            3 | 17 => Some(Kind::Polygon),
            // MultiPoint, MultiLineString, MultiPolygon, GeometryCollection, CompoundCurve, CurvePolygon, MultiCurve,
            // MultiSurface, PolyhedralSurface and TIN.
            4..=7 | 9..=12 | 15 | 16 => Some(Kind::Collection),
            _ => None,
        }
    }

    /// ISO 13249-3 has thousands where EWKB has flags.
    fn iso_code(&self) -> u32 {
        self.code + if self.has_z { 1000 } else { 0 } + if self.has_m { 2000 } else { 0 }
    }

    /// Floats of a point.
    fn dimensions(&self) -> usize {
        2 + usize::from(self.has_z) + usize::from(self.has_m)
    }

    fn copy_line(&self, rest: &mut &[u8], wkb: &mut Vec<u8>) -> Result<(), Malformed> {
        let points = self.order.copy_count(rest, wkb)?;
        let floats = usize::try_from(points).ok().and_then(|points| points.checked_mul(self.dimensions()));
        self.order.copy_coordinates(floats.ok_or(Malformed)?, rest, wkb)
    }
}

#[derive(Clone, Copy)]
enum ByteOrder {
    Big,
    Little,
}

impl ByteOrder {
    fn word(self, bytes: [u8; 4]) -> u32 {
        match self {
            ByteOrder::Big => u32::from_be_bytes(bytes),
            ByteOrder::Little => u32::from_le_bytes(bytes),
        }
    }

    fn copy_count(self, rest: &mut &[u8], wkb: &mut Vec<u8>) -> Result<u32, Malformed> {
        let count = self.word(take(rest)?);
        wkb.extend_from_slice(&count.to_le_bytes());
        Ok(count)
    }

    fn copy_coordinates(self, floats: usize, rest: &mut &[u8], wkb: &mut Vec<u8>) -> Result<(), Malformed> {
        let size = floats.checked_mul(8).ok_or(Malformed)?;
        let (coordinates, after) = rest.split_at_checked(size).ok_or(Malformed)?;
        *rest = after;
        match self {
            ByteOrder::Little => wkb.extend_from_slice(coordinates),
            ByteOrder::Big => {
                let (floats, _) = coordinates.as_chunks::<8>();
                wkb.extend(floats.iter().flat_map(|float| float.iter().rev()));
            }
        }
        Ok(())
    }
}

const LITTLE_ENDIAN: u8 = 1;
const HAS_Z: u32 = 0x8000_0000;
const HAS_M: u32 = 0x4000_0000;
const HAS_SRID: u32 = 0x2000_0000;

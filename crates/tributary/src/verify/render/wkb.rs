//! Geometries: ISO WKB, as the lake has it, as the EWKB that PostGIS prints.
//!
//! Owns: the change of the type codes, and the spatial reference of the column.
//! Does not: look at coordinates.
//! Holds: every geometry within another one has its own code; only the outermost has the reference.
//! Fails: `None` for what is no geometry.

/// EWKB in little-endian order of a geometry with this spatial reference; 0 for none.
pub(super) fn ewkb(iso: &[u8], srid: i32) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(iso.len() + 4);
    let rest = geometry(iso, Some(srid).filter(|srid| *srid != 0), 0, &mut out)?;
    rest.is_empty().then_some(out)
}

fn geometry<'a>(bytes: &'a [u8], srid: Option<i32>, depth: u32, out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (order, rest) = bytes.split_first()?;
    let (code, mut rest) = number(rest)?;
    if *order != 1 || depth > DEPTH_MAX {
        return None;
    }
    let (kind, dimensions) = (code % 1_000, code / 1_000);
    let (has_z, has_m) = (matches!(dimensions, 1 | 3), matches!(dimensions, 2 | 3));
    let flags = u32::from(has_z) << 31 | u32::from(has_m) << 30 | u32::from(srid.is_some()) << 29;
    out.push(1);
    out.extend((kind | flags).to_le_bytes());
    out.extend(srid.into_iter().flat_map(i32::to_le_bytes));
    let point = 8 * (2 + usize::from(has_z) + usize::from(has_m));
    match kind {
        1 => copy(rest, point, out),
        // A line, a circular one.
        2 | 8 => points(rest, point, out),
        // Polygons and triangles: rings of points.
        3 | 17 => {
            let count = counted(&mut rest, out)?;
            (0..count).try_fold(rest, |rest, _| points(rest, point, out))
        }
        // Whatever is made of geometries.
        4..=7 | 9..=12 | 15 | 16 => {
            let count = counted(&mut rest, out)?;
            (0..count).try_fold(rest, |rest, _| geometry(rest, None, depth + 1, out))
        }
        _ => None,
    }
}

fn points<'a>(bytes: &'a [u8], point: usize, out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let mut rest = bytes;
    let count = counted(&mut rest, out)?;
    copy(rest, usize::try_from(count).ok()?.checked_mul(point)?, out)
}

fn counted(rest: &mut &[u8], out: &mut Vec<u8>) -> Option<u32> {
    let (count, after) = number(rest)?;
    out.extend(count.to_le_bytes());
    *rest = after;
    Some(count)
}

fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*number), rest))
}

fn copy<'a>(bytes: &'a [u8], length: usize, out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    out.extend_from_slice(taken);
    Some(rest)
}

const DEPTH_MAX: u32 = 32;

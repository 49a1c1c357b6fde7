//! Numbers and tables as people read them.
//!
//! Owns: column layout and units.
//! Does not: know what is shown.
//! Holds: output is the same for the same input.
//! Fails: never.

use crate::config::ByteSize;

/// Rows under a header, in columns; the first is aligned to the left, the others by `right`.
pub(super) fn columns(header: &[&str], right: &[usize], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|name| name.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let header: Vec<String> = header.iter().map(|name| (*name).to_owned()).collect();
    for row in std::iter::once(&header).chain(rows) {
        let mut line = String::from(" ");
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
            let (before, after) =
                if right.contains(&column) { (padding.as_str(), "") } else { ("", padding.as_str()) };
            line.push_str(&format!(" {before}{cell}{after} "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// `1,234,567`
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `12.3 MiB`
pub(crate) fn bytes(bytes: u64) -> String {
    ByteSize::new(bytes).rounded()
}

/// `1 h 2 min`
pub(crate) fn duration(seconds: u64) -> String {
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

/// `#####---------------`
pub(super) fn bar(percent: f64) -> String {
    (0_u8..20).map(|step| if f64::from(step) * 5.0 < percent { '#' } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            (grouped(0), grouped(999), grouped(1_234_567)),
            ("0".into(), "999".into(), "1,234,567".into())
        );
        assert_eq!(
            (bytes(1_023), bytes(1_536), bytes(5 << 30)),
            ("1023 B".into(), "1.5 KiB".into(), "5.0 GiB".into())
        );
        assert_eq!(
            (duration(59), duration(61), duration(90_000)),
            ("59 s".into(), "1 min 1 s".into(), "25 h 0 min".into())
        );
        assert_eq!((bar(0.0).matches('#').count(), bar(100.0).matches('#').count()), (0, 20));
    }

    #[test]
    fn columns_line_up() {
        let rows =
            vec![vec!["public.a".to_owned(), "5".to_owned()], vec!["b".to_owned(), "1,000".to_owned()]];
        assert_eq!(
            columns(&["table", "rows"], &[1], &rows),
            "  table      rows\n  public.a      5\n  b         1,000\n"
        );
    }
}

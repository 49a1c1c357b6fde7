//! The stream that the rows come in: what Postgres 18 sends of bench/workloads, in binary.
//!
//! Owns: the bytes of narrow and of wide rows, as a function of their number.
//! Does not: use the encoder that tests have, which the daemon is built without: then these are the daemon's own crates, feature by feature.
//! Holds: the same bytes every time. There are more rows than a dictionary page holds, so that ids and texts leave it as they do in the field.
//! Fails: never.

use std::ops::Range;

/// The OID of the table.
pub(crate) const RELATION: u32 = 16_384;

/// A table and how its rows look.
pub(crate) struct Shape {
    columns: Vec<Column>,
    rows: u64,
    rows_in_transaction: u64,
    cells: fn(u64, &mut Cells<'_>),
}

struct Column {
    name: String,
    type_oid: u32,
    type_modifier: i32,
}

/// All frames of a stream, one after the other.
pub(crate) struct Wire {
    relation: Vec<u8>,
    bytes: Vec<u8>,
    frames: Vec<Range<usize>>,
}

impl Wire {
    /// What announces the table.
    pub(crate) fn relation(&self) -> &[u8] {
        &self.relation
    }

    /// Whole transactions.
    pub(crate) fn frames(&self) -> impl Iterator<Item = &[u8]> {
        self.frames.iter().filter_map(|range| self.bytes.get(range.clone()))
    }
}

impl Shape {
    /// Events or orders, 1,000 a transaction.
    pub(crate) fn narrow() -> Shape {
        let columns = [
            ("id", INT8),
            ("tenant_id", INT4),
            ("created_at", TIMESTAMPTZ),
            ("amount", NUMERIC),
            ("status", TEXT),
            ("note", TEXT),
        ];
        let columns =
            columns.into_iter().map(|(name, type_oid)| column(name.to_owned(), type_oid, 12, 2)).collect();
        Shape { columns, rows: 65_536, rows_in_transaction: 1_000, cells: narrow_row }
    }

    /// 100 columns of ten types and a document of about 1 KB, 100 rows a transaction.
    pub(crate) fn wide() -> Shape {
        let middle = (1..100_usize).zip(WIDE_TYPES.into_iter().cycle().skip(1));
        let mut columns = vec![column("id".to_owned(), INT8, 0, 0)];
        columns.extend(middle.map(|(number, type_oid)| column(format!("c{number}"), type_oid, 14, 4)));
        columns.push(column("doc".to_owned(), JSONB, 0, 0));
        Shape { columns, rows: 4_096, rows_in_transaction: 100, cells: wide_row }
    }

    /// The stream of all rows.
    pub(crate) fn wire(&self) -> Wire {
        let mut wire = Wire { relation: self.relation(), bytes: Vec::new(), frames: Vec::new() };
        let mut first = 1;
        while first <= self.rows {
            let last = self.rows.min(first + self.rows_in_transaction - 1);
            let commit_lsn = first * 256;
            wire.push(|bytes| {
                bytes.push(b'B');
                bytes.extend(commit_lsn.to_be_bytes());
                bytes.extend(COMMIT_TIME.to_be_bytes());
                bytes.extend(700_u32.to_be_bytes());
            });
            for number in first..=last {
                wire.push(|bytes| self.insert(number, bytes));
            }
            wire.push(|bytes| {
                bytes.extend([b'C', 0]);
                bytes.extend(commit_lsn.to_be_bytes());
                bytes.extend((commit_lsn + 48).to_be_bytes());
                bytes.extend(COMMIT_TIME.to_be_bytes());
            });
            first = last + 1;
        }
        wire
    }

    fn relation(&self) -> Vec<u8> {
        let mut bytes = vec![b'R'];
        bytes.extend(RELATION.to_be_bytes());
        bytes.extend(b"public\0bench\0d");
        bytes.extend(u16::try_from(self.columns.len()).expect("a hundred columns").to_be_bytes());
        for column in &self.columns {
            bytes.push(u8::from(column.name == "id"));
            bytes.extend(column.name.as_bytes());
            bytes.push(0);
            bytes.extend(column.type_oid.to_be_bytes());
            bytes.extend(column.type_modifier.to_be_bytes());
        }
        bytes
    }

    fn insert(&self, number: u64, bytes: &mut Vec<u8>) {
        bytes.push(b'I');
        bytes.extend(RELATION.to_be_bytes());
        bytes.push(b'N');
        bytes.extend(u16::try_from(self.columns.len()).expect("a hundred columns").to_be_bytes());
        (self.cells)(number, &mut Cells { bytes });
    }
}

impl Wire {
    fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let begin = self.bytes.len();
        write(&mut self.bytes);
        self.frames.push(begin..self.bytes.len());
    }
}

/// The cells of a row, in their types' send forms.
struct Cells<'b> {
    bytes: &'b mut Vec<u8>,
}

impl Cells<'_> {
    fn push(&mut self, value: &[u8]) {
        self.bytes.push(b'b');
        self.bytes.extend(u32::try_from(value.len()).expect("a small cell").to_be_bytes());
        self.bytes.extend(value);
    }

    /// `units` of 10 to the minus `scale`, which is 2 or 4; less than 10,000 in all.
    fn numeric(&mut self, units: u64, scale: u16) {
        let (one, rest) = if scale == 2 { (100, 100) } else { (10_000, 1) };
        // Digits to the base of 10,000; zeros at either end are not sent.
        let digits = [units / one, units % one * rest].map(|digit| u16::try_from(digit).expect("a digit"));
        let (weight, sent): (i16, &[u16]) = match digits {
            [0, 0] => (0, &[]),
            [0, after] => (-1, &[after]),
            [before, 0] => (0, &[before]),
            [before, after] => (0, &[before, after]),
        };
        let mut value = Vec::with_capacity(12);
        value.extend(u16::try_from(sent.len()).expect("two at most").to_be_bytes());
        value.extend(weight.to_be_bytes());
        value.extend(0_u16.to_be_bytes());
        value.extend(scale.to_be_bytes());
        sent.iter().for_each(|digit| value.extend(digit.to_be_bytes()));
        self.push(&value);
    }
}

fn narrow_row(number: u64, cells: &mut Cells<'_>) {
    let mixed = number * 7919;
    cells.push(&number.to_be_bytes());
    cells.push(&low_u32(mixed % 2000).to_be_bytes());
    cells.push(&(JANUARY + number * 137_000).to_be_bytes());
    cells.numeric(mixed % 1_000_000, 2);
    let statuses = ["new", "paid", "packed", "shipped", "delivered", "returned"];
    let status = statuses
        .into_iter()
        .cycle()
        .nth(usize::try_from(number % 6).expect("less than 6"))
        .unwrap_or_default();
    cells.push(status.as_bytes());
    cells.push(
        format!("note {}{} {:.22}", hex(number), hex(number + LARGE), hex(number + 2 * LARGE) + "0123456")
            .as_bytes(),
    );
}

fn wide_row(number: u64, cells: &mut Cells<'_>) {
    cells.push(&number.to_be_bytes());
    for column in 1..100 {
        let at = number + column;
        match column % 10 {
            0 => cells.push(&low_u32(number * (31 + column) % 1_000_000).to_be_bytes()),
            1 => cells.push(&(number * 1_000_003 * column).to_be_bytes()),
            2 => cells.numeric(number * (7919 + column) % 100_000_000, 4),
            3 => cells.push(format!("text-{:.8}", hex(at)).as_bytes()),
            4 => cells.push(&(JANUARY + at * 137_000).to_be_bytes()),
            5 => cells.push(&low_u32(7305 + at % 2000).to_be_bytes()),
            6 => cells.push(&[u8::from(at.is_multiple_of(3))]),
            7 => cells.push(&(u128::from(mix(at)) << 64 | u128::from(mix(at + LARGE))).to_be_bytes()),
            8 => cells.push(&(f64::from(low_u32(at)) / 7.0).to_be_bytes()),
            _ => cells.push(&u16::try_from(at % 30_000).expect("small").to_be_bytes()),
        }
    }
    let body: Vec<String> =
        (0..26).map(|part| hex(number * 31 + part) + &hex(number * 31 + part + LARGE)).collect();
    let document = format!(
        "\u{1}{{\"k\": {number}, \"body\": \"{}\", \"tags\": [\"a\", \"b\", \"c\", {}], \
         \"user\": {{\"mail\": \"user{number}@example.test\", \"name\": \"user {number}\"}}}}",
        body.join(" "),
        number % 17
    );
    cells.push(document.as_bytes());
}

fn column(name: String, type_oid: u32, precision: i32, scale: i32) -> Column {
    let type_modifier = if type_oid == NUMERIC { (precision << 16 | scale) + 4 } else { -1 };
    Column { name, type_oid, type_modifier }
}

fn low_u32(number: u64) -> u32 {
    u32::try_from(number).expect("a small number")
}

/// 16 digits that look like chance.
fn hex(number: u64) -> String {
    format!("{:016x}", mix(number))
}

/// SplitMix64.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

const INT8: u32 = 20;
const INT4: u32 = 23;
const TEXT: u32 = 25;
const TIMESTAMPTZ: u32 = 1184;
const NUMERIC: u32 = 1700;
const JSONB: u32 = 3802;
/// int4, int8, numeric, text, timestamptz, date, bool, uuid, float8, int2.
const WIDE_TYPES: [u32; 10] = [INT4, INT8, NUMERIC, TEXT, TIMESTAMPTZ, 1082, 16, 2950, 701, 21];

/// 2026-01-01 in microseconds since 2000.
const JANUARY: u64 = 820_454_400_000_000;
/// When all transactions committed: one hour, so one file.
const COMMIT_TIME: u64 = JANUARY + 60_000_000;
/// Keeps what is derived of one number apart.
const LARGE: u64 = 1 << 40;

//! A cell of any type, in any form and format, lands or is refused: it never panics, and never takes much more memory than it has bytes.
//!
//! Three bytes choose the type, its modifier and its form in the lake; the rest is cells, each behind a byte for its format and a length of two.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use pgoutput::encode::TupleBuilder;
use pgoutput::{Lsn, Oid, Xid};
use tables::batch::BatchBuilder;
use tables::change::{Change, Image, Landing, Op, Plan, TableIndex, TxStamp};
use tables::schema::{ColumnSpec, TableSchema};
use tables::types::{Attribute, Resolved, TypeCatalog, TypeFacts, TypeKind, TypeRules};

fuzz_target!(|input: &[u8]| {
    let Some(([chosen, modifier, form], mut rest)) = input.split_first_chunk::<3>() else { return };
    let (resolved, modifier) = resolved(*chosen, *modifier, *form);
    let spec = ColumnSpec { name: "c".to_owned(), type_oid: Oid(0), type_modifier: modifier, resolved };
    let schema = Arc::new(TableSchema::new(&[spec], Vec::new()));
    let (columns, key) = (vec![0], Vec::new());
    let landing = Landing { schema: Arc::clone(&schema), columns, absent: vec![], key, old_is_whole: true };
    let plan = Plan::new("s.t", landing);
    let stamp = TxStamp { commit_lsn: Lsn(1), commit_time_unix_micros: 0, xid: Xid(1) };
    let mut builder = BatchBuilder::new(schema);
    let empty = builder.bytes();
    let mut landed = 0;
    while let Some(([format, high, low], after)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
        let (cell, after) = after.split_at(length);
        rest = after;
        let tuple = TupleBuilder::new();
        let tuple = if format & 1 == 0 { tuple.text(cell) } else { tuple.binary(cell) };
        let image = Image::Row { tuple: tuple.tuple(), fill: None };
        let change = Change { table: TableIndex(0), op: Op::Insert, seq: 1, plan: &plan, image };
        match builder.append(&stamp, &change) {
            Ok(_) => landed += 1,
            // What was refused leaves half a row: the daemon stops there.
            Err(error) => return assert!(!error.to_string().is_empty()),
        }
    }
    let bytes = builder.bytes().saturating_sub(empty);
    assert!(bytes <= ROW_BYTES * landed + FACTOR * input.len(), "{bytes} bytes of {}", input.len());
    assert_eq!(builder.rows(), landed);
    assert_eq!(builder.finish().expect("what landed can be built").num_rows(), landed);
});

/// A numeric of 8 bytes may have 131,072 digits before its point, and 16,383 behind it.
const ROW_BYTES: usize = 160_000;
/// An element of an array is at least 4 bytes, and a value in the lake with its offsets and the raw text some 40.
const FACTOR: usize = 64;

fn resolved(chosen: u8, modifier: u8, form: u8) -> (Resolved, i32) {
    let (types, oids) = &*TYPES;
    let oid = oids[usize::from(chosen) % oids.len()];
    let modifier = match modifier % 8 {
        // numeric(38, 10), numeric(3, 5), numeric(5, -2), and the length of a text.
        0 => (38 << 16 | 10) + 4,
        1 => (3 << 16 | 5) + 4,
        2 => (5 << 16 | (-2 & 0x7ff)) + 4,
        3 => 12,
        _ => -1,
    };
    let resolved = types.resolve(oid, modifier);
    let forms = tables::types::Form::all().filter_map(|form| resolved.codec.in_form(form)).collect::<Vec<_>>();
    let at = usize::from(form) % (forms.len() + 1);
    let codec = forms.get(at).unwrap_or(&resolved.codec).clone();
    (Resolved { lake: codec.lake(), codec, ..resolved }, modifier)
}

static TYPES: LazyLock<(TypeCatalog, Vec<Oid>)> = LazyLock::new(|| {
    let mut types = TypeCatalog::new(TypeRules::default());
    let base = |oid: u32, name: &str| TypeFacts {
        oid: Oid(oid),
        schema: "public".to_owned(),
        name: name.to_owned(),
        kind: TypeKind::Base { delimiter: b',', is_sent: true },
    };
    let extensions = [
        "hstore", "citext", "ltree", "lquery", "cube", "geometry", "geography", "vector", "halfvec", "sparsevec", "isbn13", "unheard_of",
    ];
    let mut oids: Vec<Oid> = (16..6200).map(Oid).filter(|oid| types.knows(*oid)).collect();
    for (oid, name) in (20_000..).zip(extensions) {
        types.learn(base(oid, name));
        oids.push(Oid(oid));
    }
    let attribute = |name: &str, oid: u32| Attribute { name: name.to_owned(), type_oid: Oid(oid), type_modifier: -1 };
    let made = [
        (30_000, "mood", TypeKind::Enum),
        (30_001, "pair", TypeKind::Composite { attributes: vec![attribute("a", 23), attribute("b", 25), attribute("c", 1007)] }),
        (30_002, "_pair", TypeKind::Array { element: Oid(30_001) }),
        (30_003, "deep", TypeKind::Composite { attributes: vec![attribute("p", 30_002), attribute("r", 3904), attribute("h", 20_000)] }),
        (30_004, "spread", TypeKind::Range { bound: Oid(1700) }),
        (30_005, "spreads", TypeKind::Multirange { range: Oid(30_004) }),
        (30_006, "_mood", TypeKind::Array { element: Oid(30_000) }),
        (30_007, "amount", TypeKind::Domain { base: Oid(1700), type_modifier: (10 << 16 | 2) + 4 }),
        (30_008, "_hstore", TypeKind::Array { element: Oid(20_000) }),
    ];
    for (oid, name, kind) in made {
        types.learn(TypeFacts { oid: Oid(oid), schema: "public".to_owned(), name: name.to_owned(), kind });
        oids.push(Oid(oid));
    }
    (types, oids)
});

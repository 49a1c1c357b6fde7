//! Values that an update left alone.
//!
//! Owns: finding the rows that carry them, from key to key where rows moved, and reading them.
//! Does not: look at rows that have all their values.
//! Holds: the value is that of the latest earlier row of the same key that carries it. A row that came from another key (`I` that lacks a value) has it from
//! that key: the `D` right before it tells which.
//! Memory: a wish for each value that is looked for, and its cell, which is short.
//! Fails: as the store does. A value that no row carries is like no other.

use std::collections::{BTreeMap, HashMap};

use rustc_hash::FxHashMap;

use super::rows::{Cells, Markers, Rows, lost};
use super::{Folding, Last, Place, Position, Wanted};
use crate::error::Result;
use crate::verify::files::Broken;
use crate::verify::sums::Hash;

/// The cells that rows lack.
#[derive(Debug, Default)]
pub(super) struct Carried {
    cells: HashMap<(Place, usize), Vec<u8>>,
}

impl Carried {
    /// Puts them in.
    pub(super) fn fill(
        &self,
        rows: &Rows<'_>,
        row: usize,
        place: Place,
        cells: &mut Cells,
    ) -> Result<(), Broken> {
        let missing = rows.unchanged(row).into_iter();
        let found = missing.map(|at| (at, self.cells.get(&(place, at)).cloned().unwrap_or_else(lost)));
        cells.replace(&found.collect());
        Ok(())
    }
}

/// A value that is looked for.
#[derive(Clone, Copy, Debug)]
struct Wish {
    /// The row that lacks it, and which.
    of: (Place, usize),
    /// It is older than this.
    before: Position,
    /// The best so far.
    best: Option<(Position, Best)>,
}

#[derive(Clone, Copy, Debug)]
enum Best {
    /// A row that carries it.
    Carrier(Place),
    /// A row that came from another key without it.
    Moved,
}

/// Finds what the last rows of keys lack.
pub(super) async fn find(folding: &mut Folding<'_>, lasts: &FxHashMap<u128, Last>) -> Result<Carried> {
    let (mut by_key, mut moved) = wishes(folding, lasts).await?;
    let mut carriers: BTreeMap<u32, Vec<(u32, Wish)>> = BTreeMap::new();
    // A row that moved again and again takes two looks for each time.
    for _ in 0..MOVES_MAX {
        for (key, wish) in origins(folding, std::mem::take(&mut moved)).await? {
            by_key.entry(key).or_default().push(wish);
        }
        if by_key.is_empty() {
            break;
        }
        look(folding, &mut by_key).await?;
        for wish in std::mem::take(&mut by_key).into_values().flatten() {
            match wish.best {
                Some((_, Best::Carrier(place))) => {
                    carriers.entry(place.file).or_default().push((place.row, wish))
                }
                Some((position, Best::Moved)) => moved.push(Wish { before: position, best: None, ..wish }),
                None => {}
            }
        }
    }
    cells(folding, carriers).await
}

/// Of the rows that lack values, which. Those that moved are apart.
async fn wishes(
    folding: &mut Folding<'_>,
    lasts: &FxHashMap<u128, Last>,
) -> Result<(FxHashMap<Hash, Vec<Wish>>, Vec<Wish>)> {
    let mut wanted: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for last in lasts.values().filter(|last| last.has_unchanged && !last.is_deleted) {
        wanted.entry(last.place.file).or_default().push(last.place.row);
    }
    let keys = folding.columns(folding.table.key.iter().copied());
    let (mut by_key, mut moved): (FxHashMap<Hash, Vec<Wish>>, Vec<Wish>) = Default::default();
    let mut scratch = Vec::new();
    folding
        .scan(Wanted::rows(wanted), &keys, |rows, row, place| {
            let key = rows.key(row, &mut scratch)?;
            for at in rows.unchanged(row) {
                let wish = Wish { of: (place, at), before: rows.position(row), best: None };
                match rows.op(row) {
                    "I" => moved.push(wish),
                    _ => by_key.entry(key).or_default().push(wish),
                }
            }
            Ok(())
        })
        .await?;
    Ok((by_key, moved))
}

/// The keys that rows came from.
async fn origins(folding: &mut Folding<'_>, moved: Vec<Wish>) -> Result<Vec<(Hash, Wish)>> {
    let mut at: HashMap<Position, Vec<Wish>> = HashMap::new();
    for wish in moved {
        let origin = (wish.before.0, wish.before.1 - 1);
        at.entry(origin).or_default().push(Wish { before: origin, ..wish });
    }
    if at.is_empty() {
        return Ok(Vec::new());
    }
    let keys = folding.columns(folding.table.key.iter().copied());
    let may_have = |lsns: &[pgoutput::Lsn; 2]| {
        at.keys().any(|(lsn, _)| (lsns[0].0..=lsns[1].0).contains(&lsn.cast_unsigned()))
    };
    let files = folding.files.iter().enumerate().filter(|(_, file)| may_have(&file.lsns));
    let wanted = files.filter_map(|(at, _)| Wanted::all(at)).collect();
    let mut found = Vec::new();
    let mut scratch = Vec::new();
    folding
        .scan(wanted, &keys, |rows, row, _| {
            if rows.op(row) == "D"
                && let Some(wishes) = at.get(&rows.position(row))
            {
                let key = rows.key(row, &mut scratch)?;
                found.extend(wishes.iter().map(|wish| (key, *wish)));
            }
            Ok(())
        })
        .await?;
    Ok(found)
}

/// Looks for the rows that carry what is wished for, in all files.
async fn look(folding: &mut Folding<'_>, by_key: &mut FxHashMap<Hash, Vec<Wish>>) -> Result<()> {
    let keys = folding.columns(folding.table.key.iter().copied());
    let (table, seen) = (folding.table, folding.lake.seen);
    let markers: Markers = std::mem::take(&mut folding.markers);
    let every = (0..folding.files.len()).filter_map(Wanted::all).collect();
    let mut scratch = Vec::new();
    folding
        .scan(every, &keys, |rows, row, place| {
            let op = rows.op(row);
            if op == "D" || !rows.counts(table, seen, &markers, row) {
                return Ok(());
            }
            let key = rows.key(row, &mut scratch)?;
            let Some(wishes) = by_key.get_mut(&key) else { return Ok(()) };
            let position = rows.position(row);
            let unchanged = rows.unchanged(row);
            for wish in wishes.iter_mut().filter(|wish| position < wish.before) {
                let best = match unchanged.contains(&wish.of.1) {
                    false => Best::Carrier(place),
                    true if op == "I" => Best::Moved,
                    true => continue,
                };
                if wish.best.is_none_or(|(known, _)| known < position) {
                    wish.best = Some((position, best));
                }
            }
            Ok(())
        })
        .await?;
    folding.markers = markers;
    Ok(())
}

/// Reads the values.
async fn cells(folding: &mut Folding<'_>, carriers: BTreeMap<u32, Vec<(u32, Wish)>>) -> Result<Carried> {
    let columns: Vec<usize> = carriers.values().flatten().map(|(_, wish)| wish.of.1).collect();
    let fields = folding.columns(columns);
    let rows_of = |carriers: &Vec<(u32, Wish)>| carriers.iter().map(|(row, _)| *row).collect();
    let wanted = carriers.iter().map(|(file, carriers)| (*file, rows_of(carriers))).collect();
    let mut wishes: HashMap<Place, Vec<Wish>> = HashMap::new();
    for (file, of_file) in carriers {
        for (row, wish) in of_file {
            wishes.entry(Place { file, row }).or_default().push(wish);
        }
    }
    let mut carried = Carried::default();
    folding
        .scan(Wanted::rows(wanted), &fields, |rows, row, place| {
            for wish in wishes.get(&place).into_iter().flatten() {
                let mut cell = Vec::new();
                rows.append(wish.of.1, row, &mut cell)?;
                carried.cells.insert(wish.of, cell);
            }
            Ok(())
        })
        .await?;
    Ok(carried)
}

/// How often one row may change its key without one of its values being sent.
const MOVES_MAX: usize = 1_000;

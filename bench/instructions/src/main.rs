//! `instructions SHAPE STEP PASSES`: takes a row's way from the wire to Parquet, again and again, for callgrind to count.
//!
//! Owns: the two steps that are counted, with the sizes that the daemon works in.
//! Does not: measure anything, read, or write.
//! Holds: a pass more does exactly one pass more of the step, so that the difference of two counts has no start in it.
//! Fails: with what the daemon's own crates say; it has no input that could be wrong.

use std::hint::black_box;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use arrow::array::RecordBatch;
use lake::gauge::BATCH_BYTES;
use lake::parquet::Encoder;
use pgoutput::{Decoder, Oid, Options, ReplicaIdentity};
use tables::batch::BatchBuilder;
use tables::change::{Change, TxStamp};
use tables::fold::{ByTable, Fold, FoldSettings, Folded, Patterns, Selection};
use tables::lineage::{Facts, RootFacts};
use tables::types::TypeRules;

mod wire;

use wire::{Shape, Wire};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [shape, step, passes] = words.as_slice() else { bail!("usage: instructions SHAPE STEP PASSES") };
    let shape = match shape.as_str() {
        "narrow" => Shape::narrow(),
        "wide" => Shape::wide(),
        other => bail!("no shape {other}, only narrow and wide"),
    };
    let passes: usize = passes.parse().context("passes")?;
    let wire = shape.wire();
    let rows = match step.as_str() {
        "append" => append(&wire, passes)?,
        "encode" => encode(&wire, passes)?,
        other => bail!("no step {other}, only append and encode"),
    };
    println!("{}", rows / passes);
    Ok(())
}

/// From frames to batches: decode, fold, append, finish.
fn append(wire: &Wire, passes: usize) -> Result<usize> {
    let mut path = Path::new()?;
    let mut rows = 0;
    path.announce(wire)?;
    for _ in 0..passes {
        for frame in wire.frames() {
            if let Some(batch) = path.apply(frame)? {
                rows += black_box(batch).num_rows();
            }
        }
        rows += path.finish()?.map_or(0, |batch| black_box(batch).num_rows());
    }
    Ok(rows)
}

/// From batches to the bytes of one file.
fn encode(wire: &Wire, passes: usize) -> Result<usize> {
    let mut path = Path::new()?;
    path.announce(wire)?;
    let mut batches = Vec::new();
    for frame in wire.frames() {
        batches.extend(path.apply(frame)?);
    }
    batches.extend(path.finish()?);
    let first = batches.first().context("no batch")?;
    let mut encoder = Encoder::new(first, "public.bench", 1, PART_BYTES)?;
    let mut rows = 0;
    for batch in std::iter::repeat_n(&batches, passes).flatten() {
        encoder.write(batch)?;
        rows += batch.num_rows();
        while let Some(part) = encoder.take_part() {
            black_box(part);
        }
    }
    black_box(encoder.finish()?);
    Ok(rows)
}

/// What a row goes through in the daemon's loop, up to the encoder.
struct Path {
    decoder: Decoder,
    fold: Fold,
    stamp: Option<TxStamp>,
    builder: Option<BatchBuilder>,
}

impl Path {
    fn new() -> Result<Path> {
        let fold = Fold::new(FoldSettings {
            selection: Selection::new(&["*.*".to_owned()], &[])?,
            before: Selection::new(&[], &[])?,
            fold_to_root: true,
            patterns: Patterns::default(),
            mark_truncate: ByTable::same(true),
            types: TypeRules::default(),
        });
        let decoder = Decoder::new(Options { proto_version: 4, streaming_parallel: false });
        Ok(Path { decoder, fold, stamp: None, builder: None })
    }

    /// The relation, and what the catalogs say of it.
    fn announce(&mut self, wire: &Wire) -> Result<()> {
        let root = RootFacts {
            oid: Oid(wire::RELATION),
            schema: "public".to_owned(),
            name: "bench".to_owned(),
            primary_key: vec!["id".to_owned()],
            replica_identity: ReplicaIdentity::Default,
        };
        self.fold.learn(Facts { roots: vec![root], ..Facts::default() });
        self.apply(wire.relation())?;
        Ok(())
    }

    /// One frame, and the batch if it filled one.
    fn apply(&mut self, frame: &[u8]) -> Result<Option<RecordBatch>> {
        let message = self.decoder.decode(frame)?;
        loop {
            let asked = match self.fold.apply(&message)? {
                Folded::Nothing => return Ok(None),
                Folded::Begin(stamp) => {
                    self.stamp = Some(stamp);
                    return Ok(None);
                }
                Folded::Commit { .. } => {
                    self.stamp = None;
                    return Ok(None);
                }
                Folded::One(change) => {
                    let stamp = self.stamp.context("a row outside of a transaction")?;
                    return add(&mut self.builder, &stamp, &change);
                }
                Folded::NeedFacts { columns, .. } if !columns.is_empty() => columns,
                other => bail!("the stream holds nothing like {other:?}"),
            };
            let columns = asked.into_iter().map(|oid| (oid, Vec::new())).collect();
            self.fold.learn(Facts { columns, ..Facts::default() });
        }
    }

    fn finish(&mut self) -> Result<Option<RecordBatch>> {
        let filled = self.builder.as_mut().filter(|builder| builder.rows() > 0);
        Ok(filled.map(BatchBuilder::finish).transpose()?)
    }
}

/// As the buffers of the open cut do it.
fn add(
    builder: &mut Option<BatchBuilder>,
    stamp: &TxStamp,
    change: &Change<'_, '_>,
) -> Result<Option<RecordBatch>> {
    let builder = builder.get_or_insert_with(|| BatchBuilder::new(Arc::clone(&change.plan.schema)));
    builder.append(stamp, change)?;
    let is_full = builder.rows() >= BATCH_ROWS || builder.bytes() >= BATCH_BYTES;
    Ok(if is_full { Some(builder.finish_full()?) } else { None })
}

/// When the daemon hands a batch to its encoder.
const BATCH_ROWS: usize = 32_768;
/// `lake.s3.part_size` by default.
const PART_BYTES: usize = 8 << 20;

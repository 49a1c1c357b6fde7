use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const BLOCK: u64 = 8192;

fn relation(oid: u32, root: u32, blocks: u32, toast_bytes: u64) -> Relation {
    Relation {
        oid: Oid(oid),
        root: Oid(root),
        schema: "public".to_owned(),
        name: format!("t{oid}"),
        filenode: oid,
        blocks,
        heap_bytes: u64::from(blocks) * BLOCK,
        toast_bytes,
        rows: None,
        has_blocks: true,
    }
}

fn shown(tasks: &[Task]) -> Vec<String> {
    let piece = |piece: &Piece| match piece.blocks {
        Blocks::ALL => piece.relation.to_string(),
        Blocks { from, until: Some(until) } => format!("{}[{from}..{until}]", piece.relation),
        Blocks { from, until: None } => format!("{}[{from}..]", piece.relation),
    };
    tasks.iter().map(|task| task.pieces.iter().map(piece).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn big_relations_are_divided_and_small_ones_put_together() {
    let limits = Limits { bytes: 10 * BLOCK, relations: 3 };
    let small = |oid: u32, root: u32, blocks: u32| relation(oid, root, blocks, 0);
    for (relations, expected) in [
        (vec![], vec![]),
        (vec![small(1, 1, 0)], vec!["1"]),
        (vec![small(1, 1, 10)], vec!["1"]),
        (vec![small(1, 1, 11)], vec!["1[0..6]", "1[6..]"]),
        (vec![small(1, 1, 30)], vec!["1[0..10]", "1[10..20]", "1[20..]"]),
        // By the bytes beside the blocks as well; a single block is not divided.
        (vec![relation(1, 1, 4, 6 * BLOCK)], vec!["1"]),
        (vec![relation(1, 1, 4, 30 * BLOCK)], vec!["1[0..1]", "1[1..2]", "1[2..3]", "1[3..]"]),
        (vec![relation(1, 1, 4, 4000 * BLOCK)], vec!["1[0..1]", "1[1..2]", "1[2..3]", "1[3..]"]),
        (vec![relation(1, 1, 1, 4000 * BLOCK)], vec!["1"]),
        // By roots, whatever order they come in; each once.
        (
            vec![
                small(9, 2, 1),
                small(3, 7, 1),
                small(8, 2, 1),
                small(4, 7, 1),
                small(8, 2, 1),
                small(5, 7, 99),
            ],
            vec!["8 9 3", "4"],
        ),
        (vec![small(1, 1, 6), small(2, 1, 5), small(3, 1, 5)], vec!["1", "2 3"]),
    ] {
        let found = tasks(relations.clone(), limits);
        let found: Vec<String> = shown(&found).into_iter().filter(|task| !task.starts_with("5[")).collect();
        assert_eq!(found, expected, "{relations:?}");
    }
}

#[test]
fn blocks_that_mean_nothing_are_not_counted() {
    let mut foreign = relation(1, 1, 100, 0);
    foreign.has_blocks = false;
    assert_eq!(shown(&tasks(vec![foreign], Limits { bytes: BLOCK, relations: 1 })), ["1"]);
}

#[test]
fn the_largest_relation_there_can_be() {
    let limits = Limits::default();
    let tasks = tasks(vec![relation(1, 1, u32::MAX - 1, 0)], limits);
    assert_eq!(tasks.len(), 524_288);
    assert_eq!(tasks.last().unwrap().pieces[0].blocks.until, None);
}

proptest! {
    #[test]
    fn every_block_is_read_once(
        sizes in prop::collection::vec((0..3u32, 0..200u32, 0..200u64), 0..40),
        bytes in 1..60u64,
        relations_max in 1..9usize,
    ) {
        let limits = Limits { bytes: bytes * BLOCK, relations: relations_max };
        let relations: Vec<Relation> = sizes
            .iter()
            .zip(100u32..)
            .map(|((root, blocks, toast), oid)| relation(oid, *root, *blocks, toast * BLOCK))
            .collect();
        let found = tasks(relations.clone(), limits);
        let mut again = relations.clone();
        again.reverse();
        prop_assert_eq!(&tasks(again, limits), &found, "the order of relations matters");
        let mut pieces: BTreeMap<Oid, Vec<Blocks>> = BTreeMap::new();
        for task in &found {
            prop_assert!((1..=relations_max).contains(&task.pieces.len()));
            prop_assert_eq!(task.bytes, task.pieces.iter().map(|piece| piece.bytes).sum::<u64>());
            if task.pieces.len() > 1 {
                prop_assert!(task.bytes <= limits.bytes);
            }
            for piece in &task.pieces {
                pieces.entry(piece.relation).or_default().push(piece.blocks);
            }
        }
        prop_assert_eq!(pieces.len(), relations.len());
        for relation in &relations {
            let blocks = &pieces[&relation.oid];
            prop_assert_eq!(blocks[0].from, 0);
            prop_assert_eq!(blocks[blocks.len() - 1].until, None);
            for pair in blocks.windows(2) {
                prop_assert_eq!(pair[0].until, Some(pair[1].from));
                prop_assert!(pair[0].from < pair[1].from);
            }
            prop_assert!(blocks.iter().all(|piece| piece.from < relation.blocks.max(1)), "an empty piece");
            // About the limit, if its blocks can be told apart: no more than one block's share above it.
            let share = relation.bytes() / u64::from(relation.blocks.max(1));
            let longest = blocks.iter().map(|piece| piece.until.unwrap_or(relation.blocks) - piece.from).max().unwrap();
            prop_assert!(u64::from(longest.saturating_sub(1)) * share <= limits.bytes);
        }
    }
}

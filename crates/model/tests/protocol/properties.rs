//! What holds in every state, and what must be reachable, so that it does not hold of nothing.
//!
//! Owns: the invariants of ARCHITECTURE.md, as far as they are about the protocol, over the truth in the store.
//! Does not: trust what a writer believes, but to compare it with the truth.
//! Holds: I2 by construction, since a position of the model is the end of a transaction.
//! Fails: never; a property is false.

use std::collections::BTreeSet;

use stateright::Property;

use crate::Protocol;
use crate::world::{
    Attempt, Entry, Fold, Kind, Outcome, Phase, Position, Repair, RepairPhase, Rows, World, fold,
};

pub(crate) fn properties() -> Vec<Property<Protocol>> {
    vec![
        Property::always("I1 confirmed is published", confirmed_is_published),
        Property::always("I3 entries begin behind what is published", entries_follow_what_is_published),
        Property::always("I4 what is visible is logged", visible_is_logged),
        Property::always("I5 one writer an epoch, and none behind a newer one", epochs_have_one_writer),
        Property::always("the log has every transaction once", log_has_all_once),
        Property::always("a glob reader sees no row twice", nothing_is_visible_twice),
        Property::always("the watermark is published", watermark_is_published),
        Property::always("nobody stops without a cause", stops_have_a_cause),
        Property::always("a new writer can finish", Protocol::can_finish),
        Property::sometimes("all is published and confirmed", |protocol: &Protocol, world: &World| {
            world.confirmed == protocol.positions && all_is_visible_once(protocol, world)
        }),
        Property::sometimes("two writers believe that they own the log", |_, world: &World| {
            world
                .attempts
                .iter()
                .filter(|attempt| matches!(attempt.phase, Phase::Put | Phase::Create(_)))
                .count()
                == 2
        }),
    ]
}

/// Reachable with repairs only.
pub(crate) fn of_repair() -> Vec<Property<Protocol>> {
    vec![
        Property::sometimes("a repair deletes what was published", |protocol: &Protocol, world: &World| {
            let deletes = |repair: &Repair| matches!(repair.phase, RepairPhase::Delete(_));
            // Of a single file either it is there or it is gone.
            protocol.tables == 1 || !world.visible.is_empty() && world.repairs.iter().any(deletes)
        }),
        Property::sometimes("a voided range is published again", |protocol: &Protocol, world: &World| {
            world.log.iter().any(|entry| entry.kind == Kind::Void) && all_is_visible_once(protocol, world)
        }),
        Property::sometimes("a stream was started behind what was voided", |_, world: &World| {
            let is_void = |entry: &Entry| entry.kind == Kind::Void;
            world.log.iter().any(is_void)
                && world.attempts.iter().any(|attempt| attempt.phase == Phase::Again)
        }),
    ]
}

/// The numbers of the cuts that count.
fn cuts(world: &World) -> Vec<u8> {
    let mut cuts: Vec<u8> = Vec::new();
    let mut last_cut = None;
    for (seq, entry) in (1..).zip(&world.log) {
        match entry.kind {
            Kind::Commit => {
                cuts.push(seq);
                last_cut = Some(seq);
            }
            Kind::Void => {
                cuts.retain(|cut| Some(*cut) != last_cut);
                last_cut = None;
            }
            Kind::Idle => last_cut = None,
            Kind::Open => {}
        }
    }
    cuts
}

fn is_published(protocol: &Protocol, world: &World, seq: u8) -> bool {
    (0..protocol.tables).all(|table| world.is_visible(protocol.file(world, seq, table)))
}

/// How far every file of the log is visible.
fn published(protocol: &Protocol, world: &World) -> Position {
    let missing = cuts(world).into_iter().find(|cut| !is_published(protocol, world, *cut));
    match missing.and_then(|cut| world.entry(cut)) {
        Some(entry) => entry.from,
        None => fold(&world.log).to,
    }
}

fn confirmed_is_published(protocol: &Protocol, world: &World) -> bool {
    let published = published(protocol, world);
    let believed = world.attempts.iter().filter_map(|attempt| attempt.untold);
    world.confirmed <= published && believed.max().unwrap_or(0) <= published
}

fn entries_follow_what_is_published(protocol: &Protocol, world: &World) -> bool {
    let created = (1..).zip(&world.log).filter(|(_, entry)| matches!(entry.kind, Kind::Commit | Kind::Idle));
    let last = created.map(|(seq, _)| seq).max().unwrap_or(0);
    cuts(world).into_iter().filter(|cut| *cut < last).all(|cut| is_published(protocol, world, cut))
}

fn visible_is_logged(_: &Protocol, world: &World) -> bool {
    let cuts = cuts(world);
    world.visible.iter().all(|file| {
        cuts.contains(&file.seq) && world.entry(file.seq).is_some_and(|entry| entry.author == file.author)
    })
}

fn epochs_have_one_writer(_: &Protocol, world: &World) -> bool {
    let mut owner = (0, 0);
    let is_in_order = world.log.iter().all(|entry| match entry.kind {
        Kind::Open | Kind::Void => {
            let is_newer = entry.epoch > owner.0;
            owner = (entry.epoch, entry.author);
            is_newer
        }
        Kind::Commit | Kind::Idle => (entry.epoch, entry.author) == owner,
    });
    is_in_order && world.attempts.iter().all(|attempt| believes_the_truth(world, attempt))
}

/// Whoever goes on behind an entry of its own finds it in the log.
fn believes_the_truth(world: &World, attempt: &Attempt) -> bool {
    let is_behind_own_cut = matches!(attempt.phase, Phase::Complete(_) | Phase::Head(_) | Phase::Watermark);
    let is_behind_own_open = matches!(attempt.phase, Phase::RollComplete(_) | Phase::RollHead(_));
    let author = world.entry(attempt.seen).map(|entry| entry.author);
    !(is_behind_own_cut || is_behind_own_open) || author == Some(attempt.id)
}

fn log_has_all_once(protocol: &Protocol, world: &World) -> bool {
    let mut found: Rows = 0;
    for cut in cuts(world) {
        let Some(entry) = world.entry(cut) else { return false };
        if found & entry.rows != 0 {
            return false;
        }
        found |= entry.rows;
    }
    let Fold { to, .. } = fold(&world.log);
    found == protocol.rows_within(0, to)
}

fn nothing_is_visible_twice(protocol: &Protocol, world: &World) -> bool {
    (0..protocol.tables).all(|table| {
        let mut seen: Rows = 0;
        world.visible.iter().filter(|file| file.table == table).all(|file| {
            let rows = world.entry(file.seq).map_or(0, |entry| entry.rows);
            let is_new = seen & rows == 0;
            seen |= rows;
            is_new
        })
    })
}

fn all_is_visible_once(protocol: &Protocol, world: &World) -> bool {
    let all = protocol.rows_within(0, protocol.positions);
    nothing_is_visible_twice(protocol, world)
        && (0..protocol.tables).all(|table| {
            let of_table = world.visible.iter().filter(|file| file.table == table);
            of_table.filter_map(|file| world.entry(file.seq)).fold(0, |seen, entry| seen | entry.rows) == all
        })
}

fn watermark_is_published(protocol: &Protocol, world: &World) -> bool {
    let named: BTreeSet<u8> = cuts(world).into_iter().filter(|cut| *cut <= world.watermark).collect();
    named.into_iter().all(|cut| is_published(protocol, world, cut))
}

/// Documented halts: an upload that a lifecycle rule removed. The source is never doubted here, because nobody else touches it.
fn stops_have_a_cause(protocol: &Protocol, world: &World) -> bool {
    let was_removed = protocol.was_removed(world);
    world.attempts.iter().all(|attempt| match attempt.phase {
        Phase::Halted => false,
        Phase::Gone | Phase::Refused => was_removed,
        _ => true,
    })
}

impl Protocol {
    /// Whatever happened: if nothing else does from here on, one new writer makes everything visible once, if need be after a `repair`.
    fn can_finish(&self, world: &World) -> bool {
        let mut world = world.clone();
        world.attempts.clear();
        world.repairs.clear();
        world.in_flight.clear();
        world.holder = None;
        for _ in 0..2 {
            match self.run_alone(&mut world) {
                Some(Phase::Streaming) => {
                    return world.confirmed == self.positions && all_is_visible_once(self, &world);
                }
                // Nothing is kept of one that stopped as is documented.
                None if self.was_removed(&world) => self.repair_alone(&mut world),
                _ => return false,
            }
        }
        false
    }

    /// Where a writer without faults ends.
    fn run_alone(&self, world: &mut World) -> Option<Phase> {
        world.attempts.clear();
        self.start(world, None);
        for _ in 0..STEPS_MAX {
            match world.attempts.first()?.phase.clone() {
                Phase::Streaming if world.attempts[0].untold.is_some() => self.confirm(world, 0),
                Phase::Streaming if world.fold(world.attempts[0].seen).to < self.positions => {
                    self.cut(world, 0, self.positions);
                }
                end @ (Phase::Streaming | Phase::Again | Phase::Gone | Phase::Refused | Phase::Halted) => {
                    return Some(end);
                }
                _ => self.step(world, 0, Outcome::Done),
            }
        }
        None
    }

    fn repair_alone(&self, world: &mut World) {
        self.start_repair(world);
        for _ in 0..STEPS_MAX {
            if world.repairs.is_empty() {
                return;
            }
            self.repair_step(world, 0, Outcome::Done);
        }
    }
}

/// A writer alone needs about thirty.
const STEPS_MAX: usize = 200;

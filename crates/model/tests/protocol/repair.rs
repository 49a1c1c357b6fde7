//! What `tributary repair` does, request by request.
//!
//! Owns: the steps of `cli::repair`, with those of `publish` and `offline` that it takes.
//! Does not: choose who goes on, or what comes of a request.
//! Holds: it never waits; where it may not go on it is over.
//! Fails: never.

use crate::world::{Entry, Kind, Outcome, Repair, RepairPhase, Request, World};
use crate::writer::request;
use crate::{Mutation, Protocol};

/// What may come of the request that a repair in this phase makes.
pub(crate) fn outcomes(phase: &RepairPhase) -> &'static [Outcome] {
    match phase {
        RepairPhase::Put => &[Outcome::Done, Outcome::Unknown, Outcome::Lost, Outcome::Late],
        RepairPhase::Abort(_) | RepairPhase::Delete(_) => &[Outcome::Done, Outcome::Late],
        _ => &[Outcome::Done],
    }
}

impl Protocol {
    /// Somebody repairs; nothing is done if the last cut is known to be published.
    pub(crate) fn start_repair(&self, world: &mut World) {
        let (id, seen) = (world.next_id(), world.length());
        if world.fold(seen).last_cut.is_some() {
            world.repairs.push(Repair { id, seen, phase: RepairPhase::List });
        }
    }

    /// One step of the repair at this place.
    pub(crate) fn repair_step(&self, world: &mut World, place: usize, outcome: Outcome) {
        let repair = world.repairs.remove(place);
        if let Some(phase) = self.next_of_repair(world, &repair, outcome) {
            world.repairs.insert(place, Repair { phase, ..repair });
        }
    }

    fn next_of_repair(&self, world: &mut World, repair: &Repair, outcome: Outcome) -> Option<RepairPhase> {
        let seq = world.fold(repair.seen).last_cut?;
        let files = || (0..self.tables).map(|table| self.file(world, seq, table));
        match &repair.phase {
            RepairPhase::List => Some(RepairPhase::Heads(world.uploads.clone())),
            // `publish::first_missing`: one is enough.
            RepairPhase::Heads(listed) => files()
                .any(|file| !world.is_visible(file) && !listed.contains(&file))
                .then_some(RepairPhase::IsActive),
            RepairPhase::IsActive => world.holder.is_none().then_some(RepairPhase::SlotPosition),
            RepairPhase::SlotPosition => {
                let from = world.entry(seq)?.from;
                (world.confirmed <= from).then(|| self.first_act())
            }
            RepairPhase::Abort(table) => {
                let file = self.file(world, seq, *table);
                Some(match request(world, Request::Abort(file), outcome) {
                    true if table + 1 < self.tables => RepairPhase::Abort(table + 1),
                    true if self.is(Mutation::VoidWithoutDelete) => RepairPhase::Put,
                    true => RepairPhase::Delete(0),
                    false => repair.phase.clone(),
                })
            }
            RepairPhase::Delete(table) => {
                Some(match request(world, Request::Delete { seq, table: *table }, outcome) {
                    true if table + 1 < self.tables => RepairPhase::Delete(table + 1),
                    true if self.is(Mutation::VoidBeforeDelete) => return None,
                    true => RepairPhase::Put,
                    false => repair.phase.clone(),
                })
            }
            RepairPhase::Put => self.put_void(world, repair, seq, outcome),
            RepairPhase::Get => match world.entry(repair.seen + 1) {
                None => Some(RepairPhase::Put),
                Some(found) if found.author == repair.id => self.voided(),
                Some(_) => None,
            },
        }
    }

    fn first_act(&self) -> RepairPhase {
        match self.mutation {
            Some(Mutation::VoidWithoutAbort) => RepairPhase::Delete(0),
            Some(Mutation::VoidBeforeDelete) => RepairPhase::Put,
            _ => RepairPhase::Abort(0),
        }
    }

    fn voided(&self) -> Option<RepairPhase> {
        self.is(Mutation::VoidBeforeDelete).then_some(RepairPhase::Abort(0))
    }

    /// `offline::append`.
    fn put_void(&self, world: &mut World, repair: &Repair, seq: u8, outcome: Outcome) -> Option<RepairPhase> {
        let folded = world.fold(repair.seen);
        let (author, epoch, to) = (repair.id, folded.epoch + 1, world.entry(seq)?.from);
        let entry = Entry { author, epoch, kind: Kind::Void, from: folded.to, to, rows: 0 };
        let seq = repair.seen + 1;
        match outcome {
            Outcome::Done if world.put_if_absent(seq, entry) => self.voided(),
            Outcome::Done | Outcome::Lost => Some(RepairPhase::Get),
            Outcome::Unknown => {
                world.put_if_absent(seq, entry);
                Some(RepairPhase::Get)
            }
            Outcome::Late => {
                world.send(Request::Put { seq, entry });
                Some(RepairPhase::Get)
            }
        }
    }
}

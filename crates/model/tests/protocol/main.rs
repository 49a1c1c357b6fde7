//! The exactly-once protocol as a model, of which every state is looked at.
//!
//! Owns: which worlds are explored, what may happen in them, and mutations of the protocol that must be found out.
//! Does not: run the daemon's code; `tests/walk` of `lake` does that, with the same faults.
//! Holds: the model does what the code does, request by request:
//!
//! | step of the model | the code that does it |
//! |---|---|
//! | `ReadSlot`, `Follow` | `opening::check`: `slot::slot`, then `log::follow_on`, `State::refuse_fenced`, `startup::decide` |
//! | `StartReplication` | `Session::start` in `opening::take_slot`, which waits while another session has the slot |
//! | `Open`, `OpenPut`, `OpenGet` | `log::open` and the `log::append` in it: the put, and the get that resolves what came of it |
//! | `Again` behind them | `opening::refuse_gap` |
//! | `RollComplete`, `RollHead`, `RollWatermark` | `publish::roll_forward`: `publish_file`, `watermark::write` |
//! | `List`, `Tail`, `Abort` | `publish::abort_abandoned` |
//! | `Ready` | the end of `opening::open`: `set_positions` and `send_status` |
//! | `Action::Cut` | `Streaming::cut` with `Positions::seal`; the fold drops what committed before the resume point |
//! | `Create`, `Part` | `FileTask`: `create_upload`, `upload_part` |
//! | `Put`, `Get` | `Committer::commit`: `log::append` |
//! | `Complete`, `Head` | `publish::publish_file` |
//! | `Watermark` | `watermark::write` |
//! | `Action::Confirm` | `Streaming::on_published` |
//! | `Action::Reconnect` | `pipeline::attempts` behind a transient error: `Writer::abandon`, then `opening::open` with the epoch that it had |
//! | `List`, `Heads` of a repair | `publish::first_missing` |
//! | `IsActive`, `SlotPosition` | `offline::refuse_while_active`, `repair::refuse_moved_slot` |
//! | `Abort`, `Delete` | `publish::abort_entry`, `publish::delete_published` |
//! | `Put`, `Get` of a repair | `offline::append` |
//!
//! Not in it: the first entry of a log, checkpoints, schema documents, snapshots, more than one cut on its way, and what `Positions` asserts within one
//! writer (`cut <= received`, I2). A writer that crashed is one that never goes on. A read may be of any time before the step that uses it.
//! Fails: with a path from the first state to the one that is wrong.

#![allow(clippy::indexing_slicing, reason = "all of it is a test: what is not there fails it")]

use std::collections::BTreeSet;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Property};

mod properties;
mod repair;
mod world;
mod writer;

use world::{Budget, File, Outcome, Phase, Position, Request, Rows, World};

/// The protocol in a small world.
#[derive(Clone, Copy, Debug)]
struct Protocol {
    /// Each transaction has rows in all of them.
    tables: u8,
    /// The last position.
    positions: Position,
    /// Where transactions end that have rows; the others are of no concern to us.
    with_rows: Rows,
    /// Whether watermarks are written, which decide nothing.
    watermarks: bool,
    budget: Budget,
    mutation: Option<Mutation>,
}

/// A protocol that is wrong in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutation {
    /// Postgres is told once the cut is logged.
    ConfirmBeforePublish,
    /// Without rows, Postgres is told before the log is.
    ConfirmBeforeLog,
    /// Files are completed before the entry is put.
    PublishBeforeLog,
    /// The next entry is put while files of the last are not complete.
    NextEntryBeforePublished,
    /// A number that is taken is taken by us.
    NoNonceCheck,
    /// Entries are put whether there is one or not.
    UnconditionalPut,
    /// The log is taken over without a word.
    NoOpenEntry,
    /// The `open` entry has the epoch of the last.
    OpenKeepsEpoch,
    /// Uploads are aborted before the log is taken over.
    AbortUploadsBeforeOpen,
    /// Uploads are aborted without a look at who has the log.
    NoTailCheck,
    /// A stream that began behind what was taken back is as good as any.
    NoGapCheck,
    /// The stream resumes where the slot is.
    ResumeAtSlot,
    /// The log is read, and then the slot.
    ReadLogBeforeSlot,
    /// An upload that is not there was completed.
    NoHead,
    /// The watermark is written once the cut is logged.
    WatermarkBeforePublish,
    /// An entry is voided while its uploads can still be completed.
    VoidWithoutAbort,
    /// An entry is voided, and what was published of it stays.
    VoidWithoutDelete,
    /// An entry is voided, and then its files are taken back.
    VoidBeforeDelete,
}

/// What may happen next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Action {
    /// A process starts.
    Start,
    /// The attempt at this place makes its next request.
    Step(usize, Outcome),
    Cut(usize, Position),
    Confirm(usize),
    /// The attempt ends with its session, and its process begins another one.
    Reconnect(usize),
    StartRepair,
    Repair(usize, Outcome),
    /// The server finds that the session of the slot is dead.
    FreeSlot,
    /// The server crashes: no session survives, and the slot is where it was once.
    Crash(Position),
    Land(Request),
    /// A lifecycle rule removes an upload.
    Remove(File),
}

impl Protocol {
    fn is(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// The transactions that end behind the first and up to the second position.
    fn rows_within(&self, from: Position, to: Position) -> Rows {
        (from + 1..=to).fold(0, |rows, position| rows | (1 << position)) & self.with_rows
    }

    /// Whether a lifecycle rule removed an upload.
    fn was_removed(&self, world: &World) -> bool {
        world.left.removals < self.budget.removals
    }

    fn actions_of_attempt(&self, world: &World, place: usize, actions: &mut Vec<Action>) {
        let attempt = &world.attempts[place];
        if attempt.phase == Phase::StartReplication && world.holder.is_some() {
            // The loser waits, and looks again: as does one that looks later.
            return;
        }
        let outcomes = writer::outcomes(&attempt.phase).iter();
        let may_be = |outcome: &&Outcome| **outcome != Outcome::Late || world.left.lates > 0;
        actions.extend(outcomes.filter(may_be).map(|outcome| Action::Step(place, *outcome)));
        let is_early = self.is(Mutation::NextEntryBeforePublished) && attempt.phase == Phase::Complete(0);
        if attempt.phase == Phase::Streaming || is_early {
            let to = world.fold(attempt.seen).to;
            actions.extend((to + 1..=self.positions).map(|to| Action::Cut(place, to)));
        }
        if attempt.untold.is_some() {
            actions.push(Action::Confirm(place));
        }
        let has_stopped = matches!(attempt.phase, Phase::Gone | Phase::Refused | Phase::Halted);
        // One that has not opened has nothing that another attempt of its process would not have.
        if world.left.attempts > 0 && attempt.ours.is_some() && !has_stopped {
            actions.push(Action::Reconnect(place));
        }
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.budget)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        // One that has done nothing yet is as good as another.
        let is_waiting =
            world.attempts.iter().any(|attempt| attempt.phase == Phase::ReadSlot && attempt.ours.is_none());
        if world.left.attempts > 0 && !is_waiting {
            actions.push(Action::Start);
        }
        for place in 0..world.attempts.len() {
            self.actions_of_attempt(world, place, actions);
        }
        if world.left.repairs > 0 {
            actions.push(Action::StartRepair);
        }
        for (place, repair) in world.repairs.iter().enumerate() {
            let outcomes = repair::outcomes(&repair.phase).iter();
            let may_be = |outcome: &&Outcome| **outcome != Outcome::Late || world.left.lates > 0;
            actions.extend(outcomes.filter(may_be).map(|outcome| Action::Repair(place, *outcome)));
        }
        if world.holder.is_some() {
            actions.push(Action::FreeSlot);
        }
        if world.left.crashes > 0 {
            actions.extend((0..=world.confirmed).map(Action::Crash));
        }
        actions.extend(world.in_flight.iter().copied().map(Action::Land));
        if world.left.removals > 0 {
            actions.extend(world.uploads.iter().copied().map(Action::Remove));
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        match action {
            Action::Start => {
                world.left.attempts -= 1;
                self.start(&mut world, None);
            }
            Action::Step(place, outcome) => self.step(&mut world, place, outcome),
            Action::Cut(place, to) => self.cut(&mut world, place, to),
            Action::Confirm(place) => self.confirm(&mut world, place),
            Action::Reconnect(place) => {
                let attempt = world.attempts.remove(place);
                world.free_slot_of(attempt.id);
                world.left.attempts -= 1;
                self.start(&mut world, attempt.ours);
            }
            Action::StartRepair => {
                world.left.repairs -= 1;
                self.start_repair(&mut world);
            }
            Action::Repair(place, outcome) => self.repair_step(&mut world, place, outcome),
            Action::FreeSlot => world.holder = None,
            Action::Crash(confirmed) => {
                world.left.crashes -= 1;
                (world.holder, world.confirmed) = (None, confirmed);
            }
            Action::Land(request) => {
                let place = world.in_flight.iter().position(|sent| *sent == request)?;
                world.in_flight.remove(place);
                world.land(request);
            }
            Action::Remove(file) => {
                world.left.removals -= 1;
                world.abort(file);
            }
        }
        // Nothing came of it.
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Protocol>> {
        let mut properties = properties::properties();
        if self.budget.repairs > 0 {
            properties.extend(properties::of_repair());
        }
        properties
    }
}

/// Explores all states, and says how many there are.
fn explore(name: &str, protocol: Protocol) {
    let begun = Instant::now();
    let checker = protocol.checker().threads(2).spawn_bfs().join();
    println!(
        "{name}: {} unique states, {} steps at most, {:.1} s",
        checker.unique_state_count(),
        checker.max_depth(),
        begun.elapsed().as_secs_f64()
    );
    checker.assert_properties();
}

/// Finds out what is wrong with a protocol.
fn find_out(world: Protocol, mutation: Mutation, property: &'static str) {
    let wrong = Protocol { mutation: Some(mutation), ..world };
    let until = HasDiscoveries::AllOf(BTreeSet::from([property]));
    let checker = wrong.checker().threads(2).finish_when(until).spawn_bfs().join();
    let path =
        checker.discovery(property).unwrap_or_else(|| panic!("{mutation:?} goes unnoticed: {property}"));
    println!(
        "{mutation:?}: not so that {property}, after {} states\n  {:?}",
        checker.unique_state_count(),
        path.into_actions()
    );
}

/// Three attempts at a transaction and what comes behind it.
const WRITERS: Protocol = Protocol {
    tables: 1,
    positions: 2,
    with_rows: 0b010,
    watermarks: false,
    budget: Budget { attempts: 3, repairs: 0, lates: 1, removals: 0, crashes: 0 },
    mutation: None,
};

/// Two attempts, and more to do for them: rows, nothing of concern, and rows; and a server that crashes.
const PAIR: Protocol = Protocol {
    positions: 3,
    with_rows: 0b1010,
    watermarks: true,
    budget: Budget { attempts: 2, crashes: 1, ..WRITERS.budget },
    ..WRITERS
};

/// A lifecycle rule takes one of two uploads, and somebody repairs.
const REPAIR: Protocol = Protocol {
    tables: 2,
    positions: 1,
    budget: Budget { attempts: 2, repairs: 1, removals: 1, ..WRITERS.budget },
    ..WRITERS
};

#[test]
fn three_writers_beside_each_other() {
    explore("three writers", WRITERS);
}

#[test]
fn a_pair_of_writers_and_a_server_that_crashes() {
    explore("a pair of writers", PAIR);
}

/// `TRIBUTARY_DEEP=1` takes minutes and several GiB.
#[test]
fn repairs_beside_writers() {
    explore("a repair", REPAIR);
    if std::env::var_os("TRIBUTARY_DEEP").is_some() {
        let with = |budget| Protocol { budget, ..REPAIR };
        explore("two repairs", with(Budget { repairs: 2, ..REPAIR.budget }));
        explore("two late requests", with(Budget { lates: 2, ..REPAIR.budget }));
        let three = Protocol { tables: 1, budget: Budget { attempts: 3, ..REPAIR.budget }, ..REPAIR };
        explore("a repair and three attempts", three);
    }
}

/// The model can tell right from wrong.
#[test]
fn every_mutation_is_found_out() {
    let confirmed = "I1 confirmed is published";
    let behind = "I3 entries begin behind what is published";
    let visible = "I4 what is visible is logged";
    let epochs = "I5 one writer an epoch, and none behind a newer one";
    let once = "the log has every transaction once";
    let stops = "nobody stops without a cause";
    for (world, mutation, property) in [
        (WRITERS, Mutation::ConfirmBeforePublish, confirmed),
        (PAIR, Mutation::ConfirmBeforeLog, confirmed),
        (WRITERS, Mutation::PublishBeforeLog, visible),
        (PAIR, Mutation::NextEntryBeforePublished, behind),
        (WRITERS, Mutation::NoNonceCheck, visible),
        (WRITERS, Mutation::UnconditionalPut, epochs),
        (WRITERS, Mutation::NoOpenEntry, stops),
        (WRITERS, Mutation::OpenKeepsEpoch, epochs),
        (WRITERS, Mutation::AbortUploadsBeforeOpen, stops),
        (WRITERS, Mutation::NoTailCheck, stops),
        (REPAIR, Mutation::NoGapCheck, once),
        (PAIR, Mutation::ResumeAtSlot, once),
        (WRITERS, Mutation::ReadLogBeforeSlot, stops),
        (REPAIR, Mutation::NoHead, confirmed),
        (PAIR, Mutation::WatermarkBeforePublish, "the watermark is published"),
        (REPAIR, Mutation::VoidWithoutAbort, visible),
        (REPAIR, Mutation::VoidWithoutDelete, visible),
        (REPAIR, Mutation::VoidBeforeDelete, "a glob reader sees no row twice"),
    ] {
        find_out(world, mutation, property);
    }
}

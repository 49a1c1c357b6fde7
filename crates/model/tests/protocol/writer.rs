//! What an attempt does, request by request.
//!
//! Owns: the steps of `pipeline::opening` and of the writer's committer; the table in `main` says which function does which.
//! Does not: choose who goes on, or what comes of a request.
//! Holds: between two steps anything may happen, so that a step has one request, or none.
//! Fails: never; an attempt that ends says how in its phase, or is gone if it was fenced.

use crate::world::{Attempt, Entry, File, Id, Kind, Outcome, Phase, Position, Request, World};
use crate::{Mutation, Protocol};

/// What comes behind a step.
pub(crate) enum Next {
    To(Phase),
    /// The attempt is over, and with it its session.
    Ends(Phase),
    /// The same, and nothing has to be known of it any more.
    Fenced,
}

/// What a conditional creation told, once its outcome is known.
enum Logged {
    Ours,
    Anothers,
    Unknown,
}

/// What completing an upload told.
enum Completed {
    Done,
    Unknown,
    NoSuchUpload,
}

/// What may come of the request that an attempt in this phase makes.
pub(crate) fn outcomes(phase: &Phase) -> &'static [Outcome] {
    match phase {
        Phase::OpenPut | Phase::Put => &[Outcome::Done, Outcome::Unknown, Outcome::Lost, Outcome::Late],
        Phase::RollComplete(_) | Phase::Complete(_) => &[Outcome::Done, Outcome::Unknown, Outcome::Late],
        // Repeated after a lost answer, these do what they did before.
        Phase::RollWatermark | Phase::Watermark | Phase::Abort(_) => &[Outcome::Done, Outcome::Late],
        // `Streaming` waits for a cut, and who stopped for nothing.
        Phase::Streaming | Phase::Again | Phase::Gone | Phase::Refused | Phase::Halted => &[],
        _ => &[Outcome::Done],
    }
}

impl Protocol {
    /// A process starts, or one that was there begins anew.
    pub(crate) fn start(&self, world: &mut World, ours: Option<u8>) {
        world.attempts.push(Attempt {
            id: 0,
            ours,
            seen: 1,
            asked_from: 0,
            sent_from: 0,
            cut_to: 0,
            rows: 0,
            untold: None,
            phase: Phase::ReadSlot,
        });
        world.attempts.sort_unstable();
    }

    /// One step of the attempt at this place.
    pub(crate) fn step(&self, world: &mut World, place: usize, outcome: Outcome) {
        let mut attempt = world.attempts.remove(place);
        let phase = attempt.phase.clone();
        let next = self
            .take_slot(world, &mut attempt, &phase)
            .or_else(|| self.open(world, &mut attempt, &phase, outcome))
            .or_else(|| self.roll_forward(world, &mut attempt, &phase, outcome))
            .or_else(|| self.commit(world, &mut attempt, &phase, outcome));
        match next.expect("a phase with a step") {
            Next::To(phase) => attempt.phase = phase,
            Next::Ends(phase) => {
                world.free_slot_of(attempt.id);
                let is_documented = matches!(phase, Phase::Gone | Phase::Refused) && self.was_removed(world);
                let is_over = phase == Phase::Again && world.left.attempts == 0;
                if is_documented || is_over {
                    return;
                }
                attempt.phase = phase;
            }
            Next::Fenced => {
                world.free_slot_of(attempt.id);
                return;
            }
        }
        world.attempts.insert(place, attempt);
        world.attempts.sort_unstable();
    }

    /// `opening::take_slot` with `opening::check`.
    fn take_slot(&self, world: &mut World, attempt: &mut Attempt, phase: &Phase) -> Option<Next> {
        let reads_log_first = self.is(Mutation::ReadLogBeforeSlot);
        let next = match phase {
            Phase::ReadSlot => {
                if reads_log_first {
                    attempt.seen = world.length();
                }
                Next::To(Phase::Follow { confirmed: world.confirmed })
            }
            Phase::Follow { confirmed } => {
                let mut confirmed = *confirmed;
                if reads_log_first {
                    confirmed = world.confirmed;
                } else {
                    attempt.seen = world.length();
                }
                let folded = world.fold(attempt.seen);
                if attempt.ours.is_some_and(|ours| ours != folded.epoch) {
                    Next::Fenced
                } else if confirmed > folded.to {
                    Next::Ends(Phase::Halted)
                } else {
                    Next::To(Phase::StartReplication)
                }
            }
            Phase::StartReplication => {
                attempt.id = world.next_id();
                world.holder = Some(attempt.id);
                attempt.asked_from = match self.is(Mutation::ResumeAtSlot) {
                    true => world.confirmed,
                    false => world.fold(attempt.seen).to,
                };
                attempt.sent_from = attempt.asked_from.max(world.confirmed);
                let aborts_now = self.is(Mutation::AbortUploadsBeforeOpen);
                Next::To(if aborts_now { Phase::List } else { Phase::Open })
            }
            _ => return None,
        };
        Some(next)
    }

    /// `log::open`, and `opening::refuse_gap` behind it.
    fn open(
        &self,
        world: &mut World,
        attempt: &mut Attempt,
        phase: &Phase,
        outcome: Outcome,
    ) -> Option<Next> {
        let folded = world.fold(attempt.seen);
        let bump = if self.is(Mutation::OpenKeepsEpoch) { 0 } else { 1 };
        let entry = Entry {
            author: attempt.id,
            epoch: folded.epoch + bump,
            kind: Kind::Open,
            from: folded.to,
            to: folded.to,
            rows: 0,
        };
        let logged = match phase {
            Phase::Open => {
                attempt.seen = world.length();
                let folded = world.fold(attempt.seen);
                if attempt.ours.is_some_and(|ours| ours != folded.epoch) {
                    return Some(Next::Fenced);
                }
                if self.is(Mutation::NoOpenEntry) {
                    attempt.ours = Some(folded.epoch);
                    return Some(self.opened(world, attempt));
                }
                return Some(Next::To(Phase::OpenPut));
            }
            Phase::OpenPut => self.put(world, attempt, entry, outcome),
            Phase::OpenGet => match world.entry(attempt.seen + 1) {
                None => return Some(Next::To(Phase::OpenPut)),
                Some(_) => self.compare(world, attempt),
            },
            _ => return None,
        };
        Some(match logged {
            Logged::Ours => {
                attempt.seen += 1;
                attempt.ours = Some(entry.epoch);
                self.opened(world, attempt)
            }
            // The log grew: read on.
            Logged::Anothers => Next::To(Phase::Open),
            Logged::Unknown => Next::To(Phase::OpenGet),
        })
    }

    fn opened(&self, world: &World, attempt: &mut Attempt) -> Next {
        let folded = world.fold(attempt.seen);
        if folded.to < attempt.asked_from && !self.is(Mutation::NoGapCheck) {
            return Next::Ends(Phase::Again);
        }
        if folded.to >= attempt.sent_from && !self.is(Mutation::ResumeAtSlot) {
            (attempt.asked_from, attempt.sent_from) = (0, 0);
        }
        match folded.last_cut {
            Some(_) => Next::To(Phase::RollComplete(0)),
            None => Next::To(self.rolled()),
        }
    }

    fn rolled(&self) -> Phase {
        if self.is(Mutation::AbortUploadsBeforeOpen) { Phase::Ready } else { Phase::List }
    }

    /// `publish::roll_forward`, and the first positions that are sent behind it.
    fn roll_forward(
        &self,
        world: &mut World,
        attempt: &mut Attempt,
        phase: &Phase,
        outcome: Outcome,
    ) -> Option<Next> {
        let aborts_first = self.is(Mutation::AbortUploadsBeforeOpen);
        let aborted = || Next::To(if aborts_first { Phase::Open } else { Phase::Ready });
        let next = match phase {
            Phase::RollComplete(table) | Phase::RollHead(table) => {
                // What is rolled forward stays in the log, unless it is put unconditionally.
                let Some(seq) = world.fold(attempt.seen).last_cut else {
                    return Some(Next::Ends(Phase::Again));
                };
                let file = self.file(world, seq, *table);
                match self.publish_file(world, phase, file, outcome) {
                    Completed::Done if table + 1 < self.tables => Next::To(Phase::RollComplete(table + 1)),
                    Completed::Done if !self.watermarks => Next::To(self.rolled()),
                    Completed::Done => Next::To(Phase::RollWatermark),
                    Completed::Unknown => Next::To(phase.clone()),
                    Completed::NoSuchUpload if matches!(phase, Phase::RollHead(_)) => Next::Ends(Phase::Gone),
                    Completed::NoSuchUpload => Next::To(Phase::RollHead(*table)),
                }
            }
            Phase::RollWatermark => {
                let Some(seq) = world.fold(attempt.seen).last_cut else {
                    return Some(Next::Ends(Phase::Again));
                };
                if request(world, Request::Watermark(seq), outcome) {
                    Next::To(self.rolled())
                } else {
                    Next::To(phase.clone())
                }
            }
            Phase::List if world.uploads.is_empty() => aborted(),
            Phase::List => Next::To(Phase::Tail(world.uploads.clone())),
            Phase::Tail(_)
                if world.entry(attempt.seen + 1).is_some()
                    && !self.is(Mutation::NoTailCheck)
                    && !aborts_first =>
            {
                Next::Fenced
            }
            Phase::Tail(listed) => Next::To(Phase::Abort(listed.clone())),
            Phase::Abort(listed) => match listed.split_first() {
                Some((first, rest)) if request(world, Request::Abort(*first), outcome) => {
                    Next::To(Phase::Abort(rest.to_vec()))
                }
                Some(_) => Next::To(phase.clone()),
                None => aborted(),
            },
            Phase::Ready if world.holder != Some(attempt.id) => Next::Ends(Phase::Again),
            Phase::Ready => {
                world.confirmed = world.confirmed.max(world.fold(attempt.seen).to);
                Next::To(Phase::Streaming)
            }
            _ => return None,
        };
        Some(next)
    }

    /// `Streaming::cut`: what was received up to here is to become an entry.
    pub(crate) fn cut(&self, world: &mut World, place: usize, to: Position) {
        let resume = world.fold(world.attempts[place].seen).to;
        let attempt = &mut world.attempts[place];
        // What committed before the resume point is dropped, if the server sends it at all.
        let resume = if self.is(Mutation::ResumeAtSlot) { attempt.asked_from } else { resume };
        let seen_before = if self.is(Mutation::ResumeAtSlot) { attempt.cut_to } else { 0 };
        let from = attempt.sent_from.max(resume).max(seen_before);
        attempt.cut_to = to;
        attempt.rows = self.rows_within(from, to);
        if self.is(Mutation::ConfirmBeforeLog) && attempt.rows == 0 {
            attempt.untold = Some(to);
        }
        attempt.phase = if attempt.rows == 0 { Phase::Put } else { Phase::Create(0) };
        world.attempts.sort_unstable();
    }

    /// `Streaming::on_published`: a status with what is published.
    pub(crate) fn confirm(&self, world: &mut World, place: usize) {
        let attempt = &mut world.attempts[place];
        if let Some(published) = attempt.untold.take()
            && world.holder == Some(attempt.id)
        {
            world.confirmed = world.confirmed.max(published);
        }
    }

    /// `FileTask`, and then `Committer::commit`.
    fn commit(
        &self,
        world: &mut World,
        attempt: &mut Attempt,
        phase: &Phase,
        outcome: Outcome,
    ) -> Option<Next> {
        let seq = attempt.seen + 1;
        let next = match phase {
            Phase::Create(table) => {
                world.upload(File { seq, table: *table, author: attempt.id });
                Next::To(Phase::Part(*table))
            }
            Phase::Part(table) => {
                let file = File { seq, table: *table, author: attempt.id };
                if !world.uploads.contains(&file) {
                    let is_owner = attempt.ours == Some(world.fold(world.length()).epoch);
                    return Some(if is_owner { Next::Ends(Phase::Refused) } else { Next::Fenced });
                }
                if table + 1 < self.tables {
                    Next::To(Phase::Create(table + 1))
                } else if self.is(Mutation::PublishBeforeLog) {
                    Next::To(Phase::Complete(0))
                } else {
                    Next::To(Phase::Put)
                }
            }
            Phase::Put | Phase::Get => self.append(world, attempt, phase, outcome),
            Phase::Complete(table) | Phase::Head(table) => {
                let logged = if self.is(Mutation::PublishBeforeLog) { seq } else { attempt.seen };
                let file = File { seq: logged, table: *table, author: attempt.id };
                match self.publish_file(world, phase, file, outcome) {
                    Completed::Done if table + 1 < self.tables => Next::To(Phase::Complete(table + 1)),
                    Completed::Done if self.is(Mutation::PublishBeforeLog) => Next::To(Phase::Put),
                    Completed::Done if self.is(Mutation::WatermarkBeforePublish) => self.published(attempt),
                    Completed::Done if !self.watermarks => self.published(attempt),
                    Completed::Done => Next::To(Phase::Watermark),
                    Completed::Unknown => Next::To(phase.clone()),
                    Completed::NoSuchUpload if matches!(phase, Phase::Head(_)) => Next::Ends(Phase::Gone),
                    Completed::NoSuchUpload => Next::To(Phase::Head(*table)),
                }
            }
            Phase::Watermark if !request(world, Request::Watermark(attempt.seen), outcome) => {
                Next::To(phase.clone())
            }
            Phase::Watermark if self.is(Mutation::WatermarkBeforePublish) && attempt.rows != 0 => {
                Next::To(Phase::Complete(0))
            }
            Phase::Watermark => self.published(attempt),
            _ => return None,
        };
        Some(next)
    }

    fn published(&self, attempt: &mut Attempt) -> Next {
        attempt.untold = Some(attempt.cut_to);
        if !self.is(Mutation::ResumeAtSlot) {
            (attempt.cut_to, attempt.rows) = (0, 0);
        }
        Next::To(Phase::Streaming)
    }

    /// `log::append` of a cut.
    fn append(&self, world: &mut World, attempt: &mut Attempt, phase: &Phase, outcome: Outcome) -> Next {
        let from = world.fold(attempt.seen).to;
        let kind = if attempt.rows == 0 { Kind::Idle } else { Kind::Commit };
        let epoch = attempt.ours.expect("an epoch of who streams");
        let (author, to, rows) = (attempt.id, attempt.cut_to, attempt.rows);
        let entry = Entry { author, epoch, kind, from, to, rows };
        let logged = match phase {
            Phase::Put => self.put(world, attempt, entry, outcome),
            _ if world.entry(attempt.seen + 1).is_none() => return Next::To(Phase::Put),
            _ => self.compare(world, attempt),
        };
        match logged {
            Logged::Unknown => Next::To(Phase::Get),
            // I5: whoever is in the log under this number won.
            Logged::Anothers => Next::Fenced,
            Logged::Ours => {
                attempt.seen += 1;
                if self.is(Mutation::ConfirmBeforePublish) {
                    attempt.untold = Some(attempt.cut_to);
                }
                let is_visible =
                    self.is(Mutation::PublishBeforeLog) || self.is(Mutation::WatermarkBeforePublish);
                match rows == 0 || is_visible {
                    true if !self.watermarks => self.published(attempt),
                    true => Next::To(Phase::Watermark),
                    false => Next::To(Phase::Complete(0)),
                }
            }
        }
    }

    /// One `put_if_absent` of the entry that follows.
    fn put(&self, world: &mut World, attempt: &Attempt, entry: Entry, outcome: Outcome) -> Logged {
        let seq = attempt.seen + 1;
        match outcome {
            Outcome::Done if self.is(Mutation::UnconditionalPut) && seq <= world.length() => {
                world.log[usize::from(seq) - 1] = entry;
                Logged::Ours
            }
            Outcome::Done if world.put_if_absent(seq, entry) => Logged::Ours,
            Outcome::Done if self.is(Mutation::NoNonceCheck) => Logged::Ours,
            Outcome::Done => Logged::Unknown,
            Outcome::Unknown => {
                world.put_if_absent(seq, entry);
                Logged::Unknown
            }
            Outcome::Lost => Logged::Unknown,
            Outcome::Late => {
                world.send(Request::Put { seq, entry });
                Logged::Unknown
            }
        }
    }

    /// The entry is there: whose nonce has it?
    fn compare(&self, world: &World, attempt: &Attempt) -> Logged {
        let author: Option<Id> = world.entry(attempt.seen + 1).map(|entry| entry.author);
        let is_ours = author == Some(attempt.id) || self.is(Mutation::NoNonceCheck);
        if is_ours { Logged::Ours } else { Logged::Anothers }
    }

    /// `publish::publish_file`: one of its two requests.
    fn publish_file(&self, world: &mut World, phase: &Phase, file: File, outcome: Outcome) -> Completed {
        if matches!(phase, Phase::Head(_) | Phase::RollHead(_)) {
            let is_there =
                world.visible.iter().any(|found| (found.seq, found.table) == (file.seq, file.table));
            return if is_there { Completed::Done } else { Completed::NoSuchUpload };
        }
        match outcome {
            Outcome::Late => {
                world.send(Request::Complete(file));
                Completed::Unknown
            }
            Outcome::Unknown => {
                world.complete(file);
                Completed::Unknown
            }
            _ if world.complete(file) || self.is(Mutation::NoHead) => Completed::Done,
            _ => Completed::NoSuchUpload,
        }
    }

    /// The file of a table in a logged cut.
    pub(crate) fn file(&self, world: &World, seq: u8, table: u8) -> File {
        let entry = world.entry(seq).expect("an entry that was read");
        File { seq, table, author: entry.author }
    }
}

/// A request that may be repeated. Whether its answer came.
pub(crate) fn request(world: &mut World, request: Request, outcome: Outcome) -> bool {
    if outcome == Outcome::Late {
        world.send(request);
        return false;
    }
    world.land(request);
    true
}

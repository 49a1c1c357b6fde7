//! Random walks of the real lake: several daemons and repairs over one store and one slot, request by request, with every fault of the model.
//!
//! Owns: chance. One thread, by a seed; `TRIBUTARY_SEED` repeats a walk, `TRIBUTARY_WALKS` says how many there are.
//! Does not: look at all that may happen; the crate `model` does, of a model. Decoding, buffers and snapshots are not in it.
//! Holds: everything waits at the gate, or is over, before the next step is chosen; time is the runtime's own and takes none.
//! Fails: with the seed, the last steps, and what is wrong with the store.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "all of it is a test: what is not there fails it"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lake::log::{self, Entry, EntryKind, FORMAT};
use lake::store::Store;
use lake::store::memory::MemoryStore;
use testkit::random::Random;
use tokio::task::JoinHandle;

mod daemon;
mod gate;
mod source;
mod truth;

use daemon::{Daemon, End, Mutation};
use gate::{Gate, Gated, Request, Verdict, Waiting};
use source::{START, Source, TABLES};
use truth::Truth;

/// What walks saw, over all of them: what never happened was not tested.
#[derive(Debug, Default)]
struct Seen {
    steps: u64,
    entries: u64,
    fenced: u64,
    gone: u64,
    voids: u64,
    landed: u64,
    started: u64,
}

struct Walk {
    mutation: Option<Mutation>,
    random: Random,
    store: MemoryStore,
    gate: Arc<Gate>,
    source: Source,
    processes: BTreeMap<u64, Process>,
    next_process: u64,
    in_flight: Vec<Request>,
    /// Whether a lifecycle rule ever removed an upload.
    has_removed: bool,
    /// The last steps, for people.
    story: Vec<String>,
    seen: Seen,
}

struct Process {
    task: JoinHandle<End>,
    is_repair: bool,
    /// It stands still until this step.
    frozen_until: u64,
}

#[test]
fn daemons_repairs_and_faults_leave_every_row_once() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds: Vec<u64> = match number("TRIBUTARY_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("TRIBUTARY_WALKS").unwrap_or(WALKS)).collect(),
    };
    let mut seen = Seen::default();
    for seed in &seeds {
        match walk(*seed, None) {
            Ok(of_walk) => seen.add(&of_walk),
            Err(wrong) => panic!("{wrong}"),
        }
    }
    println!("{} walks: {seen:?}", seeds.len());
    if seeds.len() >= 100 {
        let Seen { steps: _, entries: _, fenced, gone, voids, landed, started } = seen;
        assert!(fenced > 0 && gone > 0 && voids > 0 && landed > 0 && started > 0, "{seen:?}");
    }
}

/// Walks can tell right from wrong.
#[test]
fn every_mutation_is_found_out() {
    let mutations =
        [Mutation::NoGapCheck, Mutation::TakesAll, Mutation::ConfirmsCuts, Mutation::VoidWithoutDelete];
    for mutation in mutations {
        let found = (1..=WALKS_OF_MUTATION)
            .find_map(|seed| walk(seed, Some(mutation)).err().map(|wrong| (seed, wrong)));
        let (seed, wrong) = found.unwrap_or_else(|| panic!("{mutation:?} goes unnoticed"));
        println!("{mutation:?}: walk {seed}, {}", wrong.lines().next().unwrap_or_default());
    }
}

fn walk(seed: u64, mutation: Option<Mutation>) -> Result<Seen, String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let mut walk = Walk::new(seed, mutation);
    match runtime.block_on(walk.run()) {
        Ok(()) => Ok(walk.seen),
        Err(wrong) => {
            let from = walk.story.len().saturating_sub(STORY_STEPS);
            Err(format!("{wrong}; TRIBUTARY_SEED={seed} repeats it\n{}", walk.story[from..].join("\n")))
        }
    }
}

impl Walk {
    fn new(seed: u64, mutation: Option<Mutation>) -> Walk {
        Walk {
            mutation,
            random: Random::new(seed),
            store: MemoryStore::new(),
            gate: Arc::default(),
            source: Source::new(),
            processes: BTreeMap::new(),
            next_process: 0,
            in_flight: Vec::new(),
            has_removed: false,
            story: Vec::new(),
            seen: Seen::default(),
        }
    }

    async fn run(&mut self) -> Result<(), String> {
        log::append(&self.store, &first_entry()).await.map_err(|error| error.to_string())?;
        for step in 0..STEPS {
            self.settle().await?;
            self.check()?;
            self.step(step).await;
        }
        self.finish().await
    }

    /// Waits until everything stands still, and buries who is over.
    async fn settle(&mut self) -> Result<(), String> {
        // Longer than any backoff: who retries has asked again by then.
        tokio::time::sleep(Duration::from_secs(30)).await;
        let over: Vec<u64> = self
            .processes
            .iter()
            .filter(|(_, process)| process.task.is_finished())
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            let Some(process) = self.processes.remove(&id) else { continue };
            let end = process.task.await.map_err(|error| format!("process {id}: {error}"))?;
            self.tell(format!("process {id} ends: {end:?}"));
            match end {
                End::Fenced => self.seen.fenced += 1,
                End::Gone if self.has_removed => self.seen.gone += 1,
                // Of who owns the log nobody takes uploads.
                End::Refused { .. } if self.has_removed || self.is_succeeded(id)? => {}
                End::Repaired => {}
                End::Gone | End::Refused { .. } | End::Halted => {
                    return Err(format!("process {id} stops without a cause: {end:?}"));
                }
            }
        }
        Ok(())
    }

    /// Whether the log is of somebody else by now.
    fn is_succeeded(&self, id: u64) -> Result<bool, String> {
        let contents = self.store.contents();
        Ok(Truth::of(&contents)?.state.owner != format!("process {id}"))
    }

    fn check(&mut self) -> Result<(), String> {
        let contents = self.store.contents();
        let truth = Truth::of(&contents)?;
        self.seen.entries = u64::try_from(truth.log.len()).unwrap();
        self.seen.voids =
            u64::try_from(truth.log.iter().filter(|entry| entry.kind == EntryKind::Void).count()).unwrap();
        let server = self.source.look();
        truth.check(&server)
    }

    fn tell(&mut self, what: String) {
        self.story.push(what);
    }

    /// Something happens.
    async fn step(&mut self, step: u64) {
        self.seen.steps += 1;
        match self.random.below(100) {
            0..=2 => self.begin(false),
            3 => self.begin(true),
            4..=5 => self.kill(),
            6..=7 => self.freeze(step),
            8..=10 => self.commit(),
            11 => self.source.look().written.0 += 3,
            12 => {
                self.tell("the server finds that the session is dead".to_owned());
                self.source.look().holder = None;
            }
            13 if self.random.chance(20) => {
                let choice = self.random.number();
                self.source.look().crash(choice);
                self.tell("the server crashes".to_owned());
            }
            14 if self.random.chance(30) => self.remove().await,
            15..=18 => self.land().await,
            _ => self.answer(step),
        }
    }

    fn begin(&mut self, is_repair: bool) {
        let alike = self.processes.values().filter(|process| process.is_repair == is_repair).count();
        if alike >= if is_repair { 2 } else { PROCESSES_MAX } {
            return;
        }
        self.next_process += 1;
        let id = self.next_process;
        let store = Gated { inner: self.store.clone(), gate: Arc::clone(&self.gate), process: id };
        let (store, gate) = (Arc::new(store), Arc::clone(&self.gate));
        let (mutation, source) = (self.mutation, self.source.clone());
        let daemon = Daemon { mutation, process: id, store, gate, source };
        let task = match is_repair {
            true => tokio::spawn(daemon.repair()),
            false => tokio::spawn(daemon.run()),
        };
        self.processes.insert(id, Process { task, is_repair, frozen_until: 0 });
        self.tell(format!("process {id} starts{}", if is_repair { " to repair" } else { "" }));
        self.seen.started += 1;
    }

    fn any_process(&mut self) -> Option<u64> {
        let ids: Vec<u64> = self.processes.keys().copied().collect();
        self.random.pick(&ids).copied()
    }

    /// What it had asked for may still land.
    fn kill(&mut self) {
        let Some(id) = self.any_process() else { return };
        if let Some(process) = self.processes.remove(&id) {
            process.task.abort();
            self.tell(format!("process {id} is killed"));
        }
    }

    /// Long enough for others to take over.
    fn freeze(&mut self, step: u64) {
        let Some(id) = self.any_process() else { return };
        let frozen_until = step + self.random.between(20, 150);
        if let Some(process) = self.processes.get_mut(&id) {
            process.frozen_until = frozen_until;
            self.tell(format!("process {id} stands still until {frozen_until}"));
        }
    }

    fn commit(&mut self) {
        let rows: [u64; TABLES] = std::array::from_fn(|_| self.random.below(4));
        self.source.look().commit(rows);
    }

    /// A lifecycle rule takes an upload.
    async fn remove(&mut self) {
        let unfinished = self.store.list_uploads("").await.unwrap();
        let Some(upload) = self.random.pick(&unfinished) else { return };
        let (key, upload_id) = (upload.key.clone(), upload.upload_id.clone());
        self.store.abort_upload(&key, &upload_id).await.unwrap();
        self.has_removed = true;
        self.tell(format!("the upload {upload_id} of {key} is removed"));
    }

    async fn land(&mut self) {
        if self.in_flight.is_empty() {
            return;
        }
        let place = self.random.below(u64::try_from(self.in_flight.len()).unwrap());
        let request = self.in_flight.swap_remove(usize::try_from(place).unwrap());
        self.tell(format!("lands late: {}", named(&request)));
        request.land(&self.store).await;
        self.seen.landed += 1;
    }

    /// Tells one of those who wait what comes of their request.
    fn answer(&mut self, step: u64) {
        let (mut waiting, given_up) = self.gate.take();
        // Of what was asked by who is gone, some is on its way.
        for request in given_up.into_iter().filter_map(|waiting| waiting.request) {
            if self.random.chance(50) {
                self.in_flight.push(request);
            }
        }
        let is_awake = |waiting: &Waiting| {
            self.processes.get(&waiting.process).is_some_and(|process| process.frozen_until <= step)
        };
        let awake: Vec<usize> = (0..waiting.len()).filter(|place| is_awake(&waiting[*place])).collect();
        if let Some(place) = self.random.pick(&awake).copied() {
            let chosen = waiting.swap_remove(place);
            let verdict = self.judge(&chosen);
            self.tell(format!("{}: {} {} {verdict:?}", chosen.process, chosen.operation, chosen.key));
            chosen.answer.send(verdict).ok();
        }
        self.gate.put_back(waiting);
    }

    fn judge(&mut self, chosen: &Waiting) -> Verdict {
        let choice = self.random.number();
        match (self.random.below(100), &chosen.request) {
            (0..=7, Some(_)) => Verdict::Unknown,
            (8..=15, Some(request)) => {
                self.in_flight.push(request.clone());
                Verdict::Failed
            }
            (16..=18, _) => Verdict::Failed,
            _ => Verdict::Done(choice),
        }
    }

    /// Everybody is gone but one new daemon without faults, and, if need be, who repairs.
    async fn finish(&mut self) -> Result<(), String> {
        for process in std::mem::take(&mut self.processes).into_values() {
            process.task.abort();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(self.gate.take());
        self.source.look().holder = None;
        let goal = self.source.look().written;
        for _ in 0..3 {
            self.begin(false);
            for _ in 0..STEPS_ALONE {
                let before = self.seen.gone;
                self.settle().await?;
                self.check()?;
                if self.seen.gone > before {
                    self.begin(true);
                } else if self.processes.is_empty() {
                    break;
                } else if self.source.look().confirmed == goal {
                    let contents = self.store.contents();
                    let server = self.source.look();
                    return Truth::of(&contents)?.is_whole(&server);
                }
                let (waiting, _) = self.gate.take();
                for waiting in waiting {
                    let choice = self.random.number();
                    waiting.answer.send(Verdict::Done(choice)).ok();
                }
            }
        }
        Err(format!("{goal} is never confirmed, {} is", self.source.look().confirmed))
    }
}

impl Seen {
    fn add(&mut self, other: &Seen) {
        let Seen { steps, entries, fenced, gone, voids, landed, started } = other;
        self.steps += steps;
        self.entries += entries;
        self.fenced += fenced;
        self.gone += gone;
        self.voids += voids;
        self.landed += landed;
        self.started += started;
    }
}

fn named(request: &Request) -> String {
    match request {
        Request::PutIfAbsent(key, _) | Request::Put(key, _) => format!("put {key}"),
        Request::CreateUpload(key) => format!("create_upload {key}"),
        Request::Complete { key, upload_id, .. } => format!("complete_upload {upload_id} {key}"),
        Request::Abort { key, upload_id } => format!("abort_upload {upload_id} {key}"),
        Request::Delete(key) => format!("delete {key}"),
    }
}

fn first_entry() -> Entry {
    Entry {
        format: FORMAT,
        seq: 1,
        nonce: log::nonce().unwrap(),
        epoch: 1,
        owner: "setup".to_owned(),
        kind: EntryKind::Open,
        system_id: "7".to_owned(),
        timeline: 1,
        slot: "tributary".to_owned(),
        from_lsn: START,
        to_lsn: START,
        to_commit_ts: None,
        written_at: None,
        tables: Vec::new(),
        events: Vec::new(),
    }
}

/// Daemons at once: one that has the slot, one that had it, one that waits.
const PROCESSES_MAX: usize = 3;
/// Steps of a walk with faults.
const STEPS: u64 = 500;
/// Steps of one daemon alone; each answers everything that waits.
const STEPS_ALONE: u64 = 400;
/// Walks of a run.
const WALKS: u64 = 200;
/// Walks in which a mutation has to show.
const WALKS_OF_MUTATION: u64 = 2_000;
/// Steps that a failure tells.
const STORY_STEPS: usize = 80;

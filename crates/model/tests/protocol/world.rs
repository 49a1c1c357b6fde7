//! What there is: the store, the slot, the writers and repairs that are under way, and requests that may still land.
//!
//! Owns: the state of the model, and what a log folds to.
//! Does not: move; that is in `writer`, `repair` and `main`.
//! Holds: equal situations are equal states: upload ids and nonces are made of who asked and for what, sets are sorted, and what nobody asks for
//! any more is forgotten.
//! Fails: never.

/// A position in the WAL: that of the commit that ends there, or of nothing that concerns us. 0 is where the slot was made.
pub(crate) type Position = u8;

/// The number of an attempt or a repair, which stands for its nonces.
pub(crate) type Id = u8;

/// Transactions, a bit for each position.
pub(crate) type Rows = u8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Open,
    Commit,
    Idle,
    Void,
}

/// A log entry. Its number is its place in the log, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Entry {
    /// Whose nonce it has.
    pub(crate) author: Id,
    pub(crate) epoch: u8,
    pub(crate) kind: Kind,
    pub(crate) from: Position,
    pub(crate) to: Position,
    /// What its files hold; there is one of each table.
    pub(crate) rows: Rows,
}

/// An upload, or what became of it: the key is number and table, the upload id has the author as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct File {
    pub(crate) seq: u8,
    pub(crate) table: u8,
    pub(crate) author: Id,
}

/// A request that the store got, and that its sender has given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Request {
    Put { seq: u8, entry: Entry },
    Complete(File),
    Abort(File),
    Delete { seq: u8, table: u8 },
    Watermark(u8),
}

/// What comes of a request that changes the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    /// It was applied, and the answer came.
    Done,
    /// It was applied, and the answer was lost.
    Unknown,
    /// It was not applied, and nobody says so.
    Lost,
    /// It may be applied at any later time.
    Late,
}

/// From opening to the end of one stream: `pipeline::attempt`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Attempt {
    /// 0 until it has the slot: before that it has left no trace, and one is like the other.
    pub(crate) id: Id,
    /// `Context::epoch`: that of the last `open` entry of its process.
    pub(crate) ours: Option<u8>,
    /// How many entries its `State` has.
    pub(crate) seen: u8,
    /// Where it asked the stream to start: `Taken::from`.
    pub(crate) asked_from: Position,
    /// From where the server sends, whatever it was asked for.
    pub(crate) sent_from: Position,
    /// The cut at hand.
    pub(crate) cut_to: Position,
    pub(crate) rows: Rows,
    /// What Postgres may be told; it was, unless this is `Some`.
    pub(crate) untold: Option<Position>,
    pub(crate) phase: Phase,
}

/// What an attempt does next.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Phase {
    ReadSlot,
    Follow {
        confirmed: Position,
    },
    StartReplication,
    Open,
    OpenPut,
    OpenGet,
    RollComplete(u8),
    RollHead(u8),
    RollWatermark,
    List,
    Tail(Vec<File>),
    Abort(Vec<File>),
    Ready,
    /// Between two cuts.
    Streaming,
    Create(u8),
    Part(u8),
    Put,
    Get,
    Complete(u8),
    Head(u8),
    Watermark,
    /// It ended with a transient error: only a new attempt of its process follows.
    Again,
    /// It stopped for good: `UploadGone`.
    Gone,
    /// It stopped for good: an upload that nobody may take from it is not there, before any entry named it.
    Refused,
    /// It stopped for good: the slot is beyond the log.
    Halted,
}

/// `tributary repair`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Repair {
    pub(crate) id: Id,
    pub(crate) seen: u8,
    pub(crate) phase: RepairPhase,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RepairPhase {
    List,
    Heads(Vec<File>),
    IsActive,
    SlotPosition,
    Abort(u8),
    Delete(u8),
    Put,
    Get,
}

/// How often what may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    /// Attempts: starts and reconnects.
    pub(crate) attempts: u8,
    pub(crate) repairs: u8,
    /// Requests that land late.
    pub(crate) lates: u8,
    /// Uploads that a lifecycle rule removes.
    pub(crate) removals: u8,
    /// Crashes of the server, after which the slot is where it was some time before.
    pub(crate) crashes: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) log: Vec<Entry>,
    pub(crate) uploads: Vec<File>,
    /// Objects. Of those with the same key there is one.
    pub(crate) visible: Vec<File>,
    pub(crate) watermark: u8,
    pub(crate) confirmed: Position,
    /// Whose session has the slot. It may be gone while the attempt still believes in it.
    pub(crate) holder: Option<Id>,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) repairs: Vec<Repair>,
    pub(crate) in_flight: Vec<Request>,
    pub(crate) ids: Id,
    pub(crate) left: Budget,
}

/// `lake::log::State`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fold {
    pub(crate) epoch: u8,
    pub(crate) to: Position,
    /// The number of the entry.
    pub(crate) last_cut: Option<u8>,
}

/// `State::apply`, entry by entry.
pub(crate) fn fold(log: &[Entry]) -> Fold {
    let mut folded = Fold { epoch: 0, to: 0, last_cut: None };
    for (seq, entry) in (1..).zip(log) {
        folded.epoch = entry.epoch;
        folded.to = entry.to;
        match entry.kind {
            Kind::Commit => folded.last_cut = Some(seq),
            Kind::Idle | Kind::Void => folded.last_cut = None,
            Kind::Open => {}
        }
    }
    folded
}

impl World {
    /// A lake after `bootstrap::create`: entry 1 is an `open` at the position of the slot.
    pub(crate) fn new(left: Budget) -> World {
        let first = Entry { author: 0, epoch: 1, kind: Kind::Open, from: 0, to: 0, rows: 0 };
        World {
            log: vec![first],
            uploads: Vec::new(),
            visible: Vec::new(),
            watermark: 0,
            confirmed: 0,
            holder: None,
            attempts: Vec::new(),
            repairs: Vec::new(),
            in_flight: Vec::new(),
            ids: 0,
            left,
        }
    }

    pub(crate) fn length(&self) -> u8 {
        u8::try_from(self.log.len()).expect("a log of a few entries")
    }

    pub(crate) fn entry(&self, seq: u8) -> Option<&Entry> {
        self.log.get(usize::from(seq).checked_sub(1)?)
    }

    pub(crate) fn fold(&self, seen: u8) -> Fold {
        fold(&self.log[..usize::from(seen)])
    }

    pub(crate) fn is_visible(&self, file: File) -> bool {
        self.visible.contains(&file)
    }

    /// `Store::put_if_absent` of an entry. Whether it is new.
    pub(crate) fn put_if_absent(&mut self, seq: u8, entry: Entry) -> bool {
        let is_new = seq == self.length() + 1;
        if is_new {
            self.log.push(entry);
        }
        is_new
    }

    /// `Store::complete_upload`. Whether there was such an upload.
    pub(crate) fn complete(&mut self, file: File) -> bool {
        if !remove(&mut self.uploads, &file) {
            return false;
        }
        self.delete(file.seq, file.table);
        insert(&mut self.visible, file);
        true
    }

    pub(crate) fn delete(&mut self, seq: u8, table: u8) {
        self.visible.retain(|file| (file.seq, file.table) != (seq, table));
    }

    pub(crate) fn upload(&mut self, file: File) {
        insert(&mut self.uploads, file);
    }

    pub(crate) fn abort(&mut self, file: File) {
        remove(&mut self.uploads, &file);
    }

    /// A request lands.
    pub(crate) fn land(&mut self, request: Request) {
        match request {
            Request::Put { seq, entry } => drop(self.put_if_absent(seq, entry)),
            Request::Complete(file) => drop(self.complete(file)),
            Request::Abort(file) => self.abort(file),
            Request::Delete { seq, table } => self.delete(seq, table),
            Request::Watermark(seq) => self.watermark = seq,
        }
    }

    /// A request that may land later.
    pub(crate) fn send(&mut self, request: Request) {
        self.left.lates -= 1;
        self.in_flight.push(request);
        self.in_flight.sort_unstable();
    }

    /// The session of this attempt ends, if the server has not ended it before.
    pub(crate) fn free_slot_of(&mut self, id: Id) {
        if self.holder == Some(id) {
            self.holder = None;
        }
    }

    pub(crate) fn next_id(&mut self) -> Id {
        self.ids += 1;
        self.ids
    }
}

fn insert(files: &mut Vec<File>, file: File) {
    if let Err(place) = files.binary_search(&file) {
        files.insert(place, file);
    }
}

fn remove(files: &mut Vec<File>, file: &File) -> bool {
    match files.binary_search(file) {
        Ok(place) => {
            files.remove(place);
            true
        }
        Err(_) => false,
    }
}

//! A daemon with the real `lake`, and a stream without bytes.
//!
//! Owns: what `pipeline::opening` and `pipeline::streaming` do around the lake, and what `cli::repair` does, in their order.
//! Does not: choose: what it receives and when it cuts, the gate tells.
//! Holds: all that reaches the store goes through `lake`.
//! Fails: as the daemon does, by [`End`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use lake::gauge::Gauge;
use lake::layout::Hour;
use lake::log::{self, Author, Entry, EntryKind, Event, State};
use lake::store::Store;
use lake::writer::{Cut, FileSpec, Layout, OpenFile, Rows, Settings, Steps, Writer};
use lake::{Error, publish};
use pgoutput::Lsn;

use crate::gate::{Gate, Gated, Verdict};
use crate::source::{Session, Source, TABLES};

/// How a process ends by itself.
#[derive(Debug)]
pub(crate) enum End {
    Fenced,
    /// `UploadGone`, which `repair` is for.
    Gone,
    /// The store refused what should have been possible.
    Refused {
        _why: String,
    },
    /// The slot is beyond the log.
    Halted,
    /// A repair that is done, or had nothing to do, or may not.
    Repaired,
}

/// Why an attempt ends.
enum Stop {
    /// Another one follows.
    Again,
    For(End),
}

/// A daemon that is wrong in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// A stream that began behind what was taken back is as good as any.
    NoGapCheck,
    /// Transactions are taken that the lake has.
    TakesAll,
    /// Postgres is told what is cut.
    ConfirmsCuts,
    /// What was published of a cut stays when it is taken back.
    VoidWithoutDelete,
}

pub(crate) struct Daemon {
    pub(crate) mutation: Option<Mutation>,
    pub(crate) process: u64,
    pub(crate) store: Arc<Gated>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) source: Source,
}

/// What the loop knows, as `Positions` does.
struct Stream {
    session: Session,
    resume: Lsn,
    /// Transactions that were received.
    received: usize,
    clean: Lsn,
    /// Where the last transaction of the open cut ends.
    committed: Option<Lsn>,
    cut: Lsn,
    published: Lsn,
    files: BTreeMap<usize, OpenFile>,
    schemas_known: [bool; TABLES],
    events: Vec<Event>,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::For(match error {
            Error::Fenced { .. } => End::Fenced,
            Error::UploadGone { .. } => End::Gone,
            Error::Store(error) if error.is_transient() => return Stop::Again,
            other => End::Refused { _why: format!("{other:?}") },
        })
    }
}

impl Daemon {
    /// `pipeline::attempts`
    pub(crate) async fn run(self) -> End {
        let mut epoch = None;
        loop {
            match Box::pin(self.attempt(&mut epoch)).await {
                Stop::Again => {}
                Stop::For(end) => return end,
            }
        }
    }

    async fn attempt(&self, epoch: &mut Option<u64>) -> Stop {
        let mut session = None;
        let stop = match self.stream(epoch, &mut session).await {
            Ok(never) => match never {},
            Err(stop) => stop,
        };
        if let Some(session) = session {
            self.source.end(session);
        }
        stop
    }

    async fn stream(
        &self,
        epoch: &mut Option<u64>,
        held: &mut Option<Session>,
    ) -> Result<std::convert::Infallible, Stop> {
        let (state, author, session) = self.open(epoch, held).await?;
        let mut stream = Stream::at(&state, session);
        if self.is(Mutation::TakesAll) {
            stream.resume = Lsn::ZERO;
        }
        let gauge = Gauge::new(1 << 24);
        let settings = Settings { file_bytes: 1 << 20, encoders: 1, uploads: 8, steps: Steps::default() };
        let store = Arc::clone(&self.store) as Arc<dyn Store>;
        let mut writer = Writer::start(store, Arc::clone(&gauge), settings, state, author);
        let stop = loop {
            if let Err(stop) = self.turn(&mut stream, &mut writer, &gauge).await {
                break stop;
            }
        };
        writer.abandon().await;
        Err(stop)
    }

    /// `opening::open`
    async fn open(
        &self,
        epoch: &mut Option<u64>,
        held: &mut Option<Session>,
    ) -> Result<(State, Author, Session), Stop> {
        let store = self.store.as_ref();
        let mut state = log::load(store).await?.expect("a log with its first entry");
        let (session, from) = loop {
            self.ask("slot").await?;
            let confirmed = self.source.look().confirmed;
            log::follow_on(store, &mut state).await?;
            state.refuse_fenced(*epoch)?;
            if confirmed > state.to_lsn {
                return Err(Stop::For(End::Halted));
            }
            self.ask("start_replication").await?;
            if let Some(session) = self.source.start(state.to_lsn) {
                break (session, state.to_lsn);
            }
        };
        *held = Some(session);
        let fill = |_: &State, entry: Entry| entry;
        let author = log::open(store, &mut state, *epoch, format!("process {}", self.process), fill).await?;
        let author = author.ok_or(Stop::Again)?;
        *epoch = Some(author.epoch);
        if state.to_lsn < from && !self.is(Mutation::NoGapCheck) {
            return Err(Stop::Again);
        }
        publish::roll_forward(store, &state).await?;
        self.confirm(session, state.to_lsn).await?;
        Ok((state, author, session))
    }

    /// `Streaming::stream_on`
    async fn turn(&self, stream: &mut Stream, writer: &mut Writer, gauge: &Arc<Gauge>) -> Result<(), Stop> {
        tokio::select! {
            biased;
            published = writer.published() => {
                let published = published?;
                assert!(published.to_lsn <= stream.cut, "I1");
                stream.published = published.to_lsn;
                let flushed = if self.is(Mutation::ConfirmsCuts) { stream.cut } else { stream.published };
                self.confirm(stream.session, flushed).await
            }
            choice = self.ask("next") => self.next(stream, writer, gauge, choice?),
        }
    }

    fn next(
        &self,
        stream: &mut Stream,
        writer: &mut Writer,
        gauge: &Arc<Gauge>,
        choice: u64,
    ) -> Result<(), Stop> {
        let lives = self.source.look().holder == Some(stream.session.number);
        // What was received before may be read for a while.
        if !lives && choice.is_multiple_of(5) {
            return Err(Stop::Again);
        }
        match choice % 3 {
            0 if writer.has_room() => return stream.cut(writer, choice / 3),
            1 => stream.keepalive(&self.source),
            _ => stream.receive(&self.source, writer, gauge),
        }
        Ok(())
    }

    async fn confirm(&self, session: Session, flushed: Lsn) -> Result<(), Stop> {
        self.ask("status").await?;
        if self.source.confirm(session, flushed) { Ok(()) } else { Err(Stop::Again) }
    }

    fn is(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// Something that the source is asked for. A failure ends the attempt.
    async fn ask(&self, operation: &'static str) -> Result<u64, Stop> {
        match self.gate.ask(self.process, operation, "", None).await {
            Verdict::Done(choice) => Ok(choice),
            Verdict::Unknown | Verdict::Failed => Err(Stop::Again),
        }
    }

    /// `cli::repair`
    pub(crate) async fn repair(self) -> End {
        match self.void().await {
            Ok(()) | Err(Stop::Again) => End::Repaired,
            Err(Stop::For(end)) => end,
        }
    }

    async fn void(&self) -> Result<(), Stop> {
        let store = self.store.as_ref();
        let mut state = log::load(store).await?.expect("a log with its first entry");
        let Some(entry) = state.last_cut.clone() else { return Ok(()) };
        let Some(_) = publish::first_missing(store, &entry).await? else { return Ok(()) };
        self.ask("is_active").await?;
        if self.source.look().holder.is_some() {
            return Ok(());
        }
        self.ask("slot").await?;
        if self.source.look().confirmed > entry.from_lsn {
            return Ok(());
        }
        publish::abort_entry(store, &entry).await?;
        if !self.is(Mutation::VoidWithoutDelete) {
            publish::delete_published(store, &entry).await?;
        }
        publish::publish_schemas(store, &entry).await?;
        // `offline::append`
        let author = Author { epoch: state.epoch + 1, owner: format!("repair {}", self.process) };
        let events = vec![Event::Void { seq: entry.seq, reason: String::new() }];
        let void = Entry { to_lsn: entry.from_lsn, events, ..state.next_entry(&author, EntryKind::Void)? };
        log::append(store, &void).await?;
        Ok(state.advance(&void)?)
    }
}

impl Stream {
    fn at(state: &State, session: Session) -> Stream {
        let at = state.to_lsn;
        Stream {
            session,
            resume: at,
            received: 0,
            clean: at,
            committed: None,
            cut: at,
            published: at,
            files: BTreeMap::new(),
            schemas_known: std::array::from_fn(|table| state.tables.contains_key(&oid(table))),
            events: Vec::new(),
        }
    }

    /// The next transaction, if there is one.
    fn receive(&mut self, source: &Source, writer: &mut Writer, gauge: &Arc<Gauge>) {
        let transactions = source.look().transactions.clone();
        let sent = transactions.get(self.received..).unwrap_or_default();
        let Some(skipped) = sent.iter().position(|next| next.end_lsn > self.session.sent_from) else {
            return;
        };
        let next = sent[skipped];
        self.received += skipped + 1;
        // I2: dropped whole, or taken whole.
        if next.final_lsn < self.resume {
            return;
        }
        for (table, rows) in next.rows.into_iter().enumerate().filter(|(_, rows)| *rows > 0) {
            if !std::mem::replace(&mut self.schemas_known[table], true) {
                self.events.push(schema_event(table));
            }
            let file = self.files.entry(table).or_insert_with(|| writer.open_file(spec(table)));
            file.write(made(gauge, next.final_lsn, rows));
        }
        self.clean = self.clean.max(next.end_lsn);
        self.committed = Some(next.end_lsn);
    }

    /// The server has sent all there is.
    fn keepalive(&mut self, source: &Source) {
        let server = source.look();
        let is_behind = |end: Lsn| end > self.session.sent_from;
        let unsent = server.transactions.get(self.received..).unwrap_or_default();
        if !unsent.iter().any(|transaction| is_behind(transaction.end_lsn)) {
            self.clean = self.clean.max(server.written);
        }
    }

    /// `Streaming::cut_if_due` with `Positions::seal`
    fn cut(&mut self, writer: &mut Writer, choice: u64) -> Result<(), Stop> {
        let has_rows = !self.files.is_empty();
        let is_idle = self.published == self.cut && self.clean > self.cut;
        if !has_rows && !is_idle {
            return Ok(());
        }
        // A snapshot opens files, whose schemas the next cut has, rows or none.
        if choice.is_multiple_of(4)
            && let Some(table) = self.schemas_known.iter().position(|known| !known)
        {
            self.schemas_known[table] = true;
            self.events.push(schema_event(table));
        }
        let to_lsn = self.committed.take().filter(|_| has_rows).unwrap_or(self.clean);
        self.cut = to_lsn;
        let files = std::mem::take(&mut self.files).into_values().collect();
        let (to_commit_time, events) = (has_rows.then_some(0), std::mem::take(&mut self.events));
        Ok(writer.cut(
            Cut {
                to_lsn,
                from_commit_time: to_commit_time,
                to_commit_time,
                written_at: String::new(),
                events,
            },
            files,
        )?)
    }
}

fn oid(table: usize) -> u32 {
    7 + u32::try_from(table).expect("few tables")
}

pub(crate) fn name(table: usize) -> String {
    format!("public.t{table}")
}

fn spec(table: usize) -> FileSpec {
    FileSpec {
        table: name(table),
        relation: oid(table),
        path: format!("public/t{table}"),
        schema_id: 1,
        layout: Layout::Hour(Hour { hour: 1 }),
    }
}

fn schema_event(table: usize) -> Event {
    Event::Schema {
        table: name(table),
        schema_name: "public".to_owned(),
        table_name: format!("t{table}"),
        relation: oid(table),
        path: format!("public/t{table}"),
        schema_id: 1,
        document: serde_json::json!({}),
    }
}

fn schema() -> SchemaRef {
    let field = |name: &str, data_type, id: &str| {
        let ids = HashMap::from([("PARQUET:field_id".to_owned(), id.to_owned())]);
        Field::new(name, data_type, true).with_metadata(ids)
    };
    Arc::new(Schema::new(vec![
        field("_cdc_op", DataType::Utf8, "1"),
        field("_cdc_lsn", DataType::Int64, "2"),
        field("_cdc_seq", DataType::Int64, "3"),
    ]))
}

/// The rows of a transaction.
fn made(gauge: &Arc<Gauge>, lsn: Lsn, rows: u64) -> Rows {
    let count = i64::try_from(rows).expect("few rows");
    let at = i64::try_from(lsn.0).expect("a small position");
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values((0..count).map(|_| "I"))),
        Arc::new(Int64Array::from_iter_values((0..count).map(|_| at))),
        Arc::new(Int64Array::from_iter_values(1..=count)),
    ];
    let batch = RecordBatch::try_new(schema(), columns).expect("columns of the schema");
    Rows::alike(batch, lsn, 0, "I", gauge)
}

//! What happens, and when.
//!
//! Owns: one run from its seed to its end, and the judgement of it.
//! Does not: know how anything is done.
//! Holds: after the last fault everything gets well, and everything that committed has to be in the lake.
//! Fails: with what is wrong, in words.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lake::store::Store as _;
use pgoutput::Lsn;
use tokio::time::Instant;
use tributary::error::Kind;
use tributary::source;

use crate::network::Network;
use crate::postgres::Server;
use crate::postgres::database::Database;
use crate::problems;
use crate::process::{Ended, Process, configuration};
use crate::random::{Machine, Random};
use crate::reader::Reader;
use crate::seen;
use crate::store::{Bucket, Weather};
use crate::trace::Trace;

/// Everything that there is.
struct World {
    random: Random,
    trace: Trace,
    server: Server,
    network: Network,
    bucket: Bucket,
    reader: Arc<Mutex<Reader>>,
    processes: Vec<Process>,
    /// When a daemon is started next.
    restart_at: Option<Instant>,
    starts: u64,
    /// How often the store had changed when it was looked at last.
    looked_at: u64,
    /// Nothing breaks any more.
    is_fair: bool,
    /// The source cannot be trusted any more, and why.
    doubt: Option<&'static str>,
    /// A daemon has seen that.
    has_halted: bool,
}

/// Runs one seed.
pub(crate) async fn run(seed: u64, trace: Trace) -> Result<String, String> {
    let random = Random::new(seed);
    lake::ambient::simulated::enter(Some(std::rc::Rc::new(Machine::new(random.fork("machine")))));
    let mut dice = random.fork("world");
    let version = *dice.pick(&[150_010, 160_004, 170_002, 180_001]);
    let bucket = Bucket::new(random.fork("store"), 64 << 10, trace.clone());
    let reader = Arc::new(Mutex::new(Reader::default()));
    let (audited, looked) = (bucket.clone(), Arc::clone(&reader));
    // I1, whenever Postgres is told something. Rows are compared elsewhere.
    let audit = Arc::new(move |flush: Lsn| {
        let mut reader = looked.lock().expect("no panic before");
        // What was published stays so.
        if flush <= reader.published {
            return;
        }
        if let Err(problem) = reader.read_log(&audited.objects.contents()) {
            problems::note(problem);
        }
        if flush > reader.published {
            problems::note(format!("I1: {flush} is confirmed, and {} is published", reader.published));
        }
    });
    let server = Server::new(Database::new(version), random.fork("postgres"), trace.clone(), audit);
    let network = Network::new(server.clone(), random.fork("network"), trace.clone());
    let wires = network.clone();
    source::simulated::enter(Some(std::rc::Rc::new(move |host: &str| wires.connect(host))));
    trace.say(format!("seed {seed}, Postgres {version}"));
    let mut world = World {
        random: dice,
        trace,
        server,
        network,
        bucket,
        reader,
        processes: Vec::new(),
        restart_at: Some(Instant::now()),
        starts: 0,
        looked_at: 0,
        is_fair: false,
        doubt: None,
        has_halted: false,
    };
    let outcome = world.live().await;
    for process in world.processes.drain(..) {
        process.kill();
    }
    let summary = world.reader.lock().expect("no panic before").summary();
    outcome.map(|()| summary)
}

impl World {
    async fn live(&mut self) -> Result<(), String> {
        self.bucket.set_lapses(*self.random.pick(&[0, 3, 10]));
        let steps = self.random.between(30, 90);
        for _ in 0..steps {
            self.step().await?;
        }
        match self.random.below(100) {
            0..80 => self.recover().await,
            _ => self.betray().await,
        }
    }

    /// Something happens, and everything is looked at.
    async fn step(&mut self) -> Result<(), String> {
        match self.random.below(100) {
            0..60 => self.write(),
            60..63 => self.alter(),
            63..66 => self.weather(),
            66..70 => self.kill(),
            70..71 if self.random.chance(70) => self.crash(),
            70..71 => self.fail_over(),
            71..73 => self.cut(),
            73..75 => self.freeze(),
            75..76 => self.stop(),
            76..78 => self.second(),
            78..80 => self.network.set_breaks(*self.random.pick(&[0, 0, 30])),
            80..85 => drop(self.server.database().write(self.random.between(100, 100_000))),
            85..88 => self.one_behind_the_other().await?,
            88 => self.server.jump(),
            _ => {}
        }
        let pause = match self.random.below(10) {
            0..6 => self.random.millis(0, 400),
            6..9 => self.random.millis(400, 4_000),
            _ => self.random.millis(4_000, 30_000),
        };
        self.wait(pause).await
    }

    /// Time passes; daemons that ended are started again.
    async fn wait(&mut self, length: Duration) -> Result<(), String> {
        let until = Instant::now() + length;
        loop {
            self.attend().await?;
            self.look()?;
            let now = Instant::now();
            if now >= until {
                return Ok(());
            }
            tokio::time::sleep((until - now).min(LOOKS)).await;
        }
    }

    fn look(&mut self) -> Result<(), String> {
        let changes = self.bucket.changes();
        if std::mem::replace(&mut self.looked_at, changes) == changes {
            return problems::first();
        }
        let objects = self.bucket.objects.contents();
        self.reader.lock().expect("no panic before").look(&objects, &self.server.database())?;
        problems::first()
    }

    /// Looks after the daemons.
    async fn attend(&mut self) -> Result<(), String> {
        let ended: Vec<Process> = self.processes.extract_if(.., |process| process.has_ended()).collect();
        for process in ended {
            let host = process.host.clone();
            let ended = process.ended().await?;
            self.trace.say(format!("{host}: {ended:?}"));
            match &ended {
                Ended::Stopped => seen::note("a daemon stopped when it was told to"),
                Ended::Killed => seen::note("a daemon died at an await"),
                Ended::Failed { kind: Kind::Fenced, .. } => seen::note("a daemon was fenced"),
                Ended::Failed { .. } => {}
            }
            match ended {
                Ended::Stopped | Ended::Killed | Ended::Failed { kind: Kind::Fenced, .. } => {}
                Ended::Failed { kind: Kind::SourceHalted, .. } if self.doubt.is_some() => {
                    self.has_halted = true
                }
                Ended::Failed { kind, message } => {
                    return Err(format!("{host} gave up ({}): {message}", kind.label()));
                }
            }
        }
        let lapsed = self.processes.iter().find(|process| process.has_lapsed(&self.network));
        if let Some(process) = lapsed {
            seen::note("a daemon was frozen before a log entry");
            self.trace.say(format!("{}: frozen before a log entry", process.host));
            self.restart_at = Some(Instant::now() + self.random.millis(0, 5_000));
        }
        if self.processes.is_empty() && self.restart_at.is_none() {
            self.restart_at = Some(Instant::now() + self.random.millis(0, 5_000));
        }
        if self.restart_at.is_some_and(|at| at <= Instant::now()) {
            self.restart_at = None;
            self.start();
        }
        problems::first()
    }

    fn start(&mut self) {
        if !self.processes.is_empty() {
            seen::note("two daemons ran at once");
        }
        self.starts += 1;
        let host = format!("d{}", self.starts);
        let config = configuration(&host, &mut self.random);
        let polls = (!self.is_fair && self.random.chance(30)).then(|| self.random.between(1, 1_500));
        self.processes.push(Process::start(&host, &config, &self.bucket, polls, &self.trace));
    }

    /// Open transactions go on, and some end.
    fn write(&mut self) {
        let micros = self.server.unix_micros();
        let is_sync = self.random.chance(10);
        let mut database = self.server.database();
        for _ in 0..self.random.between(1, 6) {
            let session = database.session(&mut self.random);
            for _ in 0..self.random.between(1, 8) {
                database.change(session, &mut self.random);
            }
            if self.random.chance(4) {
                database.truncate(session, &mut self.random);
                database.commit(session, micros, &mut self.random);
            } else if self.random.chance(8) {
                database.roll_back(session);
            } else if self.random.chance(60) {
                let end = database.commit(session, micros, &mut self.random);
                self.trace.say(format!("postgres: commit, {end}"));
            }
        }
        // One behind the other, so that one begins its commit where the other one ends (T02).
        while database.sessions() > 0 && (is_sync || self.random.chance(5)) {
            database.commit(0, micros, &mut self.random);
        }
        drop(database);
        self.server.tell();
    }

    /// What is open commits, each transaction where the one before ended, with time between them for a cut that ends just there, and for another
    /// daemon that begins there (T02).
    async fn one_behind_the_other(&mut self) -> Result<(), String> {
        let pauses = self.random.millis(1_000, 15_000);
        while self.server.database().sessions() > 0 {
            let micros = self.server.unix_micros();
            let end = self.server.database().commit(0, micros, &mut self.random);
            self.trace.say(format!("postgres: commit, {end}"));
            self.server.tell();
            self.wait(pauses).await?;
            if self.random.chance(70) {
                self.kill();
            }
        }
        Ok(())
    }

    fn alter(&mut self) {
        let micros = self.server.unix_micros();
        let altered = self.server.database().alter(micros, &mut self.random);
        if let Some(said) = altered {
            self.trace.say(said);
        }
        self.server.tell();
    }

    fn weather(&mut self) {
        let weather = *self.random.pick(&[Weather::FAIR, Weather::SHOWERS, Weather::STORM, Weather::OUTAGE]);
        self.trace.say(format!("store: {weather:?}"));
        self.bucket.set_weather(weather);
    }

    fn kill(&mut self) {
        if let Some(process) = self.take_one() {
            seen::note("a daemon was killed");
            self.trace.say(format!("{}: killed", process.host));
            process.kill();
        }
    }

    fn stop(&mut self) {
        if let Some(process) = self.processes.first() {
            self.trace.say(format!("{}: told to stop", process.host));
            process.stop();
        }
    }

    fn take_one(&mut self) -> Option<Process> {
        if self.processes.is_empty() {
            return None;
        }
        Some(self.processes.swap_remove(self.random.index(self.processes.len())))
    }

    /// The server crashes, and comes back after recovery.
    fn crash(&mut self) {
        self.trace.say("postgres: crashes");
        self.network.cut(Instant::now() + self.random.millis(100, 20_000));
        self.server.database().crash();
    }

    /// The standby takes over, under the same name.
    fn fail_over(&mut self) {
        seen::note("a standby was promoted");
        self.trace.say("postgres: a standby is promoted");
        self.network.cut(Instant::now() + self.random.millis(100, 10_000));
        self.server.database().promote();
    }

    fn cut(&mut self) {
        self.trace.say("network: all wires are cut");
        self.network.cut(Instant::now() + self.random.millis(0, 3_000));
    }

    /// One daemon becomes a zombie, and another one is started.
    fn freeze(&mut self) {
        let Some(process) = self.processes.first() else { return };
        seen::note("a daemon was frozen");
        let length = self.random.millis(1_000, 60_000);
        self.trace.say(format!("{}: frozen for {length:?}", process.host));
        process.freeze(&self.network, length);
        if self.random.chance(70) {
            self.restart_at = Some(Instant::now() + self.random.millis(0, 10_000));
        }
    }

    /// Somebody starts a second daemon.
    fn second(&mut self) {
        if self.processes.len() < 3 {
            self.start();
        }
    }

    /// Something happens to the source that nobody could go on from without a loss: the daemon has to see it.
    async fn betray(&mut self) -> Result<(), String> {
        self.clear_up();
        // Otherwise there is no lake yet that could be betrayed.
        while self.reader.lock().expect("no panic before").logged == Lsn::ZERO {
            self.wait(Duration::from_secs(2)).await?;
        }
        // Nobody is in the middle of something.
        self.network.cut(Instant::now() + Duration::from_secs(1));
        self.wait(Duration::from_millis(500)).await?;
        let doubts = [
            "no slot",
            "an advanced slot",
            "another cluster",
            "an old backup",
            "a timeline that left before",
        ];
        let doubt = *self.random.pick(&doubts);
        self.trace.say(format!("postgres: {doubt}"));
        self.doubt = Some(doubt);
        {
            let logged = self.reader.lock().expect("no panic before").logged;
            let mut database = self.server.database();
            database.crash();
            match doubt {
                "no slot" => database.slot = None,
                "an advanced slot" => {
                    let at = database.write(1_000);
                    let slot = database.slot.as_mut().expect("a slot");
                    (slot.confirmed, slot.saved) = (Lsn(at.0 + 10), Lsn(at.0 + 10));
                }
                "another cluster" => database.system_id = "7000000000000000002".to_owned(),
                "an old backup" => {
                    database.written = Lsn(logged.0 - 1);
                    database.slot.as_mut().expect("a slot").confirmed = Lsn(0x0100_0000);
                }
                _ => {
                    let left = Lsn(logged.0 - 1);
                    database.promote();
                    // No timeline before goes on for longer.
                    database.history.iter_mut().for_each(|(_, end)| *end = left.min(*end));
                }
            }
        }
        seen::note(doubt);
        self.wait_until(
            |world| if world.has_halted { Ok(()) } else { Err(format!("{doubt}, and no daemon halts")) },
        )
        .await
    }

    fn clear_up(&mut self) {
        self.is_fair = true;
        self.trace.say("everything gets well");
        self.bucket.set_weather(Weather::FAIR);
        self.bucket.set_lapses(0);
        self.network.set_breaks(0);
    }

    /// Everything gets well.
    async fn recover(&mut self) -> Result<(), String> {
        self.clear_up();
        let end = {
            let micros = self.server.unix_micros();
            let mut database = self.server.database();
            while database.sessions() > 0 {
                database.commit(0, micros, &mut self.random);
            }
            // Of no interest to the lake, and yet the slot has to come behind it (T58).
            database.write(10_000);
            database.written
        };
        self.server.tell();
        self.wait_until(|world| {
            let database = world.server.database();
            world.reader.lock().expect("no panic before").is_whole(&database)?;
            match database.slot.as_ref().map(|slot| slot.confirmed) {
                Some(confirmed) if confirmed >= end => Ok(()),
                confirmed => Err(format!("the log is at {end}, and the slot stays at {confirmed:?}")),
            }
        })
        .await?;
        if self.random.chance(20) { self.tidy_up().await } else { Ok(()) }
    }

    /// Whoever opens the lake last leaves no upload behind.
    async fn tidy_up(&mut self) -> Result<(), String> {
        // By then everything has landed that was late.
        self.wait(PATIENCE / 6).await?;
        self.processes.drain(..).for_each(Process::kill);
        let before = self.reader.lock().expect("no panic before").epoch;
        self.wait_until(|world| {
            let epoch = world.reader.lock().expect("no panic before").epoch;
            if epoch > before { Ok(()) } else { Err("nobody opens the lake".to_owned()) }
        })
        .await?;
        self.wait(Duration::from_secs(10)).await?;
        let left = self.bucket.objects.list_uploads("").await.map_err(|error| error.to_string())?;
        match left.first() {
            None => Ok(()),
            Some(upload) => Err(format!("{} uploads are left, of {}", left.len(), upload.key)),
        }
    }

    /// Waits until something holds, which it has to sooner or later.
    async fn wait_until(&mut self, holds: impl Fn(&World) -> Result<(), String>) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match holds(self) {
                Ok(()) => return Ok(()),
                Err(problem) if Instant::now() > deadline => return Err(problem),
                Err(_) => self.wait(Duration::from_secs(2)).await?,
            }
        }
    }
}

/// How often daemons are looked after.
const LOOKS: Duration = Duration::from_millis(500);

/// Requests land late by up to two minutes, and daemons wait for each other.
const PATIENCE: Duration = Duration::from_secs(900);

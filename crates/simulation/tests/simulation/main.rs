//! The daemon between a scripted Postgres and a store that fails: one seed, one run.
//!
//! `make simulate SEEDS=1..5000`, or `SEEDS=123` for one with its trace.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test; the lints spare only its test functions"
)]

mod expected;
mod network;
mod postgres;
mod problems;
mod process;
mod random;
mod reader;
mod seen;
mod store;
mod trace;
mod world;

use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use futures_util::FutureExt as _;

use trace::Trace;

/// A run.
struct Run {
    outcome: Result<String, String>,
    trace: Vec<String>,
    seen: seen::Counts,
}

fn run(seed: u64) -> Run {
    problems::forget();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let (outcome, trace) = runtime.block_on(async {
        let trace = Trace::new();
        let _logs = trace.listen();
        let _guard = guard(seed, trace.clone());
        let life = AssertUnwindSafe(world::run(seed, trace.clone())).catch_unwind();
        let outcome = match tokio::time::timeout(LIFE_MAX, life).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err("a panic; see above".to_owned()),
            Err(_elapsed) => Err(format!("no end within {} s of its own time", LIFE_MAX.as_secs())),
        };
        (outcome, trace)
    });
    drop(runtime);
    tributary::source::simulated::enter(None);
    lake::ambient::simulated::enter(None);
    Run { outcome, trace: trace.take(), seen: seen::take() }
}

/// Ends the process, with the trace, if the run is not over in time: a loop in which its clock stands still cannot be ended from inside.
/// The run is over when what this returns is dropped.
fn guard(seed: u64, trace: Trace) -> mpsc::Sender<()> {
    let (running, over) = mpsc::channel();
    std::thread::spawn(move || {
        if over.recv_timeout(RUN_TIME_MAX) == Err(RecvTimeoutError::Timeout) {
            println!("{}", trace.take().join("\n"));
            println!("seed {seed}: hangs, with no end within {} s", RUN_TIME_MAX.as_secs());
            std::process::exit(101);
        }
    });
    running
}

/// By its own clock a run takes an hour and a half at most.
const LIFE_MAX: Duration = Duration::from_secs(4 * 3_600);

/// By ours it takes less than a second, on a machine that has nothing else to do.
const RUN_TIME_MAX: Duration = Duration::from_secs(60);

/// A task whose panic ends the run.
fn watched(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(async move {
        if AssertUnwindSafe(task).catch_unwind().await.is_err() {
            problems::note("a part of the simulation panicked; see above".to_owned());
        }
    });
}

/// The seeds that are asked for: `1..500`, both ends included, or one.
fn seeds() -> std::ops::RangeInclusive<u64> {
    let asked = std::env::var("TRIBUTARY_SEEDS").ok().filter(|text| !text.is_empty());
    let asked = asked.unwrap_or_else(|| SEEDS.to_owned());
    let number = |text: &str| {
        text.trim().parse::<u64>().unwrap_or_else(|_| panic!("TRIBUTARY_SEEDS is {asked}, not 1..500 or 123"))
    };
    match asked.split_once("..") {
        Some((from, to)) => number(from)..=number(to.trim_start_matches('=')),
        None => number(&asked)..=number(&asked),
    }
}

#[test]
fn every_row_is_in_the_lake_once_whatever_fails() {
    let seeds = seeds();
    let is_one = seeds.start() == seeds.end();
    let next = AtomicU64::new(*seeds.start());
    let failure: Mutex<Option<(u64, Run)>> = Mutex::new(None);
    let all_seen: Mutex<seen::Counts> = Mutex::default();
    // A run is of one thread; there may be several runs.
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from).min(THREADS) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if !seeds.contains(&seed) || failure.lock().unwrap().is_some() {
                        return;
                    }
                    let run = run(seed);
                    for (what, count) in &run.seen {
                        *all_seen.lock().unwrap().entry(*what).or_default() += count;
                    }
                    if is_one || run.outcome.is_err() {
                        failure.lock().unwrap().get_or_insert((seed, run));
                    }
                }
            });
        }
    });
    let Some((seed, Run { outcome, trace, .. })) = failure.into_inner().unwrap() else {
        let seen = all_seen.into_inner().unwrap();
        println!("{seen:#?}");
        if seeds.count() >= SEEDS_THAT_MEET_ALL {
            assert_eq!(seen::missing(&seen), Vec::<&str>::new(), "never happened");
        }
        return;
    };
    println!("{}", trace.join("\n"));
    match outcome {
        Ok(summary) => println!("seed {seed}: {summary}"),
        Err(problem) => panic!("seed {seed}: {problem}\n     again: make simulate SEEDS={seed}"),
    }
}

/// The default.
const SEEDS: &str = "1..500";

/// So many have to meet everything that there is to meet.
const SEEDS_THAT_MEET_ALL: usize = 200;

/// Beside other tests.
const THREADS: usize = 2;

#[test]
fn the_same_seed_makes_the_same_trace() {
    for seed in [3, 4] {
        let (first, second) = (run(seed).trace, run(seed).trace);
        let differs = first.iter().zip(&second).position(|(first, second)| first != second);
        if let Some(at) = differs {
            panic!("seed {seed} differs in line {at}:\n{}\n{}", first[at], second[at]);
        }
        assert_eq!(first.len(), second.len(), "seed {seed}");
    }
}

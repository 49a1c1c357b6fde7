//! Threads for work that blocks.
//!
//! Owns: the threads, and which of them takes what comes next.
//! Does not: bound how many there are; who has work does.
//! Holds: whichever was idle last is the next, so that few of them run, and what an allocator keeps for a thread is used again. One that has
//! nothing to do for [`IDLE_TIME`] ends, which gives that back.
//! Fails: with [`Ended`] if the work panicked, or no thread could begin.

use std::sync::{Mutex, PoisonError, mpsc};
use std::thread::{self, ThreadId};
use std::time::Duration;

use tokio::sync::oneshot;

use super::Ended;

/// Tells the outcome, once the thread can take what follows from it.
type Tell = Box<dyn FnOnce()>;
type Work = Box<dyn FnOnce() -> Tell + Send>;
/// Who waits for work; the last one is the next.
type Idle = Mutex<Vec<(ThreadId, mpsc::Sender<Work>)>>;

static IDLE: Idle = Mutex::new(Vec::new());

/// Runs work on one of the threads.
#[cfg_attr(feature = "simulation", expect(dead_code, reason = "a stopped clock would not wait for it"))]
pub(super) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Ended> {
    run_on(&IDLE, IDLE_TIME, work).await
}

async fn run_on<T: Send + 'static>(
    idle: &'static Idle,
    idle_time: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Ended> {
    let (done, outcome) = oneshot::channel();
    let work: Work = Box::new(move || {
        let outcome = work();
        // Nobody waits any more for what was cancelled.
        Box::new(move || drop(done.send(outcome)))
    });
    let waiting = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let thread = match waiting {
        Some((_, thread)) => thread,
        None => {
            let (give, take) = mpsc::channel();
            let itself = give.clone();
            let serve = move || serve(idle, idle_time, &take, &itself);
            thread::Builder::new().name("blocking".to_owned()).spawn(serve).map_err(|_| Ended)?;
            give
        }
    };
    thread.send(work).map_err(|_| Ended)?;
    outcome.await.map_err(|_| Ended)
}

fn serve(idle: &'static Idle, idle_time: Duration, take: &mpsc::Receiver<Work>, itself: &mpsc::Sender<Work>) {
    let own = thread::current().id();
    let idle = || idle.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        match take.recv_timeout(idle_time) {
            Ok(work) => {
                let tell = work();
                idle().push((own, itself.clone()));
                tell();
            }
            Err(_) => {
                let mut idle = idle();
                // If it does not wait any more, work is on its way to it.
                if let Some(place) = idle.iter().position(|(thread, _)| *thread == own) {
                    idle.remove(place);
                    return;
                }
            }
        }
    }
}

const IDLE_TIME: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn itself() -> ThreadId {
        thread::current().id()
    }

    #[tokio::test]
    async fn one_thread_takes_what_comes_one_after_the_other() {
        static OWN: Idle = Mutex::new(Vec::new());
        let first = run_on(&OWN, IDLE_TIME, itself).await.unwrap();
        for _ in 0..100 {
            assert_eq!(run_on(&OWN, IDLE_TIME, itself).await, Ok(first));
        }
        assert_eq!(OWN.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn work_that_panics_is_told_and_the_next_is_done() {
        static OWN: Idle = Mutex::new(Vec::new());
        let panics: Result<(), Ended> = run_on(&OWN, IDLE_TIME, || panic!("as it should")).await;
        assert_eq!(panics, Err(Ended));
        assert_eq!(run_on(&OWN, IDLE_TIME, || 7).await, Ok(7));
    }

    #[tokio::test]
    async fn threads_without_work_end_and_lose_none() {
        static OWN: Idle = Mutex::new(Vec::new());
        let short = Duration::from_millis(1);
        for round in 0..200_u32 {
            assert_eq!(run_on(&OWN, short, move || round).await, Ok(round));
            if round.is_multiple_of(3) {
                tokio::time::sleep(short).await;
            }
        }
        while !OWN.lock().unwrap().is_empty() {
            tokio::time::sleep(short).await;
        }
    }
}

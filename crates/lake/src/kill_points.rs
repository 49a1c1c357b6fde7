//! Places where a test lets the process die.
//!
//! Owns: the names of these places, and dying there.
//! Does not: exist in a build without the feature `failpoints`, where a place is nothing and a request is only itself.
//! Holds: the process ends as by `kill -9`: nothing is written, closed or told any more. `KILL_POINT=entry-logged:3` in the environment makes
//! the third visit to a place the last; of a request, `log-put-sent:1:5` is 5 ms after the first one began.
//! Fails: by a panic at the first place that is visited, if `KILL_POINT` cannot be read.

/// Every place, in the order in which a daemon comes by. A test of `testkit` finds each in the code and among the end-to-end tests.
pub const KILL_POINTS: [&str; 30] = [
    // The first start of a lake.
    "publication-checked",
    "identity-written",
    "slot-creating",
    "slot-created",
    "log-begun",
    // Every start.
    "slot-taken",
    "open-logged",
    "rolling-forward",
    "rolled-forward",
    // The rows that tables have already.
    "point-found",
    "chunk-reading",
    "chunk-read",
    "snapshot-ended",
    // The stream.
    "mid-transaction",
    "transaction-spooled",
    "replaying",
    // A cut.
    "part-uploading",
    "part-uploaded",
    "parts-uploaded",
    "log-put-sent",
    "entry-logged",
    "idle-logged",
    "file-completing",
    "file-completed",
    "files-published",
    "watermark-written",
    "checkpoint-parts-written",
    "confirmed",
    // The end.
    "draining",
    "drained",
];

#[cfg(not(feature = "failpoints"))]
mod places {
    /// Nothing.
    #[inline(always)]
    pub fn kill_point(_name: &'static str) {}

    /// The request.
    #[inline(always)]
    pub fn within<F: Future>(_name: &'static str, request: F) -> F {
        request
    }
}

// Not by the crate `fail`: what it needs would have most dependencies compiled a second time, with other features than are shipped.
#[cfg(feature = "failpoints")]
mod places {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::KILL_POINTS;

    /// What `KILL_POINT` says.
    struct Death {
        name: String,
        visits: AtomicU64,
        last_visit: u64,
        delay: Duration,
    }

    static DEATH: LazyLock<Option<Death>> = LazyLock::new(|| {
        let text = std::env::var("KILL_POINT").ok()?;
        let death = parse(&text);
        assert!(
            death.is_some(),
            "KILL_POINT is `{text}`, which is not NAME[:VISIT[:MILLISECONDS]] of a kill point"
        );
        death
    });

    /// Dies if this is the place and the visit that `KILL_POINT` names.
    pub fn kill_point(name: &'static str) {
        if is_last_visit(name).is_some() {
            die(name);
        }
    }

    /// Dies while the request is on its way, so that nobody knows its outcome; at the latest when it has one.
    pub async fn within<F: Future>(name: &'static str, request: F) -> F::Output {
        let Some(delay) = is_last_visit(name) else { return request.await };
        tokio::select! {
            biased;
            _ = request => {}
            () = tokio::time::sleep(delay) => {}
        }
        die(name)
    }

    fn is_last_visit(name: &'static str) -> Option<Duration> {
        let death = DEATH.as_ref().filter(|death| death.name == name)?;
        let visit = death.visits.fetch_add(1, Ordering::SeqCst) + 1;
        (visit == death.last_visit).then_some(death.delay)
    }

    fn parse(text: &str) -> Option<Death> {
        let mut parts = text.split(':');
        let name = parts.next().filter(|name| KILL_POINTS.contains(name))?.to_owned();
        let last_visit = parts.next().map_or(Some(1), |visit| visit.parse().ok())?;
        let millis = parts.next().map_or(Some(0), |millis| millis.parse().ok())?;
        let delay = Duration::from_millis(millis);
        parts.next().is_none().then_some(Death { name, visits: AtomicU64::new(0), last_visit, delay })
    }

    /// SIGABRT, which no handler of ours sees, and behind which nothing is done.
    fn die(name: &'static str) -> ! {
        eprintln!("killed at {name}");
        std::process::abort()
    }
}

pub use places::{kill_point, within};

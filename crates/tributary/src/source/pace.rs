//! When the stream is read next.
//!
//! Owns: the pause before a read, and finding out how long it may be.
//! Does not: read, sleep, or know how late the stream is; it is told.
//! Holds: there is a pause only while the stream is late, and none is longer than the longest that there is; one that costs throughput is shortened.
//! Fails: never.
//!
//! The server sends every change as a packet of its own, and one that finds its reader asleep wakes it up, which costs both of them more than the
//! change does. A reader that looks at the stream only now and then finds many changes at once. Measured: `bench/RESULTS.md`.

use std::time::Duration;

use tokio::time::Instant;

/// The pace of one stream.
#[derive(Debug)]
pub(super) struct Pace {
    /// Those that there are, the shortest first.
    pauses: &'static [Duration],
    is_late: bool,
    /// Which of them.
    pause: usize,
    /// Another one that is tried at the moment.
    trial: Option<usize>,
    /// One that was, and the bytes a second with it.
    tried: Option<(usize, f64)>,
    /// Bytes a second with `pause`, when it was looked at last.
    rate: f64,
    epoch: Option<Epoch>,
    /// Epochs until another pause is tried, and how many there were to be: more after every trial in vain, since it costs as well.
    patience: u32,
    patience_whole: u32,
    /// Whether that is a longer one.
    tries_longer: bool,
    resume: Option<Instant>,
}

/// A while in which bytes are counted.
#[derive(Debug)]
struct Epoch {
    since: Instant,
    bytes: usize,
}

impl Pace {
    /// Of a new stream, with the pauses that there are. It begins with the longest.
    pub(super) fn new(pauses: &'static [Duration]) -> Pace {
        Pace {
            pauses,
            is_late: false,
            pause: pauses.len().saturating_sub(1),
            trial: None,
            tried: None,
            rate: 0.0,
            epoch: None,
            patience: PATIENCE_MIN,
            patience_whole: PATIENCE_MIN,
            tries_longer: false,
            resume: None,
        }
    }

    /// When the next read may begin; at once, if that is nothing.
    pub(super) fn resume(&self) -> Option<Instant> {
        self.resume
    }

    /// Whether the server sends what is long past.
    pub(super) fn set_late(&mut self, is_late: bool) {
        self.is_late = is_late && !self.pauses.is_empty();
        if !self.is_late {
            (self.epoch, self.trial, self.tried, self.resume) = (None, None, None, None);
        }
    }

    /// Whether there are pauses at all at the moment.
    pub(super) fn is_late(&self) -> bool {
        self.is_late
    }

    /// There was nothing to read. `false` if there is to be no pause either.
    pub(super) fn rest(&mut self, now: Instant) -> bool {
        let pause = self.pauses.get(self.trial.unwrap_or(self.pause)).copied().unwrap_or_default();
        let rests = self.is_late && !pause.is_zero();
        if rests {
            self.resume = Some(now + pause);
        }
        rests
    }

    /// So many bytes were read.
    pub(super) fn note(&mut self, bytes: usize, now: Instant) {
        self.resume = None;
        if !self.is_late {
            return;
        }
        let epoch = self.epoch.get_or_insert(Epoch { since: now, bytes: 0 });
        epoch.bytes = epoch.bytes.saturating_add(bytes);
        let lasted = now.saturating_duration_since(epoch.since);
        if lasted >= EPOCH {
            #[expect(clippy::cast_precision_loss, reason = "a rate to compare with others")]
            let rate = epoch.bytes as f64 / lasted.as_secs_f64();
            self.epoch = Some(Epoch { since: now, bytes: 0 });
            self.judge(rate);
        }
        if bytes < SHORT_BYTES {
            self.rest(now);
        }
    }

    /// A pause for which the server has to wait makes the stream slower; it is as long as it can be without that.
    ///
    /// Rates of so short a while differ by themselves, so another pause is compared with the usual one before it and after it.
    fn judge(&mut self, rate: f64) {
        if let Some(trial) = self.trial.take() {
            self.tried = Some((trial, rate));
            return;
        }
        let before = std::mem::replace(&mut self.rate, rate);
        match self.tried.take() {
            None => {
                self.patience = self.patience.saturating_sub(1);
                if self.patience == 0 {
                    self.patience = self.patience_whole;
                    let (shorter, longer) = (
                        self.pause.checked_sub(1),
                        Some(self.pause + 1).filter(|at| *at < self.pauses.len()),
                    );
                    self.tries_longer = !self.tries_longer;
                    self.trial = if self.tries_longer { longer.or(shorter) } else { shorter.or(longer) };
                }
            }
            Some((shorter, tried)) if shorter < self.pause => {
                let is_better = tried > before.max(rate) * FASTER;
                self.settle(shorter, tried, is_better);
                if is_better {
                    self.trial = shorter.checked_sub(1);
                }
            }
            Some((longer, tried)) => self.settle(longer, tried, tried * SLOWER > before.min(rate)),
        }
    }

    /// Ends a trial.
    fn settle(&mut self, pause: usize, rate: f64, is_better: bool) {
        if is_better {
            (self.pause, self.rate) = (pause, rate);
            self.patience_whole = PATIENCE_MIN;
        } else {
            self.patience_whole = (self.patience_whole * 2).min(PATIENCE_MAX);
        }
        self.patience = self.patience_whole;
    }
}

/// The pauses over TCP. The longest is what a change waits at most for being read, once the stream is late anyway.
pub(super) const PAUSES: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(20),
];

/// And over a Unix socket. Linux lets 208 KB be sent that nobody has read, of which it counts a kilobyte and more for each row, so that it is full within a
/// millisecond.
pub(super) const UNIX_PAUSES: [Duration; 4] =
    [Duration::ZERO, Duration::from_micros(100), Duration::from_micros(200), Duration::from_micros(400)];

/// Whoever gets less than this has read everything that there was.
const SHORT_BYTES: usize = 8 << 10;

/// How long a pause is looked at.
const EPOCH: Duration = Duration::from_millis(200);

/// Epochs between two trials.
const PATIENCE_MIN: u32 = 3;
const PATIENCE_MAX: u32 = 24;

/// A shorter pause is better if the stream is so many times as fast with it.
const FASTER: f64 = 1.1;
/// A longer one is worse if the stream is so many times as fast without it.
const SLOWER: f64 = 1.05;

#[cfg(test)]
mod tests;

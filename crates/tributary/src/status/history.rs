//! How things were during the last minutes, for the curves of the page.
//!
//! Owns: a sample every two seconds.
//! Does not: look; the HTTP server asks for a sample, so that a daemon without one keeps none.
//! Holds: ten minutes and no more.
//! Fails: never.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pgoutput::Lsn;

/// How things were at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// When.
    pub at: Instant,
    /// How far the stream was.
    pub received: Lsn,
    /// Rows published since the lake began.
    pub rows: u64,
    /// Age of the oldest row that was not published; `None` while no stream ran.
    pub lag_seconds: Option<f64>,
}

/// The last samples.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<Sample>);

impl History {
    pub(super) fn note(&mut self, sample: Sample) {
        self.0.push_back(sample);
        while self.0.front().is_some_and(|first| sample.at.duration_since(first.at) > KEPT) {
            self.0.pop_front();
        }
    }

    pub(super) fn samples(&self) -> Vec<Sample> {
        self.0.iter().copied().collect()
    }
}

impl Sample {
    /// How often one is taken.
    pub const EVERY: Duration = Duration::from_secs(2);
}

/// For how long they are kept.
const KEPT: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_minutes_are_kept() {
        let mut history = History::default();
        let begin = Instant::now();
        for second in (0..2_000).step_by(2) {
            let at = begin + Duration::from_secs(second);
            history.note(Sample { at, received: Lsn(second), rows: second, lag_seconds: None });
        }
        let samples = history.samples();
        assert_eq!(samples.len(), 301);
        assert_eq!(samples.first().map(|sample| sample.rows), Some(1_398));
        assert_eq!(samples.last().map(|sample| sample.rows), Some(1_998));
    }
}

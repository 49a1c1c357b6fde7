//! How long the parts of writing a file take.
//!
//! Owns: [`Steps`], which tells somebody.
//! Does not: know who listens.
//! Holds: it is told of batches and parts, never of rows.
//! Fails: never.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A part of writing a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A batch is encoded, or the end of a file.
    Encode,
    /// A part goes to the store, from when it is there to send until it is durable.
    Upload,
}

/// Tells how long each step took; by default nobody.
#[derive(Clone, Default)]
pub struct Steps(Option<Arc<dyn Fn(Step, Duration) + Send + Sync>>);

impl Steps {
    /// Tells somebody.
    pub fn new(told: impl Fn(Step, Duration) + Send + Sync + 'static) -> Steps {
        Steps(Some(Arc::new(told)))
    }

    pub(super) fn tell(&self, step: Step, took: Duration) {
        if let Some(told) = &self.0 {
            told(step, took);
        }
    }
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Steps")
    }
}

//! A wall clock that jumps, of a process that is started with it.
//!
//! Owns: the file that libfaketime reads the clock's offset from.
//! Does not: touch the machine's clock, or a process's monotonic one.
//! Holds: a jump is seen at once by every process that was started with this clock. A program that works in signal handlers, as Postgres does, may hang with
//! it.
//! Fails: if the library is not installed.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::stage::Stage;

/// A clock of its own.
#[derive(Debug)]
pub struct Clock {
    offset: PathBuf,
    library: PathBuf,
}

impl Clock {
    /// One that is right so far; none without libfaketime.
    pub fn new(stage: &Stage, name: &str) -> Result<Option<Clock>> {
        let Some(library) = library() else { return Ok(None) };
        let clock = Clock { offset: stage.path(name), library };
        clock.jump(0)?;
        Ok(Some(clock))
    }

    /// From now on it is so many seconds before (or behind) the right time.
    pub fn jump(&self, seconds: i64) -> Result<()> {
        fs::write(&self.offset, format!("{seconds:+}\n")).context("the clock's offset")
    }

    /// What a process needs to go by it.
    pub fn env(&self) -> Vec<(String, String)> {
        let text = |path: &PathBuf| path.display().to_string();
        [
            ("LD_PRELOAD", text(&self.library)),
            ("FAKETIME_TIMESTAMP_FILE", text(&self.offset)),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }
}

/// Debian puts it into a folder that is named for the machine.
fn library() -> Option<PathBuf> {
    let machines = fs::read_dir("/usr/lib").ok()?;
    let paths = machines.flatten().map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    paths.into_iter().find(|path| path.is_file())
}

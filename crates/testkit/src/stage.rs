//! What surrounds one test.
//!
//! Owns: the test's folder, its time limit, and the runtime that it runs on.
//! Does not: start servers.
//! Holds: the folder goes when the test succeeds, and stays, with its path printed, when it does not.
//! Fails: when the test fails or takes too long.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

/// One test's folder.
#[derive(Debug)]
pub struct Stage {
    folder: tempfile::TempDir,
    begun: Instant,
}

/// Runs a test on a runtime of its own. Everything runs on the calling thread, which also is the parent of all processes:
/// they are told to die with the thread that started them.
pub fn scenario(limit: Duration, test: impl AsyncFnOnce(&Stage) -> Result<()>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut stage = Stage::new()?;
    let outcome = runtime.block_on(async { tokio::time::timeout(limit, Box::pin(test(&stage))).await });
    let outcome =
        outcome.unwrap_or_else(|_| Err(anyhow!("the test takes longer than {} s", limit.as_secs())));
    if outcome.is_err() || std::env::var_os("TRIBUTARY_KEEP").is_some() {
        stage.folder.disable_cleanup(true);
        eprintln!("the test's files are kept in {}", stage.folder().display());
    }
    outcome
}

impl Stage {
    fn new() -> Result<Stage> {
        let folder =
            tempfile::Builder::new().prefix("tributary-e2e-").tempdir().context("the test's folder")?;
        // Root's servers run as another user and have to get in.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        Ok(Stage { folder, begun: Instant::now() })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A line of the test's own log.
    pub fn say(&self, what: impl std::fmt::Display) {
        eprintln!("[{:6.1} s] {what}", self.begun.elapsed().as_secs_f64());
    }
}

//! The demo's directory and processes, and their orderly end.
//!
//! Owns: what was made and started, and the watcher that hears of it first.
//! Does not: decide when; `demo` does.
//! Holds: a process is known here before anything waits for it, so that an interruption finds it.
//! Fails: [`Error`] when the directory is in use or cannot be made.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use super::children::{Signal, Watcher};
use super::cluster::{Cluster, Installation, unwritable};
use super::daemon::Daemon;
use crate::error::{Error, Result};

/// What there is of the demo.
pub(super) struct Stage {
    home: PathBuf,
    /// Whether the directory itself is ours to remove, or only what is in it.
    made_home: bool,
    /// The cluster's directory, when the server's user cannot reach `home`.
    elsewhere: Option<PathBuf>,
    watcher: Watcher,
    cluster: Option<Cluster>,
    daemon: Option<Daemon>,
}

impl Stage {
    /// Makes the directory.
    pub(super) async fn open(directory: Option<&Path>) -> Result<Stage> {
        let (path, must_make) = match directory {
            Some(path) => (path.to_path_buf(), false),
            None => (unique(&std::env::temp_dir())?, true),
        };
        let made_home = must_make || !path.exists();
        if made_home {
            let parents = !must_make;
            DirBuilder::new()
                .recursive(parents)
                .mode(0o711)
                .create(&path)
                .map_err(|error| unwritable(&path, error))?;
        } else if fs::read_dir(&path).map_err(|error| unwritable(&path, error))?.next().is_some() {
            return Err(Error::config(format!("{} is not empty", path.display()))
                .hint("give the demo a directory that does not exist yet"));
        }
        let home = fs::canonicalize(&path).map_err(|error| unwritable(&path, error))?;
        if made_home {
            // Whatever the umask: the server may run as another user. Secrets are in files of their own modes.
            let mode = fs::Permissions::from_mode(0o711);
            fs::set_permissions(&home, mode).map_err(|error| unwritable(&home, error))?;
        }
        let mut watcher = Watcher::start()?;
        if made_home {
            watcher.remove(&home).await?;
        }
        Ok(Stage { home, made_home, elsewhere: None, watcher, cluster: None, daemon: None })
    }

    /// The demo's directory.
    pub(super) fn home(&self) -> &Path {
        &self.home
    }

    /// Where the lake is.
    pub(super) fn lake(&self) -> PathBuf {
        self.home.join("lake")
    }

    /// The cluster, once started.
    pub(super) fn cluster(&self) -> Result<&Cluster> {
        self.cluster.as_ref().ok_or_else(|| Error::bug("the cluster is not there yet"))
    }

    /// The daemon, once configured.
    pub(super) fn daemon(&mut self) -> Result<&mut Daemon> {
        self.daemon.as_mut().ok_or_else(|| Error::bug("the daemon is not there yet"))
    }

    /// Makes and starts the cluster.
    pub(super) async fn start_cluster(&mut self, installation: Installation) -> Result<()> {
        let mut directory = self.home.join("postgres");
        if !everybody_reaches(&self.home) && fs::metadata(&self.home).is_ok_and(|facts| facts.uid() == 0) {
            directory = unique(Path::new("/tmp"))?;
            self.watcher.remove(&directory).await?;
            self.elsewhere = Some(directory.clone());
        }
        let cluster = Cluster::prepare(installation, &directory, &self.home.join("password")).await?;
        let cluster = self.cluster.insert(cluster);
        cluster.start().await?;
        match cluster.child() {
            Some(child) => self.watcher.guard(child, Signal::Quit).await,
            None => Ok(()),
        }
    }

    /// Takes the configured daemon.
    pub(super) fn set_daemon(&mut self, daemon: Daemon) {
        self.daemon = Some(daemon);
    }

    /// Starts the daemon; its process's number.
    pub(super) async fn spawn_daemon(&mut self) -> Result<u32> {
        let daemon = self.daemon.as_mut().ok_or_else(|| Error::bug("the daemon is not there yet"))?;
        daemon.start()?;
        if let Some(child) = daemon.child() {
            self.watcher.guard(child, Signal::Kill).await?;
        }
        Ok(daemon.pid().unwrap_or(0))
    }

    /// Starts the daemon and waits until it streams.
    pub(super) async fn start_daemon(&mut self) -> Result<()> {
        self.spawn_daemon().await?;
        self.daemon()?.wait_until_streaming().await
    }

    /// `kill -9`; the number that its process had.
    pub(super) async fn kill_daemon(&mut self) -> Result<u32> {
        let daemon = self.daemon()?;
        let pid = daemon.pid().unwrap_or(0);
        daemon.kill().await?;
        self.watcher.forget(pid).await?;
        Ok(pid)
    }

    /// SIGTERM, and how it ended.
    pub(super) async fn stop_daemon(&mut self) -> Result<ExitStatus> {
        let daemon = self.daemon()?;
        let pid = daemon.pid().unwrap_or(0);
        let status = daemon.terminate().await?;
        self.watcher.forget(pid).await?;
        Ok(status)
    }

    /// Where everything is that stays running, and how to stop it; also leaves a script that does.
    pub(super) fn left_running(&self) -> Result<String> {
        let (Some(cluster), Some(daemon)) = (&self.cluster, &self.daemon) else {
            return Err(Error::bug("nothing is running"));
        };
        let script = self.home.join("stop.sh");
        let text =
            stop_script(&self.home, &cluster.data(), self.elsewhere.as_deref(), daemon.pid().unwrap_or(0));
        fs::write(&script, text).map_err(|error| unwritable(&script, error))?;
        Ok(format!(
            "Everything stays running:\n  \
             lake       {}\n  config     {}\n  daemon     {}  (log {})\n  \
             Postgres   PGPASSWORD=$(cat {}) psql -h 127.0.0.1 -p {} -U postgres shop  (log {})\n\
             Write to its tables and watch the lake follow. To stop it and remove its files:\n  sh {}",
            self.lake().display(),
            daemon.config.display(),
            daemon.status_url(),
            daemon.log.display(),
            quoted(&cluster.password_file),
            cluster.port,
            cluster.log().display(),
            quoted(&script),
        ))
    }

    /// Lets everything be.
    pub(super) async fn leave(&mut self) {
        self.watcher.dismiss().await;
    }

    /// Ends all processes; removes all files, or only the cluster's.
    pub(super) async fn clear(&mut self, all: bool) {
        if let Some(daemon) = &mut self.daemon {
            let _ = daemon.kill().await;
        }
        if let Some(cluster) = &mut self.cluster {
            cluster.stop().await;
            if !all {
                // What is worth a look is small: the log, not the data.
                let _ = fs::copy(cluster.log(), self.home.join("postgres.log"));
            }
        }
        for directory in [Some(self.home.join("postgres")), self.elsewhere.clone()].into_iter().flatten() {
            let _ = fs::remove_dir_all(directory);
        }
        if all {
            self.remove_home();
        }
        self.watcher.dismiss().await;
    }

    fn remove_home(&self) {
        if self.made_home {
            let _ = fs::remove_dir_all(&self.home);
            return;
        }
        for entry in fs::read_dir(&self.home).into_iter().flatten().flatten() {
            let path = entry.path();
            let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        }
    }
}

/// A name that is not taken.
fn unique(parent: &Path) -> Result<PathBuf> {
    let mut bytes = [0_u8; 4];
    getrandom::fill(&mut bytes).map_err(|_| Error::definite("the system gives no random numbers"))?;
    Ok(parent.join(format!("tributary-demo-{:08x}", u32::from_ne_bytes(bytes))))
}

/// Whether any user may pass through a directory and all above it.
fn everybody_reaches(directory: &Path) -> bool {
    directory.ancestors().all(|folder| fs::metadata(folder).is_ok_and(|facts| facts.mode() & 0o001 != 0))
}

/// A path as a word of the shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    if text.chars().all(|letter| letter.is_ascii_alphanumeric() || "/._-".contains(letter)) {
        return text;
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn stop_script(home: &Path, data: &Path, elsewhere: Option<&Path>, daemon: u32) -> String {
    let removed: Vec<String> = [Some(home), elsewhere].into_iter().flatten().map(quoted).collect();
    format!(
        "#!/bin/sh\n\
         # Stops what `tributary demo --keep` left running, and removes its files.\n\
         ended() {{ for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do kill -0 \"$1\" 2>/dev/null || return 0; sleep 1; done; return 1; }}\n\
         kill -s TERM {daemon} 2>/dev/null\n\
         ended {daemon} || kill -s KILL {daemon}\n\
         server=$(head -n 1 {postmaster} 2>/dev/null) && [ -n \"$server\" ] && {{\n  \
         kill -s INT \"$server\"\n  \
         ended \"$server\" || kill -s QUIT \"$server\"\n\
         }}\n\
         rm -rf -- {removed}\n",
        postmaster = quoted(&data.join("postmaster.pid")),
        removed = removed.join(" "),
    )
}

#[cfg(test)]
mod tests;

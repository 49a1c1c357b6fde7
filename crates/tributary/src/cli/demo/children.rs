//! Child processes that never outlive the demo.
//!
//! Owns: how children are started, signalled and waited for, and the watcher that ends them if the demo itself is killed.
//! Does not: know what the children do.
//! Holds: every child leads a process group of its own, so that Ctrl-C reaches only the demo, which then stops them in order.
//! Fails: [`Error`] naming the program.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

use crate::error::{Error, Result};

/// A command in a group of its own, without the settings of the caller's environment that would change what it does.
pub(super) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("PG") || name_text.starts_with("TRIBUTARY_") {
            command.env_remove(&name);
        }
    }
    command.process_group(0).stdin(Stdio::null());
    command
}

/// Sends both outputs of a command to the end of a file.
pub(super) fn log_to(command: &mut Command, log: &Path) -> Result<()> {
    let open = || {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .map_err(|error| Error::definite(format!("cannot write {}", log.display())).caused_by(error))
    };
    command.stdout(open()?).stderr(open()?);
    Ok(())
}

/// Starts a command.
pub(super) fn spawn(command: &mut Command) -> Result<Child> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    command.spawn().map_err(|error| Error::definite(format!("cannot start {program}")).caused_by(error))
}

/// Runs a command to its end; its output is in the error if it fails.
pub(super) async fn run(command: &mut Command) -> Result<String> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let output = command
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| Error::definite(format!("cannot start {program}")).caused_by(error))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let complaint = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    Err(Error::definite(format!("{program} ended with {}:\n{}", output.status, complaint.trim_end())))
}

/// A signal to send, by its POSIX name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Interrupt,
    Kill,
    Quit,
    Terminate,
}

impl Signal {
    pub(super) fn name(self) -> &'static str {
        match self {
            Signal::Interrupt => "INT",
            Signal::Kill => "KILL",
            Signal::Quit => "QUIT",
            Signal::Terminate => "TERM",
        }
    }
}

/// Sends a signal to a child's process, or with [`Signal::Kill`] to its whole group. A child that is gone is no failure.
///
/// The shell's own `kill` does it: sending signals needs either it or code that is not memory-safe.
pub(super) async fn signal(child: &Child, signal: Signal) -> Result<()> {
    let Some(pid) = child.id() else { return Ok(()) };
    let target = if signal == Signal::Kill { format!("-{pid}") } else { pid.to_string() };
    let mut kill = command("sh");
    kill.args(["-c", "kill -s \"$1\" -- \"$2\" 2>/dev/null; :", "kill", signal.name(), &target]);
    run(&mut kill).await.map(drop)
}

/// Waits for a child's end, for a bounded time.
pub(super) async fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    timeout(limit, child.wait()).await.ok()?.ok()
}

/// The last lines of a log, for a failure's message.
pub(super) fn tail(log: &Path, lines: usize) -> String {
    let mut text = Vec::new();
    if let Ok(mut file) = File::open(log) {
        let length = file.metadata().map_or(0, |facts| facts.len());
        let _ = file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)));
        let _ = file.read_to_end(&mut text);
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}

/// Ends the children, and removes the files, of a demo that was itself killed.
///
/// It is a shell that reads what to do and waits for the end of its input, which comes however the demo ends.
pub(super) struct Watcher {
    shell: Child,
    orders: ChildStdin,
}

impl Watcher {
    /// Starts it.
    pub(super) fn start() -> Result<Watcher> {
        let mut sh = command("sh");
        sh.args(["-c", WATCHER]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut shell = spawn(sh.current_dir("/"))?;
        let orders = shell.stdin.take().ok_or_else(|| Error::bug("a piped child has no input"))?;
        Ok(Watcher { shell, orders })
    }

    /// This child is to be ended with this signal.
    pub(super) async fn guard(&mut self, child: &Child, signal: Signal) -> Result<()> {
        match child.id() {
            Some(pid) => self.order(&format!("guard {} {pid}\n", signal.name())).await,
            None => Ok(()),
        }
    }

    /// This child has ended; its number may come to mean another.
    pub(super) async fn forget(&mut self, pid: u32) -> Result<()> {
        self.order(&format!("forget {pid}\n")).await
    }

    /// This directory is to be removed.
    pub(super) async fn remove(&mut self, directory: &Path) -> Result<()> {
        self.order(&format!("remove {}\n", directory.display())).await
    }

    /// Everything is in order: it ends without doing anything.
    pub(super) async fn dismiss(&mut self) {
        let _ = self.order("done\n").await;
        let _ = wait(&mut self.shell, Duration::from_secs(5)).await;
    }

    async fn order(&mut self, order: &str) -> Result<()> {
        let failed = |error| Error::definite("the watcher of the demo's processes is gone").caused_by(error);
        self.orders.write_all(order.as_bytes()).await.map_err(failed)?;
        self.orders.flush().await.map_err(failed)
    }
}

/// How much of a log's end is worth reading for [`tail`].
const TAIL_BYTES: u64 = 64 * 1024;

/// `guard SIGNAL PID`, `forget PID`, `remove DIRECTORY`, `done`; at the end of input it acts.
const WATCHER: &str = r#"
trap '' HUP INT TERM
guarded= ; removed=
while read -r word rest; do
  case $word in
    guard) guarded="$guarded ${rest#* }:${rest% *}" ;;
    forget) kept= ; for one in $guarded; do [ "${one%:*}" = "$rest" ] || kept="$kept $one"; done; guarded=$kept ;;
    remove) removed="$removed$rest
" ;;
    done) exit 0 ;;
  esac
done
for one in $guarded; do kill -s "${one#*:}" -- "${one%:*}"; done
sleep 2
for one in $guarded; do kill -s KILL -- "-${one%:*}"; done
# A program that nobody guards (initdb) may still write; it ends when its directory is gone.
for pause in 0 1 1 2 4; do
  sleep $pause
  printf '%s' "$removed" | while read -r directory; do rm -rf -- "$directory"; done
done
"#;

//! Where things are on this machine.
//!
//! Owns: the paths of the cache that `scripts/test-servers.sh` fills, of the repository, and of the daemon under test.
//! Does not: install anything.
//! Holds: the cache's default is the one of `scripts/lib.sh`.
//! Fails: with the command that mends it.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// The repository.
pub fn repository() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).map(Path::to_path_buf).context("the crate lies in crates/testkit")
}

/// The daemon under test: the program that `TRIBUTARY_BIN` names.
pub fn tributary() -> Result<PathBuf> {
    program_of("TRIBUTARY_BIN")
}

/// The same built with the feature `failpoints`: the program that `TRIBUTARY_FAILPOINTS_BIN` names.
pub fn tributary_with_kill_points() -> Result<PathBuf> {
    program_of("TRIBUTARY_FAILPOINTS_BIN")
}

fn program_of(variable: &str) -> Result<PathBuf> {
    let path = env::var_os(variable)
        .with_context(|| format!("{variable} names no program: run `make test` or `make e2e`"))?;
    let path = PathBuf::from(path);
    ensure!(path.is_file(), "{variable} is {}, and there is no such file", path.display());
    Ok(path)
}

/// The prefix of a Postgres version: it has `bin/postgres`.
pub fn postgres(version: u32) -> Result<PathBuf> {
    let prefix = cache()?.join(format!("pg/{version}"));
    let program = prefix.join("bin/postgres");
    ensure!(program.is_file(), "no Postgres {version} here: run scripts/test-servers.sh postgres {version}");
    Ok(prefix)
}

/// A freshly made cluster of a version, to be copied.
pub fn template(version: u32) -> Result<PathBuf> {
    installed(cache()?.join(format!("template/{version}/data")))
}

/// A program of the Python environment.
pub fn python(program: &str) -> Result<PathBuf> {
    installed(cache()?.join("python/bin").join(program))
}

/// Python with PySpark and PyIceberg.
pub fn python_of_engines() -> Result<PathBuf> {
    let path = cache()?.join("python-lakes/bin/python");
    ensure!(path.exists(), "{} is missing: run scripts/test-servers.sh engines", path.display());
    Ok(path)
}

/// The program of s3rver.
pub fn s3rver() -> Result<PathBuf> {
    installed(cache()?.join("s3rver/node_modules/s3rver/bin/s3rver.js"))
}

/// A program of the Python environment for `deploy/`: kubectl, kubernetes-validate.
pub fn deploy(program: &str) -> Result<PathBuf> {
    installed(cache()?.join("python-deploy/bin").join(program))
}

/// Whether there is a small system to boot ([`crate::Machine`]).
pub fn has_machine() -> Result<bool> {
    Ok(is_root() && cache()?.join("machine.complete").is_file())
}

/// A program of Prometheus's package.
pub fn prometheus(program: &str) -> Result<PathBuf> {
    installed(cache()?.join("prometheus/usr/bin").join(program))
}

/// Whether that package could be had.
pub fn has_prometheus() -> Result<bool> {
    Ok(cache()?.join("prometheus/usr/bin/promtool").is_file())
}

/// Chromium, if it could be had.
pub fn chromium() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join("chromium")).find(|program| program.is_file())
}

/// Whether Ceph's packages could be had.
pub fn has_radosgw() -> Result<bool> {
    Ok(cache()?.join("ceph/.complete").is_file())
}

fn installed(path: PathBuf) -> Result<PathBuf> {
    ensure!(path.exists(), "{} is missing: run scripts/test-servers.sh", path.display());
    Ok(path)
}

/// The cache folder.
pub fn cache() -> Result<PathBuf> {
    if let Some(path) = env::var_os("TRIBUTARY_CACHE") {
        return Ok(PathBuf::from(path));
    }
    let home = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
        .context("neither TRIBUTARY_CACHE nor HOME is set")?
        .join("tributary");
    Ok(if is_root() && !home.exists() { PathBuf::from("/var/cache/tributary") } else { home })
}

/// Whether we are root, and servers therefore run as another user.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

//! The Debian package, from what `cargo deb` would be told.
//!
//! Owns: putting together the files that `[package.metadata.deb]` names, with the pages and completions that `make deb` has the program write.
//! Does not: find out which libraries the program needs (`$auto`).
//! Holds: every file that is named exists.
//! Fails: with the file that is missing, or what dpkg-deb said.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use testkit::wait::seconds;
use testkit::{Stage, place, process, scenario};
use toml::{Table, Value};

/// Builds it with the daemon under test.
pub(super) async fn build(stage: &Stage) -> Result<PathBuf> {
    let here = place::repository()?.join("crates/tributary");
    let manifest: Table = toml::from_str(&fs::read_to_string(here.join("Cargo.toml"))?)?;
    let told = manifest.get("package").and_then(|package| package.get("metadata")?.get("deb"));
    let told = told.and_then(Value::as_table).context("no [package.metadata.deb]")?;
    let root = stage.path("deb");
    let written = write(stage).await?;
    for asset in told.get("assets").and_then(Value::as_array).context("no assets")? {
        let asset: Vec<&str> = asset.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let [from, to, mode] = asset[..] else { anyhow::bail!("an asset is not of three texts: {asset:?}") };
        let is_program = from == "target/release/tributary";
        let sources = match from.strip_prefix(WRITTEN) {
            Some(name) => matching(&written.join(name))?,
            None if is_program => vec![place::tributary()?],
            None => vec![here.join(from)],
        };
        ensure!(!sources.is_empty(), "there is no {from}");
        for source in sources {
            let name = source.file_name().context("a file has a name")?;
            let name = if is_program { Path::new("tributary") } else { Path::new(name) };
            let target = if to.ends_with('/') { root.join(to).join(name) } else { root.join(to) };
            let mut install = Command::new("install");
            install.args(["-D", "-m", mode]).args(is_program.then_some("-s")).arg(&source).arg(target);
            process::run("install", install, stage.folder(), seconds(60))
                .await?
                .success()
                .context(from.to_owned())?;
        }
    }
    let control = root.join("DEBIAN");
    fs::create_dir_all(&control)?;
    let scripts = told.get("maintainer-scripts").and_then(Value::as_str).context("no maintainer-scripts")?;
    for script in fs::read_dir(here.join(scripts))? {
        let script = script?.path();
        let target = control.join(script.file_name().context("a file has a name")?);
        fs::copy(&script, &target)?;
        fs::set_permissions(&target, fs::Permissions::from_mode(0o755))?;
    }
    fs::write(control.join("control"), fields(told)?)?;
    let package = stage.path("tributary.deb");
    let mut dpkg = Command::new("dpkg-deb");
    dpkg.args(["--build", "--root-owner-group", "-Znone"]).arg(&root).arg(&package);
    process::run("dpkg-deb", dpkg, stage.folder(), seconds(60)).await?.success()?;
    Ok(package)
}

/// What `make deb` has the program write.
async fn write(stage: &Stage) -> Result<PathBuf> {
    let folder = stage.path("package");
    let says = async |arguments: &[&str]| {
        let mut tributary = Command::new(place::tributary()?);
        tributary.args(arguments);
        Ok::<_, anyhow::Error>(
            process::run("tributary", tributary, stage.folder(), seconds(30)).await?.success()?.stdout,
        )
    };
    says(&["man", &folder.join("man").display().to_string()]).await?;
    for shell in ["bash", "zsh", "fish"] {
        fs::write(folder.join(format!("tributary.{shell}")), says(&["completions", shell]).await?)?;
    }
    Ok(folder)
}

/// A file, or all of a folder that end like `*.1`.
fn matching(path: &Path) -> Result<Vec<PathBuf>> {
    let name = path.file_name().and_then(|name| name.to_str()).context("a name")?;
    let Some(end) = name.strip_prefix('*') else { return Ok(vec![path.to_owned()]) };
    let files = fs::read_dir(path.parent().context("a folder")?)?;
    let files = files.map(|file| Ok(file?.path())).collect::<Result<Vec<PathBuf>>>()?;
    Ok(files.into_iter().filter(|file| file.to_string_lossy().ends_with(end)).collect())
}

#[test]
fn the_package_has_pages_and_completions_where_they_are_looked_for() -> Result<()> {
    if Command::new("dpkg-deb").arg("--version").output().is_err() {
        eprintln!("SKIP: there is no dpkg-deb, so no package is put together");
        return Ok(());
    }
    scenario(seconds(120), async |stage| {
        let mut contents = Command::new("dpkg-deb");
        contents.arg("--contents").arg(build(stage).await?);
        let listed = process::run("contents", contents, stage.folder(), seconds(60)).await?.success()?.stdout;
        for path in [
            "/usr/bin/tributary",
            "/usr/share/man/man1/tributary.1",
            "/usr/share/man/man1/tributary-inspect-log.1",
            "/usr/share/bash-completion/completions/tributary",
            "/usr/share/zsh/vendor-completions/_tributary",
            "/usr/share/fish/vendor_completions.d/tributary.fish",
        ] {
            ensure!(listed.lines().any(|line| line.ends_with(&format!(".{path}"))), "no {path}: {listed}");
        }
        // And `make deb` writes what the package names.
        let makefile = fs::read_to_string(place::repository()?.join("Makefile"))?;
        for words in ["man target/package/man", "> target/package/tributary.$$shell", "bash zsh fish"] {
            ensure!(makefile.contains(words), "`make deb` has no {words:?}");
        }
        Ok(())
    })
}

fn fields(told: &Table) -> Result<String> {
    let text = |key: &str| told.get(key).and_then(Value::as_str).with_context(|| format!("no {key}"));
    let architecture = Command::new("dpkg").arg("--print-architecture").output()?.stdout;
    let depends = text("depends")?.replace("$auto, ", "");
    let mut fields = String::from("Package: tributary\nVersion: 0.0.0\n");
    write!(fields, "Architecture: {}", String::from_utf8(architecture)?)?;
    writeln!(
        fields,
        "Maintainer: {}\nDepends: {depends}\nSection: {}",
        text("maintainer")?,
        text("section")?
    )?;
    write!(fields, "Description: Tributary")?;
    for line in text("extended-description")?.lines() {
        write!(fields, "\n {line}")?;
    }
    ensure!(!fields.contains("\n\n"), "an empty line ends the fields: {fields}");
    Ok(fields + "\n")
}

const WRITTEN: &str = "../../target/package/";
